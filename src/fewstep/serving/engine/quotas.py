"""How much one client may ask for in a minute and in a day."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from fewstep.serving.engine.errors import Busy, InputError

MINUTE, DAY = 60.0, 86_400.0


@dataclass
class Allowance:
    """An amount that comes back evenly over a period, so that a burst may take all of it at once.

    Args:
        most: the amount in a period; None for no bound.
        period: the period in seconds.
        clock: the time in seconds.
    """

    most: int | None
    period: float
    clock: Callable[[], float] = time.monotonic
    _used: float = field(default=0.0, init=False)
    _since: float = field(default=0.0, init=False)

    def wait(self, amount: int) -> float:
        """Take an amount, and return 0; or take nothing, and return the seconds until there is enough of it."""
        if self.most is None:
            return 0.0
        now = self.clock()
        self._used = max(0.0, self._used - (now - self._since) * self.most / self.period)
        self._since = now
        missing = self._used + amount - self.most
        if missing > 0:
            return missing * self.period / self.most
        self._used += amount
        return 0.0


class Quota:
    """What one client may still ask for.

    Args:
        requests: most requests in a minute; None for no bound.
        images: most images in a day; None for no bound.
        clock: the time in seconds.
    """

    def __init__(
        self, requests: int | None = None, images: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._requests, self._images = Allowance(requests, MINUTE, clock), Allowance(images, DAY, clock)
        self._lock = threading.Lock()

    def request(self) -> None:
        """Count a request.

        Raises:
            Busy: there were too many in the last minute.
        """
        with self._lock:
            wait = self._requests.wait(1)
        if wait:
            raise Busy(f"this key has {self._requests.most} requests a minute", wait, "rate_limit_exceeded")

    def images(self, count: int) -> None:
        """Count the images of a request.

        Raises:
            Busy: there would be too many in the last day.
            InputError: there are more than a day has.
        """
        if self._images.most is not None and count > self._images.most:
            wrong = f"n must be at most {self._images.most}, the images that this key has a day, got {count}"
            raise InputError("n", wrong, "quota_exceeded")
        with self._lock:
            wait = self._images.wait(count)
        if wait:
            raise Busy(f"this key has {self._images.most} images a day", wait, "quota_exceeded")
