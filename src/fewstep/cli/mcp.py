"""`fewstep mcp`."""

from __future__ import annotations

import logging
import os
import signal
import sys
from types import FrameType

STOPPED = 130
"""The exit code of a program that Ctrl-C ended."""


def mcp(model: str = "emoji", engine: str = "onnx", threads: int | None = None) -> int:
    """Offer drawing as MCP tools on standard input and output, for chat programs that start it.

    Args:
        model: A built-in model, a directory, or user/name on the Hugging Face hub.
        engine: onnx, or another that is installed.
        threads: Threads of one network call; one per core if left out.
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
    """End at once. An orderly end would wait for the thread that reads standard input, which nothing can wake; there
    is nothing to save, and every answer is flushed as it is written."""
    os._exit(STOPPED)
