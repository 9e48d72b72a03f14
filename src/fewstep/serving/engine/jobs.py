"""A job: one request on its way, what it gives, and the ways in which it can end without."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from fewstep.generation import GeneratedImage, Request
from fewstep.generation.planning import Plan
from fewstep.generation.running import Progress

T = TypeVar("T")


class Stopped(Exception):
    """A job that will give no images; never to be tried again by itself."""


class Superseded(Stopped):
    """A newer request of the same session took this one's place."""


class Cancelled(Stopped):
    """Whoever asked does not wait any more."""


class ShuttingDown(Stopped):
    """The server is closing."""


class Busy(RuntimeError):
    """The queue is full.

    Args:
        waiting: jobs in the queue.
        retry_after: seconds after which there should be room.
    """

    def __init__(self, waiting: int, retry_after: float) -> None:
        super().__init__(f"{waiting} requests are waiting already: try again in {retry_after:.1f} s")
        self.waiting, self.retry_after = waiting, retry_after


@dataclass(frozen=True)
class Seen:
    """What a recogniser sees in an image; None without one.

    Args:
        name: of what it takes it for.
        confidence: how sure it is, 0 to 1.
    """

    name: str | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class Drawn:
    """What a job gave.

    Args:
        images: with their records.
        timings: milliseconds by stage: `queue` is waiting for a thread and for the network.
        seen: what a recogniser sees in each image.
        check: raises `Stopped` if nobody waits for it any more: to be asked before any of it is kept.
    """

    images: Sequence[GeneratedImage]
    timings: Mapping[str, float]
    seen: Sequence[Seen]
    check: Callable[[], None]


@dataclass(eq=False)
class Job(Generic[T]):
    """One request on its way.

    Args:
        request, plan: what to draw.
        finish: makes the answer of the images, in the job's thread.
        client: whose turn it is.
        session: of which only the latest request counts, or None.
        seen: told of each jump but the last, in the job's thread.
        future: the answer, or why there is none.
    """

    request: Request
    plan: Plan
    finish: Callable[[Drawn], T]
    client: str
    session: str | None
    seen: Callable[[Progress], None] | None
    future: Future[T] = field(default_factory=Future)
    queued: float = field(default_factory=time.perf_counter)
    reason: Stopped | None = None

    def __post_init__(self) -> None:
        """From here on the job's end is the runtime's alone to tell: who cancels a future that waits on this one
        does not cancel this one."""
        self.future.set_running_or_notify_cancel()

    def check(self) -> None:
        """Raise the reason why it is stopped, if it is."""
        if self.reason is not None:
            raise self.reason
