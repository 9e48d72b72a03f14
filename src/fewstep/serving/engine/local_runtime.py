"""Runs the jobs of one model in threads of this process: queued fairly, stopped between steps, one per session.

The result of a job that nobody waits for any more is dropped. A job that is stopped while queued never runs, a
running one ends at its next step, and the images of one that has just ended are discarded.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from fewstep.generation import Model, Request
from fewstep.generation.running import Progress
from fewstep.serving.engine.batching import BatchedNetwork, Batcher, Closed
from fewstep.serving.engine.errors import Busy, Cancelled, ShuttingDown, Stopped, Superseded
from fewstep.serving.engine.jobs import Job, JobResult, Recognition

_MAX_SESSIONS = 10_000
"""Number of sessions for which the arrival of the latest job is remembered."""


class Observer(Protocol):
    """The interface that a runtime reports to: `fewstep.serving.engine.metrics.Metrics`."""

    def batch(self, samples: int, seconds: float) -> None: ...

    def stage(self, name: str, seconds: float) -> None: ...

    def drawn(self, images: int) -> None: ...

    def superseded(self) -> None: ...

    def cancelled(self) -> None: ...


class LocalRuntime:
    """A `Runtime` with threads in this process.

    Args:
        model: the model that draws.
        threads: number of jobs that run at a time; their network calls share batches.
        max_waiting: most waiting jobs.
        max_batch: most samples in one network call.
        cpus: cores of the network's thread; None for all.
        observer: notified of events.
        recognise: function that names what finished pixels [b, c, h, w] show, or None.
    """

    def __init__(
        self,
        model: Model,
        threads: int = 32,
        max_waiting: int = 256,
        max_batch: int = 32,
        cpus: Sequence[int] | None = None,
        observer: Observer | None = None,
        recognise: Callable[[Any], Sequence[Recognition]] | None = None,
    ) -> None:
        self.model = model
        self._observer, self._recognise = observer, recognise or _unrecognised
        self._max_waiting = max_waiting
        self._batcher = Batcher(model.network, max_batch, cpus, self._batch_ran)
        self._change = threading.RLock()
        self._ended = threading.Condition(self._change)  # notifies `close`
        self._idle: list[threading.Event] = []  # of job threads, last in first out: warm caches
        self._queues: OrderedDict[str, deque[Job[Any]]] = OrderedDict()
        self._running: set[Job[Any]] = set()
        self._sessions: dict[str, Job[Any]] = {}
        self._arrivals: OrderedDict[str, float] = OrderedDict()  # of each session's latest job
        self._closed = False
        self._warming = False
        self._recent: deque[float] = deque(maxlen=64)  # times at which jobs ended
        self._threads = [
            threading.Thread(target=self._work, name=f"fewstep-job-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def closed(self) -> bool:
        """Whether it can no longer draw, since it was closed or the network's thread has ended."""
        return self._closed or self._batcher.closed

    @property
    def waiting(self) -> int:
        """Number of jobs in the queue."""
        return sum(map(len, self._queues.values()))

    @property
    def running(self) -> int:
        """Number of running jobs."""
        return len(self._running)

    def warm_up(self, requests: Iterable[Request]) -> None:
        """Draw these before all jobs, without counting them.

        Raises:
            ShuttingDown: the runtime was closed in the meantime.
        """
        self._warming = True
        try:
            for request in requests:
                plan = self.model.plan_pictures(request)
                *_, last = self.model.run(plan, BatchedNetwork(self._batcher))
                self.model.finish(plan, last)
                self._recognise(last.pixels)
        except Closed:
            if not self._closed:
                raise
        finally:
            with self._change:
                self._warming = False
                for _ in range(self.waiting):
                    self._wake()
        if self._closed:
            raise ShuttingDown("the server is closing")

    def submit(self, job: Job[Any]) -> None:
        """Queue a job; its future completes when the job ends.

        A job replaces its session's queued job and stops its session's running job.

        Raises:
            Superseded: a newer job of this session is already known.
            Busy: the queue is full (`check_room`); a session that already has a place in it keeps it.
            ShuttingDown: the runtime is closing.
        """
        with self._change:
            self.check_room(job.client, job.session)
            if job.session is not None and job.arrived < self._arrivals.get(job.session, job.arrived):
                if self._observer is not None:
                    self._observer.superseded()
                raise _superseded()
            earlier = None if job.session is None else self._sessions.get(job.session)
            if job.session is not None:
                self._sessions[job.session] = job
                self._remember(job.session, job.arrived)
            self._queues.setdefault(job.client, deque()).append(job)
            self._wake()
        if earlier is not None:
            self.stop(earlier, _superseded())

    def check_room(self, client: str = "", session: str | None = None) -> None:
        """Raise Busy or ShuttingDown if `submit` would; call it before decoding images for a job.

        One client cannot shut out the others: a client without waiting jobs gets a place in a full queue, up to twice
        the queue's length.
        """
        with self._change:
            if self._closed:
                raise ShuttingDown("the server is closing")
            free = len(self._threads) - len(self._running)
            most = self._max_waiting * (1 if client in self._queues else 2)
            if session not in self._sessions and self.waiting - free >= most:
                raise Busy(f"{self.waiting} requests are already waiting", self._wait())

    def stop(self, job: Job[Any], reason: Stopped) -> None:
        """Remove a job from the queue, or end it at its next step; does nothing if it is done."""
        with self._change:
            if job.reason is None:
                job.reason = reason
            queue = self._queues.get(job.client, deque())
            was_waiting = job in queue
            if was_waiting:
                queue.remove(job)
                self._tidy(job)
        if was_waiting:
            self._end(job, error=reason)

    def close(self, timeout: float = 30.0) -> None:
        """Refuse new jobs, let the others finish for `timeout` seconds, and stop the rest."""
        deadline = time.perf_counter() + timeout
        with self._change:
            self._closed = True
            self._ended.wait_for(lambda: not self.waiting and not self._running, max(0.0, timeout))
            left = [*self._running, *(job for queue in self._queues.values() for job in queue)]
        for job in left:
            self.stop(job, ShuttingDown("the server is closing"))
        with self._change:
            while self._idle:
                self._wake()
        self._batcher.close(max(0.1, deadline - time.perf_counter()))
        for thread in self._threads:
            thread.join(max(0.1, deadline - time.perf_counter()))

    def _batch_ran(self, samples: int, seconds: float) -> None:
        if self._observer is not None and not self._warming:
            self._observer.batch(samples, seconds)

    def _remember(self, session: str, arrived: float) -> None:
        """Remember a session's latest arrival even after its job ends, since an older request may still arrive."""
        self._arrivals[session] = arrived
        self._arrivals.move_to_end(session)
        if len(self._arrivals) > _MAX_SESSIONS:
            self._arrivals.popitem(last=False)

    def _wake(self) -> None:
        if self._idle:
            self._idle.pop().set()

    def _work(self) -> None:
        turn = threading.Event()
        while (job := self._take(turn)) is not None:
            answer, error = self._run(job)
            with self._change:  # free its place before anyone is told that it ended
                self._running.discard(job)
                self._tidy(job)
                self._recent.append(time.perf_counter())
                self._ended.notify_all()
            self._end(job, answer, error)
            del job, answer, error  # an idle thread must not hold pictures

    def _take(self, turn: threading.Event) -> Job[Any] | None:
        """Wait for the next job; None if the runtime is closed and the queue is empty."""
        while True:
            with self._change:
                if self.waiting and not self._warming:
                    job = self._next()
                    self._running.add(job)
                    return job
                if self._closed and not self.waiting:
                    return None
                self._idle.append(turn)
            turn.wait()
            turn.clear()

    def _next(self) -> Job[Any]:
        """The oldest job of the client whose turn it is; the client goes behind the others."""
        client, queue = self._queues.popitem(last=False)
        job = queue.popleft()
        if queue:
            self._queues[client] = queue
        return job

    def _tidy(self, job: Job[Any]) -> None:
        if not self._queues.get(job.client, True):
            del self._queues[job.client]
        if job.session is not None and self._sessions.get(job.session) is job:
            del self._sessions[job.session]

    def _run(self, job: Job[Any]) -> tuple[Any, Exception | None]:
        """The job's answer, or the error."""
        started = time.perf_counter()
        network = BatchedNetwork(self._batcher)
        try:
            last: Progress | None = None
            for progress in self.model.run(job.plan, network):
                job.check()
                last = progress
                if job.on_step is not None and progress.jump.index + 1 < progress.steps:
                    job.on_step(progress)
            assert last is not None  # a plan has at least one step
            own = {"queue": 1000 * (started - job.queued + network.waited), "model": 1000 * network.ran}
            last = replace(last, timings={**last.timings, **own})
            images = self.model.finish(job.plan, last)
            drawn = time.perf_counter()
            recognitions = self._recognise(last.pixels)
            timings = {**images[0].record.timings}
            timings["recognise"] = 1000 * (time.perf_counter() - drawn)
            job.check()
            answer = job.finish(JobResult(images, timings, recognitions, job.check))
            job.check()
        except Closed as error:
            return None, ShuttingDown(str(error))
        except Exception as error:
            return None, error
        if self._observer is not None:
            self._observer.drawn(len(images))
            for stage, milliseconds in timings.items():
                self._observer.stage(stage, milliseconds / 1000)
        return answer, None

    def _end(self, job: Job[Any], answer: Any = None, error: Exception | None = None) -> None:
        if self._observer is not None and isinstance(error, Superseded):
            self._observer.superseded()
        if self._observer is not None and isinstance(error, Cancelled):
            self._observer.cancelled()
        if error is None:
            job.future.set_result(answer)
        else:
            job.future.set_exception(error)

    def _wait(self) -> float:
        """The estimated time for the queue to drain, from the rate at which recent jobs ended."""
        if len(self._recent) < 2:
            return 1.0
        span = time.perf_counter() - self._recent[0]
        return min(30.0, max(0.05, span / len(self._recent) * self.waiting / 2))


def _superseded() -> Superseded:
    return Superseded("a newer request of this session took its place")


def _unrecognised(pixels: Any) -> Sequence[Recognition]:
    return [Recognition()] * len(pixels)
