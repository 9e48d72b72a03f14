"""Requests as jobs: queued fairly, run in threads, stopped between two jumps, the latest of a session alone.

What happens to a job's result when nobody waits any more: it is dropped. A job that is stopped while it waits never
runs; one that runs ends at its next jump, and one that just ended gives its images to nobody.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from fewstep.generation import Model, Request
from fewstep.generation.planning import Plan
from fewstep.generation.running import Progress
from fewstep.serving.engine.batching import Batcher, Closed, Seat
from fewstep.serving.engine.jobs import Busy, Cancelled, Drawn, Job, Seen, ShuttingDown, Stopped, Superseded

log = logging.getLogger(__name__)

T = TypeVar("T")
_SESSIONS = 10_000
"""Sessions of which it is remembered when their latest request arrived."""


class Watcher(Protocol):
    """Who wants to know what happens: `fewstep.serving.engine.metrics.Metrics`."""

    def batch(self, samples: int, seconds: float) -> None: ...

    def stage(self, name: str, seconds: float) -> None: ...

    def drawn(self, images: int) -> None: ...

    def superseded(self) -> None: ...

    def cancelled(self) -> None: ...


class Runtime:
    """Runs jobs of one model.

    Args:
        model: what draws.
        threads: jobs that run at a time; their network calls share batches.
        waiting: jobs that may wait beside them.
        batch: samples in one network call.
        cpus: the cores of the network's thread, None for all.
        watcher: told what happens.
        look: recognises finished pixels [b, c, h, w]; None: nobody looks.
    """

    def __init__(
        self,
        model: Model,
        threads: int = 32,
        waiting: int = 256,
        batch: int = 32,
        cpus: Sequence[int] | None = None,
        watcher: Watcher | None = None,
        look: Callable[[Any], Sequence[Seen]] | None = None,
    ) -> None:
        self.model = model
        self._watcher, self._look = watcher, look or _nobody_looks
        self._most_waiting = waiting
        self._batcher = Batcher(model.network, batch, cpus, self._batch_ran)
        self._change = threading.RLock()
        self._ended = threading.Condition(self._change)  # wakes who closes
        self._idle: list[threading.Event] = []  # of job threads; the last to rest is the first to work: it is warm
        self._queues: OrderedDict[str, deque[Job[Any]]] = OrderedDict()
        self._running: set[Job[Any]] = set()
        self._sessions: dict[str, Job[Any]] = {}
        self._arrivals: OrderedDict[str, float] = OrderedDict()  # of each session's latest request
        self._closed = False
        self._warming = False
        self._recent: deque[float] = deque(maxlen=64)  # when jobs ended
        self._threads = [
            threading.Thread(target=self._work, name=f"fewstep-job-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def closed(self) -> bool:
        """Whether nothing can be drawn any more: it was closed, or the network's thread has ended."""
        return self._closed or self._batcher.closed

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return sum(map(len, self._queues.values()))

    @property
    def running(self) -> int:
        """Jobs that run."""
        return len(self._running)

    def warm_up(self, requests: Iterable[Request]) -> None:
        """Draw these beside the queue, uncounted, while jobs wait.

        Raises:
            ShuttingDown: it was closed meanwhile.
        """
        self._warming = True
        try:
            for request in requests:
                plan = self.model.plan_pictures(request)
                *_, last = self.model.run(plan, Seat(self._batcher))
                self.model.finish(plan, last)
                self._look(last.pixels)
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

    def submit(
        self,
        request: Request,
        finish: Callable[[Drawn], T],
        client: str = "",
        session: str | None = None,
        seen: Callable[[Progress], None] | None = None,
        arrived: float | None = None,
        plan: Plan | None = None,
    ) -> Job[T]:
        """Queue a request; `job.future` gets what `finish` makes of its images. It is planned here, unless it is.

        A request of a session replaces the one that session has in the queue and stops the one it has running. Which
        of a session's is the latest goes by when they arrived, `time.perf_counter()`; now if left out.

        Raises:
            RequestError: the request is not one this model can serve.
            Superseded: a request of this session that arrived later was here before.
            Busy: the queue is full (`check_room`); a session that already has a place in it keeps it.
            ShuttingDown: the server is closing.
        """
        if arrived is None:
            arrived = time.perf_counter()
        job = Job(request, plan or self.model.plan_pictures(request), finish, client, session, seen)
        with self._change:
            self.check_room(client, session)
            if session is not None and arrived < self._arrivals.get(session, arrived):
                if self._watcher is not None:
                    self._watcher.superseded()
                raise _superseded()
            earlier = None if session is None else self._sessions.get(session)
            if session is not None:
                self._sessions[session] = job
                self._remember(session, arrived)
            self._queues.setdefault(client, deque()).append(job)
            self._wake()
        if earlier is not None:
            self.stop(earlier, _superseded())
        return job

    def check_room(self, client: str = "", session: str | None = None) -> None:
        """Raise Busy or ShuttingDown where `submit` would: before anything large is made ready for it.

        One client's crowd does not shut others out: in a full queue a client that has nothing in it gets a place, as
        long as it is not twice as full.
        """
        with self._change:
            if self._closed:
                raise ShuttingDown("the server is closing")
            free = len(self._threads) - len(self._running)
            most = self._most_waiting * (1 if client in self._queues else 2)
            if session not in self._sessions and self.waiting - free >= most:
                raise Busy(self.waiting, self._wait())

    def stop(self, job: Job[Any], reason: Stopped) -> None:
        """Take a job from the queue, or end it at its next jump; nothing if it is over."""
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

    def close(self, patience: float = 30.0) -> None:
        """Refuse new jobs, let the others end for `patience` seconds, and stop what is left."""
        deadline = time.perf_counter() + patience
        with self._change:
            self._closed = True
            self._ended.wait_for(lambda: not self.waiting and not self._running, max(0.0, patience))
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
        if self._watcher is not None and not self._warming:
            self._watcher.batch(samples, seconds)

    def _remember(self, session: str, arrived: float) -> None:
        """Beyond the job's end: an older request may still be on its way here."""
        self._arrivals[session] = arrived
        self._arrivals.move_to_end(session)
        if len(self._arrivals) > _SESSIONS:
            self._arrivals.popitem(last=False)

    def _wake(self) -> None:
        if self._idle:
            self._idle.pop().set()

    def _work(self) -> None:
        turn = threading.Event()
        while (job := self._take(turn)) is not None:
            answer, error = self._run(job)
            with self._change:  # its place is free before anybody hears of its end
                self._running.discard(job)
                self._tidy(job)
                self._recent.append(time.perf_counter())
                self._ended.notify_all()
            self._end(job, answer, error)
            del job, answer, error  # a thread that rests holds no pictures

    def _take(self, turn: threading.Event) -> Job[Any] | None:
        """The next job, waited for; None when the runtime is closed and nothing waits."""
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
        """The job's answer, or why there is none."""
        started = time.perf_counter()
        seat = Seat(self._batcher)
        try:
            last: Progress | None = None
            for progress in self.model.run(job.plan, seat):
                job.check()
                last = progress
                if job.seen is not None and progress.jump.index + 1 < progress.steps:
                    job.seen(progress)
            assert last is not None  # a plan has at least one step
            own = {"queue": 1000 * (started - job.queued + seat.waited), "model": 1000 * seat.ran}
            last = replace(last, timings={**last.timings, **own})
            images = self.model.finish(job.plan, last)
            drawn = time.perf_counter()
            seen = self._look(last.pixels)
            timings = {**images[0].record.timings}
            timings["recognise"] = 1000 * (time.perf_counter() - drawn)
            job.check()
            answer = job.finish(Drawn(images, timings, seen, job.check))
            job.check()
        except Closed as error:
            return None, ShuttingDown(str(error))
        except Exception as error:
            return None, error
        if self._watcher is not None:
            self._watcher.drawn(len(images))
            for stage, milliseconds in timings.items():
                self._watcher.stage(stage, milliseconds / 1000)
        return answer, None

    def _end(self, job: Job[Any], answer: Any = None, error: Exception | None = None) -> None:
        if self._watcher is not None and isinstance(error, Superseded):
            self._watcher.superseded()
        if self._watcher is not None and isinstance(error, Cancelled):
            self._watcher.cancelled()
        if error is None:
            job.future.set_result(answer)
        else:
            job.future.set_exception(error)

    def _wait(self) -> float:
        """How long the queue should take, from how fast jobs have ended of late."""
        if len(self._recent) < 2:
            return 1.0
        span = time.perf_counter() - self._recent[0]
        return min(30.0, max(0.05, span / len(self._recent) * self.waiting / 2))


def _superseded() -> Superseded:
    return Superseded("a newer request of this session took its place")


def _nobody_looks(pixels: Any) -> Sequence[Seen]:
    return [Seen()] * len(pixels)
