"""Images that clients may come back for, by ids that nobody can guess, until they expire. In memory only."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from fewstep.generation import GeneratedImage


@dataclass(frozen=True)
class Kept:
    """One image.

    Args:
        image: with its record.
        data: as a file of `mime`.
        mime: such as image/png.
        until: when it goes, by the store's clock.
    """

    image: GeneratedImage
    data: bytes
    mime: str
    until: float


class Store:
    """The latest images, for some time.

    Args:
        most: images; the oldest go first.
        seconds: that each is kept.
        clock: gives the time in seconds.
    """

    def __init__(self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._seconds, self._clock = most, seconds, clock
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        with self._lock:
            self._expire()
            return len(self._kept)

    def put(self, image: GeneratedImage, data: bytes, mime: str) -> str:
        """Keep an image: its id."""
        handle = secrets.token_urlsafe(18)
        with self._lock:
            self._expire()
            self._kept[handle] = Kept(image, data, mime, self._clock() + self._seconds)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return handle

    def get(self, handle: str) -> Kept | None:
        """The image of an id; None if there is none, or no more."""
        with self._lock:
            self._expire()
            return self._kept.get(handle)

    def _expire(self) -> None:
        now = self._clock()
        while self._kept:
            handle, oldest = next(iter(self._kept.items()))
            if oldest.until > now:
                return
            del self._kept[handle]
