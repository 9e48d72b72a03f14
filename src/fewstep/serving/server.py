"""The process that serves: uvicorn, with an orderly end for the requests that run when it is stopped."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType

import uvicorn

from fewstep.serving.app import guarded
from fewstep.serving.engine.desk import Desk
from fewstep.serving.settings import ServeSettings

_GRACE = 5
"""Seconds from the shutdown time-out, when what still runs is answered with an error, to the cut of connections."""


class Server(uvicorn.Server):
    """A server of one desk: `run(sockets=[…])` serves until Ctrl-C or SIGTERM.

    Args:
        desk: draws.
        settings: of the server.
        announce: called when it is ready to draw.
    """

    def __init__(self, desk: Desk, settings: ServeSettings, announce: Callable[[], None] = lambda: None) -> None:
        config = uvicorn.Config(
            guarded(desk, settings, announce),
            log_config=None,
            access_log=False,
            ws="websockets-sansio",
            ws_max_size=settings.max_body_bytes,
            ws_per_message_deflate=False,  # a sketch's 4 kB travel faster than they are compressed
            server_header=False,
            timeout_graceful_shutdown=round(settings.shutdown_timeout) + _GRACE,
        )
        super().__init__(config)
        self._desk, self._timeout = desk, settings.shutdown_timeout
        self._hurries = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ctrl-C stops; a second one ends the time-out, still answering everybody; a third one cuts connections."""
        if sig == signal.SIGINT and self.should_exit and not self._hurries:
            self._hurries = True
            threading.Thread(target=self._hurry, daemon=True).start()
        else:
            super().handle_exit(sig, frame)

    def _hurry(self) -> None:
        self._desk.host.stop(0)
        time.sleep(_GRACE)
        self.force_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse new requests and let the others end, for the settings' time-out."""
        threading.Thread(target=self._desk.host.stop, args=(self._timeout,), daemon=True).start()
        await super().shutdown(sockets)
