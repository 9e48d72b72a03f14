"""`fewstep tool-schema`."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import tyro


def tool_schema(dialect: Annotated[Literal["openai", "anthropic"], tyro.conf.arg(name="for")] = "openai") -> int:
    """Print the drawing tool's declaration, for agents that call language models without MCP.

    Args:
        dialect: openai for Chat Completions and what follows it, anthropic for Messages.
    """
    try:
        from fewstep.serving.mcp import tools
    except ImportError as error:
        raise ImportError(f"this needs the package '{error.name}': pip install 'fewstep[serve]'") from error

    print(json.dumps(tools.tool_schema(dialect), indent=2))
    return 0
