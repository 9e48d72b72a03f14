"""LangChain's adapter for MCP: the server's tools, each called with null for every optional argument."""

import asyncio
import json
import sys

from langchain_mcp_adapters.client import MultiServerMCPClient


async def main() -> None:
    client = MultiServerMCPClient({"fewstep": {"url": f"{sys.argv[1]}/mcp", "transport": "streamable_http"}})
    tools = {tool.name: tool for tool in await client.get_tools()}
    draw = tools["draw_image"]
    nulls = dict.fromkeys(draw.args_schema["properties"], None)
    answer = await draw.ainvoke({**nulls, "prompt": "a red apple"})
    kinds = [part["type"] for part in answer]
    assert "image" in kinds
    print(json.dumps({"sent": f"draw_image with {len(nulls) - 1} nulls", "got": f"tools {sorted(tools)}, {kinds}"}))


asyncio.run(main())
