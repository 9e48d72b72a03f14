"""Serving: requests of many clients that share one network, by HTTP, a live wire, MCP and the studio."""
