"""A server on the untrained student, in a thread of this process, on a free port."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn

from fewstep.serving.app import guarded
from fewstep.serving.service import Service
from fewstep.serving.settings import ServeSettings
from tiny_models import TinyModels, onnx


@dataclass(frozen=True)
class Running:
    """A server that runs.

    Args:
        url: where, without /v1.
        service: its parts.
    """

    url: str
    service: Service


@contextlib.contextmanager
def running(tiny: TinyModels, **settings: Any) -> Iterator[Running]:
    chosen = ServeSettings(**{"port": 0, "threads": 1, "patience": 1.0, **settings})
    service = Service(chosen, onnx(tiny.student))
    server = uvicorn.Server(uvicorn.Config(guarded(service), "127.0.0.1", 0, log_config=None, ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    while not service.ready:
        time.sleep(0.005)
    try:
        yield Running(f"http://127.0.0.1:{port}", service)
    finally:
        server.should_exit = True
        thread.join(20)
