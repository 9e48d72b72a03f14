"""What the desk needs of whatever runs its jobs: `LocalRuntime` does so in threads of this process."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from fewstep.generation import Model, Request
from fewstep.serving.engine.errors import Stopped
from fewstep.serving.engine.jobs import Job


class Runtime(Protocol):
    """Runs the jobs of one model. All methods may be called from any thread."""

    @property
    def model(self) -> Model:
        """The model that draws: what requests are planned for."""
        ...

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        ...

    @property
    def running(self) -> int:
        """Jobs that run."""
        ...

    @property
    def closed(self) -> bool:
        """Whether it can draw no more."""
        ...

    def check_room(self, client: str = "", session: str | None = None) -> None:
        """Raise Busy or ShuttingDown where `submit` would: to be called before images are decoded for a job."""
        ...

    def submit(self, job: Job[Any]) -> None:
        """Queue a job; its future ends when it does.

        A job replaces the one that its session has in the queue and stops the one its session has running.

        Raises:
            Superseded: a job of this session that arrived later was here before.
            Busy: the queue is full.
            ShuttingDown: the runtime is closing.
        """
        ...

    def stop(self, job: Job[Any], reason: Stopped) -> None:
        """Take a job from the queue, or end it at its next step; does nothing if it is over."""
        ...

    def warm_up(self, requests: Iterable[Request]) -> None:
        """Draw these before all jobs, uncounted.

        Raises:
            ShuttingDown: it was closed meanwhile.
        """
        ...

    def close(self, timeout: float = 30.0) -> None:
        """Refuse new jobs, let the others end for `timeout` seconds, and stop what is left."""
        ...
