"""Batching: many callers share one network, and those that call while it runs share the next batch.

The samplers stay plain generators in their own threads; each requests the network's output and waits. One thread owns
the network. When it is free, it takes the waiting calls at once, without a delay to collect more, and in fair shares:
a call for many samples is taken in parts, so that it does not hold up a call for one. Requests with different levels
and numbers of steps can share a batch, since the network gets the times of each sample.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fewstep.core.arrays import Array, Condition
from fewstep.core.parameterisations import Network
from fewstep.engines.machine import on_cpus

log = logging.getLogger(__name__)


class Closed(RuntimeError):
    """The batcher was closed while a call was waiting."""


@dataclass
class NetworkOutput:
    """The result of one call.

    Args:
        values: the network's output.
        waited: seconds until its first part ran.
        ran: seconds from then to the end.
    """

    values: Any
    waited: float
    ran: float


@dataclass(eq=False)
class _Call:
    arrays: Mapping[str, Any]
    size: int
    queued: float
    taken: int = 0
    started: float = 0.0
    ended: float = 0.0
    parts: list[Any] = field(default_factory=list)
    error: BaseException | None = None
    done: threading.Event = field(default_factory=threading.Event)

    @property
    def kind(self) -> tuple[tuple[str, tuple[int, ...], Any], ...]:
        """The properties that two calls must have in common to share a batch."""
        return tuple((name, values.shape[1:], values.dtype) for name, values in self.arrays.items())

    def rows(self, begin: int, end: int) -> dict[str, Any]:
        return {name: values[begin:end] for name, values in self.arrays.items()}


_Part = tuple[_Call, int, int]
"""Rows begin … end of a call."""


@dataclass(frozen=True)
class _Batch:
    """Parts of calls and their joined arrays, or the error that prevented joining."""

    parts: Sequence[_Part]
    arrays: Mapping[str, Any]
    error: Exception | None = None


def _joined(parts: Sequence[_Part]) -> _Batch:
    rows = [call.rows(begin, stop) for call, begin, stop in parts]
    if len(rows) == 1:
        return _Batch(parts, rows[0])
    try:
        return _Batch(parts, {name: np.concatenate([each[name] for each in rows]) for name in rows[0]})
    except Exception as error:  # such as out of memory: each alone may fit
        return _Batch(parts, {}, error)


class Batcher:
    """Runs a network in one thread for any number of callers.

    Args:
        network: the network, called only by that thread. If it has `sizes`, the batch sizes that it was built for,
            others are avoided.
        max_batch: most samples in one call.
        cpus: cores that its thread may use; None for all (Linux).
        on_batch: called with the size and the seconds of each batch.
    """

    def __init__(
        self,
        network: Network,
        max_batch: int = 32,
        cpus: Sequence[int] | None = None,
        on_batch: Callable[[int, float], None] | None = None,
    ) -> None:
        if max_batch < 1:
            raise ValueError(f"max_batch must be at least 1, got {max_batch}")
        self._network, self._max_batch, self._cpus, self._on_batch = network, max_batch, cpus, on_batch
        self._sizes = [size for size in getattr(network, "sizes", ()) if size <= max_batch]
        self._calls: deque[_Call] = deque()
        self._open: set[_Call] = set()  # unanswered calls, including those in the running batch
        self._change = threading.Condition()
        self._refusal: str | None = None  # why calls are refused
        self._thread = threading.Thread(target=self._work, name="fewstep-network", daemon=True)
        self._thread.start()

    def run(self, x: Array, time_at: Array, time_to: Array, cond: Condition) -> NetworkOutput:
        """Run the network for these samples, possibly in a shared batch; the calling thread waits.

        Raises:
            Closed: the batcher is closing, or its thread has ended.
        """
        call = _Call({"x": x, "time_at": time_at, "time_to": time_to, **cond}, int(x.shape[0]), time.perf_counter())
        with self._change:
            if self._refusal is not None:
                raise Closed(self._refusal)
            self._calls.append(call)
            self._open.add(call)
            self._change.notify()
        call.done.wait()
        with self._change:
            self._open.discard(call)
        if call.error is not None:
            raise call.error
        values = call.parts[0] if len(call.parts) == 1 else np.concatenate(call.parts)
        return NetworkOutput(values, call.started - call.queued, call.ended - call.started)

    @property
    def waiting(self) -> int:
        """The number of calls that have not been fully taken into batches."""
        return len(self._calls)

    @property
    def closed(self) -> bool:
        """Whether calls are refused, since it was closed or its thread has ended."""
        return self._refusal is not None

    def close(self, timeout: float | None = None) -> None:
        """Refuse waiting calls and let the running batch finish, within `timeout` seconds if given."""
        with self._change:
            self._refusal = self._refusal or "the server is closing"
            waiting = list(self._calls)
            self._calls.clear()
            self._change.notify()
        for call in waiting:
            _fail(call, Closed(self._refusal))
        self._thread.join(timeout)
        self._fail_open(Closed(self._refusal))

    def _work(self) -> None:
        try:
            with on_cpus(self._cpus):
                self._run_batches()
        except BaseException as error:
            log.exception("the network's thread has ended")
            with self._change:
                self._refusal = f"the network's thread has ended: {error}"
                self._calls.clear()
            self._fail_open(error)

    def _run_batches(self) -> None:
        batch = self._next(wait=True)
        while batch is not None:
            answer = self._answer(batch)
            # joined before the finished callers wake up, since they would hold the GIL while the network waits
            following = self._next(wait=False)
            self._deliver(batch, *answer)
            batch = following or self._next(wait=True)

    def _next(self, wait: bool) -> _Batch | None:
        """The next batch; None if the batcher is closed, or if nothing is waiting and `wait` is false."""
        with self._change:
            if wait:
                self._change.wait_for(lambda: self._calls or self.closed)
            if self.closed or not self._calls:
                return None
            parts = self._take()
        return _joined(parts)

    def _take(self) -> list[_Part]:
        """The parts of the next batch: equal shares of the waiting calls, then what still fits."""
        kind = self._calls[0].kind
        calls = [call for call in self._calls if call.kind == kind]
        taken = dict.fromkeys(calls, 0)
        most = min(self._max_batch, sum(call.size - call.taken for call in calls))
        room = most = max((size for size in self._sizes if size <= most), default=most)
        for share in (max(1, most // len(calls)), most):
            for call in calls:
                rows = min(share, call.size - call.taken - taken[call], room)
                taken[call] += rows
                room -= rows
        parts = []
        for call, rows in taken.items():
            if rows:
                parts.append((call, call.taken, call.taken + rows))
                call.taken += rows
        unfinished = [call for call in self._calls if call.taken < call.size]
        # calls that got a part move behind those that got none
        unfinished.sort(key=lambda call: taken.get(call, 0) > 0)
        self._calls = deque(unfinished)
        return parts

    def _answer(self, batch: _Batch) -> tuple[Any, BaseException | None]:
        """The network's output, or the error."""
        start = time.perf_counter()
        for call, begin, _ in batch.parts:
            if begin == 0:
                call.started = start
        if batch.error is not None:
            return None, batch.error
        x, time_at, time_to, *_ = batch.arrays.values()
        cond = {name: values for name, values in batch.arrays.items() if name not in ("x", "time_at", "time_to")}
        try:
            output = self._network(x, time_at, time_to, cond)
            if len(output) != len(x):
                raise RuntimeError(f"the network gave {len(output)} samples for {len(x)}")
            if self._on_batch is not None:
                self._on_batch(len(output), time.perf_counter() - start)
        except BaseException as error:
            return None, error
        return output, None

    def _deliver(self, batch: _Batch, output: Any, error: BaseException | None) -> None:
        if error is not None and len(batch.parts) > 1:  # one bad call must not fail the others
            for part in batch.parts:
                alone = _joined([part])
                self._deliver(alone, *self._answer(alone))
            return
        if error is not None:
            self._refuse(batch.parts[0][0], error)
            return
        end, first = time.perf_counter(), 0
        for call, begin, stop in batch.parts:
            call.parts.append(output[first : first + stop - begin])
            first += stop - begin
            if stop == call.size:
                call.ended = end
                call.done.set()

    def _fail_open(self, error: BaseException) -> None:
        with self._change:
            left = [call for call in self._open if not call.done.is_set()]
        for call in left:
            _fail(call, error)

    def _refuse(self, call: _Call, error: BaseException) -> None:
        with self._change:
            if call in self._calls:
                self._calls.remove(call)
        _fail(call, error)


def _fail(call: _Call, error: BaseException) -> None:
    call.error = error
    call.done.set()


class BatchedNetwork:
    """A `Network` for one job that runs in a batcher and records how long the job waited.

    Args:
        batcher: the batcher that runs its calls.
    """

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher
        self.waited = 0.0
        self.ran = 0.0

    def __call__(self, x: Array, time_at: Array, time_to: Array, cond: Condition) -> Any:
        output = self._batcher.run(x, time_at, time_to, cond)
        self.waited += output.waited
        self.ran += output.ran
        return output.values
