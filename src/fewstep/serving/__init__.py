"""Serving: many clients share one network, over HTTP, the live wire, MCP and the studio."""
