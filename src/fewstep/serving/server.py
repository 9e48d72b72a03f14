"""The process that serves: uvicorn, whose requests end by name when the server is told to stop."""

from __future__ import annotations

import signal
import socket
import threading
import time
from types import FrameType

import uvicorn

from fewstep.serving.app import guarded
from fewstep.serving.engine.service import Service

_GRACE = 5
"""Seconds between the end of the patience, when what still runs is told so, and the cut of its connection."""


class Server(uvicorn.Server):
    """A server of one service: `run(sockets=[…])` serves until Ctrl-C or SIGTERM.

    Args:
        service: what it serves.
    """

    def __init__(self, service: Service) -> None:
        config = uvicorn.Config(
            guarded(service),
            log_config=None,
            access_log=False,
            ws="websockets-sansio",
            ws_max_size=service.settings.max_body_bytes,
            ws_per_message_deflate=False,  # a sketch's 4 kB travel faster than they are packed
            server_header=False,
            timeout_graceful_shutdown=round(service.settings.shutdown_timeout) + _GRACE,
        )
        super().__init__(config)
        self._service = service
        self._hurries = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ctrl-C stops; once more ends the patience, so that everybody is still told; a third time cuts all."""
        if sig == signal.SIGINT and self.should_exit and not self._hurries:
            self._hurries = True
            threading.Thread(target=self._hurry, daemon=True).start()
        else:
            super().handle_exit(sig, frame)

    def _hurry(self) -> None:
        self._service.runtime.close(0)
        time.sleep(_GRACE)
        self.force_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse what is new and let the rest end, for the settings' patience."""
        threading.Thread(target=self._service.stop, daemon=True).start()
        await super().shutdown(sockets)
