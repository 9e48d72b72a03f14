"""`fewstep mcp`."""

from __future__ import annotations

import logging
import sys


def mcp(model: str = "emoji", engine: str = "onnx", threads: int | None = None) -> int:
    """Offer drawing as MCP tools on standard input and output, for chat programs that start it.

    Args:
        model: A built-in model, a directory, or user/name on the Hugging Face hub.
        engine: onnx, or another that is installed.
        threads: Of one network call; one a core if left out.
    """
    try:
        from fewstep.serving.mcp import mcp_server
        from fewstep.serving.service import Service
        from fewstep.serving.settings import ServeSettings
    except ImportError as error:
        raise ImportError(f"this needs the package '{error.name}': pip install 'fewstep[serve]'") from error
    from fewstep.generation import load

    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    service = Service(ServeSettings(model=model, jobs=8), load(model, engine, threads=threads))
    mcp_server(service).run("stdio")
    service.runtime.close(0)
    return 0
