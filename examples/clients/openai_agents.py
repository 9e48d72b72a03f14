"""openai-agents: the server's MCP tools with strict schemas, for which models write null for what is optional."""

import asyncio
import json
import sys

from agents import RunContextWrapper
from agents.mcp import MCPServerStreamableHttp, MCPUtil
from agents.tool_context import ToolContext


async def main() -> None:
    async with MCPServerStreamableHttp(params={"url": f"{sys.argv[1]}/mcp"}, name="fewstep") as server:
        tools = {
            tool.name: MCPUtil.to_function_tool(tool, server, convert_schemas_to_strict=True)
            for tool in await server.list_tools()
        }
        draw = tools["draw_image"]
        assert draw.strict_json_schema
        asked = json.dumps(dict.fromkeys(draw.params_json_schema["properties"]) | {"prompt": "a red apple"})
        context = RunContextWrapper(None)
        called = ToolContext(context.context, tool_name=draw.name, tool_call_id="1", tool_arguments=asked)
        answer = await draw.on_invoke_tool(called, asked)
        assert "image" in json.dumps(answer, default=str)
        print(
            json.dumps(
                {
                    "sent": f"draw_image by its strict schema, {asked.count('null')} nulls",
                    "got": f"tools {sorted(tools)}, {type(answer).__name__} of {len(answer)}",
                }
            )
        )


asyncio.run(main())
