"""A job: one plan on its way through a runtime, and its result."""

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
    """What a recogniser sees in an image; both None without a recogniser.

    Args:
        name: the class it names.
        confidence: its probability, 0 to 1.
    """

    name: str | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class JobResult:
    """The result of a job.

    Args:
        images: images with their records.
        timings: milliseconds by stage; `queue` is the time spent waiting for a thread and for the network.
        recognitions: one per image.
        check: raises `Stopped` if nobody waits for the result any more; call it before storing any of it.
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
        client: the client, for fair queueing.
        session: session in which only the latest request counts, or None.
        on_step: called after each step but the last, in the job's thread.
        arrived: time of the request's arrival, by `time.perf_counter()`, which decides which of a session is latest.
        future: the answer, or the error.
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
        """Raise the reason why the job was stopped, if it was."""
        if self.reason is not None:
            raise self.reason
