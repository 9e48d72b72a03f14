"""`fewstep mcp`."""

from __future__ import annotations

import logging
import os
import signal
import sys
from types import FrameType

STOPPED = 130
"""The exit code of a program that was stopped with Ctrl-C."""


def mcp(model: str = "emoji", engine: str = "onnx", threads: int | None = None) -> int:
    """Serve drawing as MCP tools on standard input and output, for chat programs that start this command.

    Args:
        model: A built-in model, a directory, or user/name on the Hugging Face hub.
        engine: onnx, or another installed engine.
        threads: Threads per network call; if left out, one per core.
    """
    try:
        from fewstep.serving.app import build_desk
        from fewstep.serving.mcp.server import mcp_server
        from fewstep.serving.settings import settings_from_environment
    except ImportError as error:
        raise ImportError(f"this needs the package '{error.name}': pip install 'fewstep[serve]'") from error
    from fewstep.generation import load

    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    settings = settings_from_environment(model=model, jobs=8)
    desk = build_desk(settings, load(model, engine, threads=threads))
    signal.signal(signal.SIGINT, _stop)
    mcp_server(desk).run("stdio")
    desk.close(0)
    return 0


def _stop(number: int, frame: FrameType | None) -> None:
    """Exit at once. An orderly exit would wait for the thread that reads standard input, which nothing can wake;
    there is nothing to save, and every answer is flushed as it is written."""
    os._exit(STOPPED)
