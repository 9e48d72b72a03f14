"""A job: one plan on its way through a runtime, and what it gives."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from fewstep.generation import GeneratedImage
from fewstep.generation.planning import Plan
from fewstep.generation.running import Progress
from fewstep.serving.engine.errors import Stopped

T = TypeVar("T")


@dataclass(frozen=True)
class Recognition:
    """What a recogniser takes an image for; both None without a recogniser.

    Args:
        name: the class it names.
        confidence: its probability, 0 to 1.
    """

    name: str | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class JobResult:
    """What a job gave.

    Args:
        images: with their records.
        timings: milliseconds by stage; `queue` is the time spent waiting for a thread and for the network.
        recognitions: one for each image.
        check: raises `Stopped` if nobody waits for the result any more; to be called before any of it is kept.
    """

    images: Sequence[GeneratedImage]
    timings: Mapping[str, float]
    recognitions: Sequence[Recognition]
    check: Callable[[], None]


@dataclass(eq=False)
class Job(Generic[T]):
    """One plan to be drawn.

    Args:
        plan: what to draw.
        finish: makes the answer from the images, in the job's thread.
        client: whose turn in the queue it takes.
        session: of which only the latest request counts, or None.
        on_step: called after each step but the last, in the job's thread.
        arrived: when the request came in, by `time.perf_counter()`: decides which of a session's is the latest.
        future: the answer, or why there is none.
        reason: why it was stopped, or None.
    """

    plan: Plan
    finish: Callable[[JobResult], T]
    client: str = ""
    session: str | None = None
    on_step: Callable[[Progress], None] | None = None
    arrived: float = field(default_factory=time.perf_counter)
    future: Future[T] = field(default_factory=Future)
    queued: float = field(default_factory=time.perf_counter)
    reason: Stopped | None = None

    def __post_init__(self) -> None:
        """Mark the future as running: cancelling a future that waits on this one then does not cancel this one, and
        only the runtime ends the job."""
        self.future.set_running_or_notify_cancel()

    def check(self) -> None:
        """Raise the reason why it was stopped, if it was."""
        if self.reason is not None:
            raise self.reason
