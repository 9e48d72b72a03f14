"""Images in memory, until they expire or newer ones need their room."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable

from fewstep.serving.engine.store import StoredImage

PER_SESSION = 32
"""Images kept of one session. Only the latest request of a session counts, so a live canvas that draws 30 images a
second must not push out those that others were promised."""


class MemoryStore:
    """A `Store` of the newest images.

    Args:
        max_images: the most kept at a time; the oldest go first.
        max_bytes: their largest total size; the oldest go first, the newest is always kept.
        seconds: how long each is kept.
        per_session: the most kept of one session; its oldest go first.
        clock: gives the time in seconds.
    """

    def __init__(
        self,
        max_images: int,
        max_bytes: int,
        seconds: float,
        per_session: int = PER_SESSION,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_images, self._max_bytes, self._seconds = max_images, max_bytes, seconds
        self._per_session, self._clock = per_session, clock
        self._bytes = 0
        self._images: OrderedDict[str, tuple[StoredImage, float]] = OrderedDict()  # with when each expires
        self._sessions: defaultdict[str, deque[str]] = defaultdict(deque)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        with self._lock:
            self._expire()
            return len(self._images)

    def put(self, id: str, image: StoredImage) -> None:
        """Keep an image."""
        with self._lock:
            self._expire()
            if id in self._images:
                self._drop(id)
            self._images[id] = image, self._clock() + self._seconds
            self._bytes += len(image.data)
            if image.session is not None:
                ids = self._sessions[image.session]
                ids.append(id)
                if len(ids) > self._per_session:
                    self._drop(ids[0])
            while len(self._images) > self._max_images or (self._bytes > self._max_bytes and len(self._images) > 1):
                self._drop(next(iter(self._images)))

    def get(self, id: str) -> StoredImage | None:
        """The image with this id; None if there is none, or not any more."""
        with self._lock:
            self._expire()
            found = self._images.get(id)
            return None if found is None else found[0]

    def _expire(self) -> None:
        now = self._clock()
        while self._images:
            id, (_, expires) = next(iter(self._images.items()))
            if expires > now:
                return
            self._drop(id)

    def _drop(self, id: str) -> None:
        image, _ = self._images.pop(id)
        self._bytes -= len(image.data)
        if image.session is not None:
            ids = self._sessions[image.session]
            ids.remove(id)  # the first one, but for an image that is put twice
            if not ids:
                del self._sessions[image.session]
