"""A store of images in memory, until they expire or make room for newer ones."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable

from fewstep.serving.engine.store import StoredImage

PER_SESSION = 32
"""Most images kept per session. Only the latest request of a session counts, so a live canvas that draws 30 images
per second must not evict images of other clients."""


class MemoryStore:
    """A `Store` of the newest images.

    Args:
        max_images: most images kept at a time; the oldest are evicted first.
        max_bytes: largest total size; the oldest are evicted first, the newest is always kept.
        seconds: how long each image is kept.
        per_session: most images kept per session; its oldest are evicted first.
        clock: function that gives the time in seconds.
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
        self._images: OrderedDict[str, tuple[StoredImage, float]] = OrderedDict()  # with expiry times
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
        """The image with this id; None if it does not exist, or no longer exists."""
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
            ids.remove(id)  # usually the first one, unless an image was put twice
            if not ids:
                del self._sessions[image.session]
