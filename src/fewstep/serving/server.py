"""The server process: uvicorn, with a graceful shutdown for running requests."""

from __future__ import annotations

import logging
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn

from fewstep.serving.app import guarded
from fewstep.serving.engine.desk import Desk
from fewstep.serving.http.protocol import BoundedProtocol
from fewstep.serving.settings import ServeSettings

log = logging.getLogger("fewstep.serving")

RELOADED = ("keys_file", "hosts", "origins", "without_keys", "aliases", "log_level", "log_prompts")
"""The settings that take effect when they are read again."""

_GRACE = 5
"""Seconds between the shutdown time-out, when running requests get an error, and the closing of connections."""


def wire(app: Any, settings: ServeSettings) -> uvicorn.Config:
    """How uvicorn speaks HTTP and WebSockets for an application of these settings."""
    protocol = type("Protocol", (BoundedProtocol,), {"write_timeout": settings.write_timeout})
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        http=protocol,
        ws="websockets-sansio",
        ws_max_size=settings.max_body_bytes,
        ws_per_message_deflate=False,  # a sketch of 4 kB is sent faster than it is compressed
        server_header=False,
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_keep_alive=settings.keep_alive,
        timeout_graceful_shutdown=round(settings.shutdown_timeout) + _GRACE,
    )


class Server(uvicorn.Server):
    """A server of one desk: `run(sockets=[…])` serves until Ctrl-C or SIGTERM.

    Args:
        desk: the desk that draws.
        settings: settings of the server.
        announce: called when it is ready to draw.
    """

    def __init__(self, desk: Desk, settings: ServeSettings, announce: Callable[[], None] = lambda: None) -> None:
        self._access = settings.access()
        super().__init__(wire(guarded(desk, settings, announce, self._access), settings))
        self._desk, self._settings, self._timeout = desk, settings, settings.shutdown_timeout
        self._hurries = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ctrl-C stops; a second one ends the time-out and still answers everyone; a third one closes connections."""
        if sig == signal.SIGINT and self.should_exit and not self._hurries:
            self._hurries = True
            threading.Thread(target=self._hurry, daemon=True).start()
        else:
            super().handle_exit(sig, frame)

    def reload(self, settings: ServeSettings) -> None:
        """Take the settings that can change while the server runs, and log which others have changed.

        Raises:
            ValueError: the keys file holds no keys.
        """
        self._access.replace(settings.access())
        self._desk.host.aliases = settings.aliases
        self._desk.accounting.log_prompts = settings.log_prompts
        logging.getLogger().setLevel(settings.log_level.upper())
        before, after = self._settings.model_dump(), settings.model_dump()
        changed = [name for name, value in after.items() if value != before[name] and name not in RELOADED]
        later = f"; these wait for a restart: {', '.join(changed)}" if changed else ""
        log.warning("settings read again%s", later)
        threading.Thread(target=self._reload_models, daemon=True).start()

    def _reload_models(self) -> None:
        try:
            changed = self._desk.host.reload()
        except (ValueError, OSError, RuntimeError) as error:
            log.error("a model cannot be loaded again, the old one stays: %s", error)
            return
        if changed:
            log.warning("new versions of %s", ", ".join(changed))

    def _hurry(self) -> None:
        self._desk.host.stop(0)
        time.sleep(_GRACE)
        self.force_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse new requests and let running ones finish, up to the time-out in the settings."""
        threading.Thread(target=self._desk.host.stop, args=(self._timeout,), daemon=True).start()
        await super().shutdown(sockets)
