"""Memory that many requests share: a bound on the pixels that are there at a time."""

from __future__ import annotations

import threading

from fewstep.serving.engine.errors import Busy


class Room:
    """Counts pixels in memory. What is asked for while nothing else is there is always admitted.

    Args:
        most: most pixels at a time.
        full: what to say when there is no room.
    """

    def __init__(self, most: int, full: str) -> None:
        self._most, self._full, self._held = most, full, 0
        self._lock = (
            threading.RLock()
        )  # an image may be freed, and give back its pixels, at any moment, in `take` too

    @property
    def held(self) -> int:
        """Number of pixels in memory."""
        return self._held

    def take(self, pixels: int) -> None:
        """Count pixels as being in memory.

        Raises:
            Busy: there is no room for them now.
        """
        with self._lock:
            if self._held and self._held + pixels > self._most:
                raise Busy(self._full, 1.0, "memory_full")
            self._held += pixels

    def give_back(self, pixels: int) -> None:
        """Count pixels as gone."""
        with self._lock:
            self._held -= pixels


class Place:
    """Room that one request has taken; giving it back twice changes nothing.

    Args:
        room: the room.
        pixels: how much of it.

    Raises:
        Busy: there is no room for them now.
    """

    def __init__(self, room: Room, pixels: int) -> None:
        room.take(pixels)
        self._room, self._pixels, self._lock = room, pixels, threading.Lock()

    def give_back(self) -> None:
        """Leave the place to others."""
        with self._lock:
            pixels, self._pixels = self._pixels, 0
        self._room.give_back(pixels)
