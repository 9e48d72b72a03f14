"""Images that clients may come back for, by ids that nobody can guess, until they expire. In memory only."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Kept:
    """One image.

    Args:
        data: a file of `mime`, its record in it.
        mime: such as image/png.
        until: when it goes, by the store's clock.
    """

    data: bytes
    mime: str
    until: float


class Store:
    """The latest images, for some time.

    Args:
        most: images; the oldest go first.
        most_bytes: of all of them; the oldest go first, the newest is always kept.
        seconds: that each is kept.
        clock: gives the time in seconds.
    """

    def __init__(
        self, most: int, most_bytes: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most, self._most_bytes, self._seconds, self._clock = most, most_bytes, seconds, clock
        self._bytes = 0
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        with self._lock:
            self._expire()
            return len(self._kept)

    def put(self, data: bytes, mime: str) -> str:
        """Keep an image's file: its id."""
        handle = secrets.token_urlsafe(18)
        with self._lock:
            self._expire()
            self._kept[handle] = Kept(data, mime, self._clock() + self._seconds)
            self._bytes += len(data)
            while len(self._kept) > self._most or (self._bytes > self._most_bytes and len(self._kept) > 1):
                self._drop()
        return handle

    def get(self, handle: str) -> Kept | None:
        """The image of an id; None if there is none, or no more."""
        with self._lock:
            self._expire()
            return self._kept.get(handle)

    def _expire(self) -> None:
        now = self._clock()
        while self._kept and next(iter(self._kept.values())).until <= now:
            self._drop()

    def _drop(self) -> None:
        """Forget the oldest."""
        _, oldest = self._kept.popitem(last=False)
        self._bytes -= len(oldest.data)
