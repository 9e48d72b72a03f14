"""The interface of runtimes, which run the desk's jobs; `LocalRuntime` runs them in threads of this process."""

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
        """The model that draws, for which requests are planned."""
        ...

    @property
    def waiting(self) -> int:
        """Number of jobs in the queue."""
        ...

    @property
    def running(self) -> int:
        """Number of running jobs."""
        ...

    @property
    def closed(self) -> bool:
        """Whether it can no longer draw."""
        ...

    def check_room(self, client: str = "", session: str | None = None) -> None:
        """Raise Busy or ShuttingDown if `submit` would; call it before decoding images for a job."""
        ...

    def submit(self, job: Job[Any]) -> None:
        """Queue a job; its future completes when the job ends.

        A job replaces its session's queued job and stops its session's running job.

        Raises:
            Superseded: a newer job of this session is already known.
            Busy: the queue is full.
            ShuttingDown: the runtime is closing.
        """
        ...

    def stop(self, job: Job[Any], reason: Stopped) -> None:
        """Remove a job from the queue, or end it at its next step; does nothing if it is done."""
        ...

    def warm_up(self, requests: Iterable[Request]) -> None:
        """Draw these before all jobs, without counting them.

        Raises:
            ShuttingDown: the runtime was closed in the meantime.
        """
        ...

    def close(self, timeout: float = 30.0) -> None:
        """Refuse new jobs, let the others finish for `timeout` seconds, and stop the rest."""
        ...
