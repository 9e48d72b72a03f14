"""HTTP/1.1 with a bound on everything that is not a body: request line, header fields, chunk framing and trailers.

The parser collects a header field until it is complete, in time that grows with the square of its length: without a
bound, one connection without a key keeps the server from answering all others.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fewstep.serving.http.api_errors import ApiError

if sys.platform != "win32":
    import fcntl
    import termios

log = logging.getLogger("fewstep.serving")

MAX_HEAD = 65_536
"""Bytes of the request line with all header fields and trailers."""

MAX_FIELDS = 100
"""Header fields and trailers."""

FRAMING = 16
"""Bytes of framing allowed for each byte of a chunked body, besides `MAX_HEAD`; the smallest chunk needs 5."""

LINGER = 2.0
"""Seconds for which a refused connection is still read: closed with data unread, TCP would take the answer back."""


class TooLarge(Exception):
    """A request has more than a body may bring with it; the parser gives up."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which answers 431 and closes the connection where a request exceeds the bounds above."""

    _began_now = True  # whether the request's first byte came with the data that are being read
    _head = _fields = 0  # bytes and number of complete fields
    _framing = _body = 0  # bytes of the request that were no body, after the data it began in; bytes of its body
    _too_large = _refused = False
    _watching: asyncio.TimerHandle | None = None
    write_timeout = 60.0
    """Seconds after which a client that reads nothing of what waits for it is cut off."""

    def pause_writing(self) -> None:
        """The client reads slower than the server writes: watch whether it reads at all."""
        super().pause_writing()
        self._watch(self._unread())

    def resume_writing(self) -> None:
        """The client has read nearly all of it."""
        super().resume_writing()
        if self._watching is not None:
            self._watching.cancel()

    def _unread(self) -> int:
        """Bytes that wait here and, on Linux, in the system's buffer until the client has received them."""
        waiting = self.transport.get_write_buffer_size()
        if sys.platform == "win32":
            return waiting
        try:
            queue = fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
        except OSError:  # closed, or a system that does not tell
            return waiting
        return waiting + int.from_bytes(queue, sys.byteorder)

    def _watch(self, waiting: int) -> None:
        self._watching = self.loop.call_later(self.write_timeout, self._cut_off_unless_less, waiting)

    def _cut_off_unless_less(self, before: int) -> None:
        if not self.flow.write_paused or self.transport.is_closing():
            return
        waiting = self._unread()
        if waiting < before:
            self._watch(waiting)
            return
        log.info("a client read nothing for %g s: its connection is closed", self.write_timeout)
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._began_now = False
        self._framing += len(data)
        super().data_received(data)
        if not self._refused and self._framing > MAX_HEAD + FRAMING * self._body:
            self._too_large = True
            self.send_400_response("")

    def on_message_begin(self) -> None:
        self._began_now = True
        self._head = self._fields = self._framing = self._body = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._body += len(body)
        if not self._began_now:
            self._framing -= len(body)
        super().on_body(body)

    def _count(self, size: int) -> None:
        """Add to the head.

        Raises:
            TooLarge: it is more than a request may have.
        """
        self._head += size
        if self._head > MAX_HEAD or self._fields > MAX_FIELDS:
            self._too_large = True
            raise TooLarge

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, or too large, in the format of all errors, then close the connection."""
        if self._too_large:
            limits = f"at most {MAX_HEAD} bytes and {MAX_FIELDS} header fields"
            error = ApiError(431, f"a request must have {limits} beside its body", None, "headers_too_large")
        else:
            error = ApiError(400, "the request is not valid HTTP/1.1", None, "invalid_http")
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(_response(error.status, error.body))
        self._refused = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER, self.transport.close)


def _response(status: int, body: dict[str, Any]) -> bytes:
    text = json.dumps(body).encode()
    reason = {400: "Bad Request", 431: "Request Header Fields Too Large"}[status]
    head = (
        f"HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\ncontent-length: {len(text)}\r\n"
        "connection: close\r\n\r\n"
    )
    return head.encode() + text
