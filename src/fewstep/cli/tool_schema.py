"""`fewstep tool-schema`."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import tyro


def tool_schema(dialect: Annotated[Literal["openai", "anthropic"], tyro.conf.arg(name="for")] = "openai") -> int:
    """Print the schema of the drawing tool, for agents that call language models without MCP.

    Its limits are those of `fewstep serve`, read from the environment variables FEWSTEP_SERVE_….

    Args:
        dialect: The API: openai for Chat Completions and compatible APIs, anthropic for Messages.
    """
    try:
        from fewstep.serving.mcp.tools import tool_schema as schema
        from fewstep.serving.settings import settings_from_environment
    except ImportError as error:
        raise ImportError(f"this needs the package '{error.name}': pip install 'fewstep[serve]'") from error

    print(json.dumps(schema(dialect, settings_from_environment().limits), indent=2))
    return 0
