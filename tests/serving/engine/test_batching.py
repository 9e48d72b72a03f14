"""Calls share batches, fairly, and none is spoilt by its company."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fewstep.serving.engine.batching import Batcher, Closed


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
    busy = threading.Thread(target=lambda: together(lambda: call(batcher, [-1.0])))
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
    batcher = Batcher(network, max_batch=4)
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


def test_who_got_a_part_goes_behind_who_got_none() -> None:
    network = Recorder()
    batcher = Batcher(network, max_batch=2)
    values = [[10.0, 11.0], [20.0, 21.0], [30.0, 31.0]]
    results = behind_a_running_batch(
        network, batcher, *(lambda given=given: call(batcher, given) for given in values)
    )
    assert [result.tolist() for result in results] == [[2 * value for value in given] for given in values]
    begun = {int(value) // 10 for batch in network.batches[1:3] for value in batch}
    assert begun == {1, 2, 3}
    batcher.close()


@pytest.mark.parametrize("max_batch", [4, 6])
def test_batches_have_the_sizes_that_the_network_was_built_for(max_batch: int) -> None:
    network = Recorder()
    network.sizes = (1, 4, 8)  # type: ignore[attr-defined]
    batcher = Batcher(network, max_batch)
    results = behind_a_running_batch(
        network, batcher, lambda: call(batcher, [1.0, 2.0]), lambda: call(batcher, [3.0, 4.0, 5.0, 6.0])
    )
    assert [len(batch) for batch in network.batches] == [1, 4, 1, 1]
    assert results[0].tolist() == [2.0, 4.0]
    batcher.close()


@pytest.mark.parametrize("wrong", [lambda *args: None, lambda x, *args: x[:-1]])
def test_a_network_that_gives_something_else_fails_its_calls_and_goes_on(wrong: Callable[..., Any]) -> None:
    batcher = Batcher(wrong)
    for _ in range(2):
        (result,) = together(lambda: call(batcher, [1.0]))
        assert isinstance(result, (TypeError, RuntimeError))
    assert not batcher.closed
    batcher.close()


def test_calls_that_cannot_be_joined_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise MemoryError

    network = Recorder()
    batcher = Batcher(network)
    monkeypatch.setattr("fewstep.serving.engine.batching.np.concatenate", full)
    results = behind_a_running_batch(network, batcher, lambda: call(batcher, [1.0]), lambda: call(batcher, [2.0]))
    assert [result.tolist() for result in results] == [[2.0], [4.0]]
    batcher.close()


def test_a_thread_that_ends_takes_nobody_with_it() -> None:
    network = Recorder()
    batcher = Batcher(network)

    def broken(*args: Any) -> None:
        raise KeyError("a bug")

    batcher._deliver = broken  # type: ignore[method-assign]
    results = behind_a_running_batch(network, batcher, lambda: call(batcher, [1.0]), lambda: call(batcher, [2.0]))
    assert [type(result) for result in results] == [KeyError, KeyError]
    assert batcher.closed
    with pytest.raises(Closed, match="ended: 'a bug'"):
        call(batcher, [3.0])
    batcher.close()


def test_cores_that_are_not_there_are_told_to_the_caller() -> None:
    batcher = Batcher(Recorder(), cpus=[999])
    (result,) = together(lambda: call(batcher, [1.0]))
    assert "[999]" in str(result)
    assert batcher.closed
