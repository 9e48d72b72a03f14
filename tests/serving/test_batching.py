"""Calls share batches, fairly, and none is spoilt by its company."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fewstep.serving.batching import Batcher, Closed


class Recorder:
    """A network that doubles x, notes its batches, and waits for `gate` before each."""

    def __init__(self) -> None:
        self.batches: list[Any] = []
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)

    def __call__(self, x: Any, time_at: Any, time_to: Any, cond: Any) -> Any:
        self.entered.release()
        self.gate.wait(10)
        self.batches.append(x[:, 0].copy())
        if np.isnan(x).any():
            raise FloatingPointError("nan")
        return 2 * x + time_at[:, None] + cond.get("guidance", np.zeros(len(x)))[:, None]


def call(batcher: Batcher, values: list[float], time: float = 0.0, **cond: Any) -> Any:
    x = np.array(values, dtype=np.float64)[:, None]
    times = np.full(len(x), time)
    return batcher.run(x, times, np.zeros(len(x)), cond).values[:, 0]


def together(*calls: Callable[[], Any]) -> list[Any]:
    """What each of several calls from threads of their own gives; an exception counts as a result."""
    results: list[Any] = [None] * len(calls)

    def run(place: int) -> None:
        try:
            results[place] = calls[place]()
        except Exception as error:
            results[place] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return results


def behind_a_running_batch(network: Recorder, batcher: Batcher, *calls: Callable[[], Any]) -> list[Any]:
    """The results of calls that all wait while the network is busy with another."""
    busy = threading.Thread(target=lambda: call(batcher, [-1.0]))
    busy.start()
    network.entered.acquire(timeout=10)
    waiting = threading.Thread(target=lambda: results.extend(together(*calls)))
    results: list[Any] = []
    waiting.start()
    while batcher.waiting < len(calls):
        pass
    network.gate.set()
    waiting.join(20)
    busy.join(20)
    return results


def test_calls_that_wait_share_the_next_batch_with_levels_of_their_own() -> None:
    network = Recorder()
    batcher = Batcher(network)
    results = behind_a_running_batch(
        network, batcher, lambda: call(batcher, [1.0], 0.5), lambda: call(batcher, [2.0, 3.0], 0.25)
    )
    assert [len(batch) for batch in network.batches] == [1, 3]
    assert results[0].tolist() == [2.5]
    assert results[1].tolist() == [4.25, 6.25]
    batcher.close()


def test_a_call_for_many_does_not_hold_up_a_call_for_one() -> None:
    network = Recorder()
    batcher = Batcher(network, most=4)
    many = [float(i) for i in range(10, 22)]
    results = behind_a_running_batch(network, batcher, lambda: call(batcher, many), lambda: call(batcher, [1.0]))
    assert 1.0 in network.batches[1]  # the first one after it waited
    assert max(map(len, network.batches)) <= 4
    assert results[0].tolist() == [2 * value for value in many]
    assert results[1].tolist() == [2.0]
    batcher.close()


def test_calls_of_another_kind_run_apart() -> None:
    network = Recorder()
    batcher = Batcher(network)
    results = behind_a_running_batch(
        network,
        batcher,
        lambda: call(batcher, [1.0], guidance=np.array([3.0])),
        lambda: call(batcher, [2.0]),
    )
    assert [len(batch) for batch in network.batches] == [1, 1, 1]
    assert [result.tolist() for result in results] == [[5.0], [4.0]]
    batcher.close()


def test_a_call_that_fails_does_not_spoil_its_neighbours() -> None:
    network = Recorder()
    batcher = Batcher(network)
    results = behind_a_running_batch(
        network, batcher, lambda: call(batcher, [np.nan]), lambda: call(batcher, [2.0]), lambda: call(batcher, [3.0])
    )
    assert isinstance(results[0], FloatingPointError)
    assert [result.tolist() for result in results[1:]] == [[4.0], [6.0]]
    assert call(batcher, [5.0]).tolist() == [10.0]
    batcher.close()


def test_closing_ends_the_running_batch_and_refuses_what_waits() -> None:
    network = Recorder()
    batcher = Batcher(network)
    outcomes: list[Any] = []
    first = threading.Thread(target=lambda: outcomes.extend(together(lambda: call(batcher, [1.0]))))
    first.start()
    network.entered.acquire(timeout=10)
    second = threading.Thread(target=lambda: outcomes.extend(together(lambda: call(batcher, [2.0]))))
    second.start()
    while batcher.waiting < 1:
        pass
    closing = threading.Thread(target=batcher.close)
    closing.start()
    second.join(10)
    network.gate.set()
    first.join(10)
    closing.join(10)
    assert isinstance(outcomes[0], Closed)
    assert outcomes[1].tolist() == [2.0]
    with pytest.raises(Closed):
        call(batcher, [3.0])
