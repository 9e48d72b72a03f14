"""JSON answers that hold images: sent as fast as the client reads them."""

from __future__ import annotations

import weakref

from fastapi import Response
from starlette.types import Receive, Scope, Send

from fewstep.serving.engine.room import Place

PIECE = 262_144
"""Bytes of an answer that are written at a time."""


class InPieces(Response):
    """A JSON answer, of which only a piece waits at the connection.

    Args:
        text: the JSON.
        headers: further headers.
        place: the memory of its images, given back when it is sent.
    """

    def __init__(self, text: str, headers: dict[str, str], place: Place) -> None:
        super().__init__(text, headers=headers, media_type="application/json")
        self._place = place
        weakref.finalize(self, place.give_back)  # an answer that is never sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = memoryview(self.body)
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for start in range(0, len(body), PIECE):
                piece = bytes(body[start : start + PIECE])
                await send({"type": "http.response.body", "body": piece, "more_body": start + PIECE < len(body)})
        finally:
            self._place.give_back()
