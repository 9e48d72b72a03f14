"""Jobs: fair turns, one place a session, stopping between jumps, companions that change nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fewstep.generation import Model, Request
from fewstep.serving.engine.batching import Closed
from fewstep.serving.engine.errors import Busy, Cancelled, ShuttingDown, Superseded
from fewstep.serving.engine.jobs import Job, JobResult, Recognition
from fewstep.serving.engine.local_runtime import LocalRuntime
from fewstep.serving.engine.metrics import Metrics
from servers import until
from tiny_models import TinyModels, onnx


class Gated:
    """A network that waits for `gate` before each call and tells when it is entered."""

    def __init__(self, network: Any) -> None:
        self._network = network
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.calls = 0

    def __call__(self, *args: Any) -> Any:
        self.entered.release()
        assert self.gate.wait(20)
        self.calls += 1
        return self._network(*args)


@pytest.fixture
def gated(tiny: TinyModels) -> tuple[Model, Gated]:
    model = onnx(tiny.student)
    network = Gated(model.network)
    return Model(model.saved, network, "onnx"), network


@pytest.fixture
def runtimes() -> Iterator[Callable[..., LocalRuntime]]:
    made: list[LocalRuntime] = []

    def make(model: Model, **options: Any) -> LocalRuntime:
        made.append(LocalRuntime(model, **options))
        return made[-1]

    yield make
    for runtime in made:
        runtime.close(0)


def images(drawn: JobResult) -> list[Any]:
    return [np.asarray(image) for image in drawn.images]


def ask(runtime: LocalRuntime, prompt: str = "red apple", steps: int = 1, seed: int = 1, **options: Any) -> Job[Any]:
    plan = runtime.model.plan_pictures(Request(prompt, seed=seed, steps=steps))
    job = Job(plan, options.pop("finish", images), **options)
    runtime.submit(job)
    return job


def test_an_image_is_the_same_alone_and_in_any_company(
    tiny: TinyModels, runtimes: Callable[..., LocalRuntime]
) -> None:
    model = onnx(tiny.student)
    runtime = runtimes(model, threads=16)
    asked = [(seed, steps) for seed in range(8) for steps in (1, 2, 4)]
    jobs = [ask(runtime, f"cat {seed}", steps, seed) for seed, steps in asked]
    for (seed, steps), job in zip(asked, jobs, strict=True):
        alone = np.asarray(model.generate(f"cat {seed}", seed=seed, steps=steps))
        assert np.abs(job.future.result(30)[0].astype(int) - alone).max() <= 1


def test_companions_share_network_calls(gated: tuple[Model, Gated], runtimes: Callable[..., LocalRuntime]) -> None:
    model, network = gated
    runtime = runtimes(model, threads=8)
    jobs = [ask(runtime)]
    network.entered.acquire(timeout=20)
    jobs += [ask(runtime, seed=seed) for seed in range(7)]
    until(lambda: runtime._batcher.waiting == 7)
    network.gate.set()
    wait([job.future for job in jobs], 30)
    assert network.calls == 2


def test_the_latest_of_a_session_wins_and_is_always_drawn(
    gated: tuple[Model, Gated], runtimes: Callable[..., LocalRuntime]
) -> None:
    model, network = gated
    runtime = runtimes(model, threads=1)
    first = ask(runtime, seed=0, session="canvas")
    network.entered.acquire(timeout=20)  # it runs
    storm = [ask(runtime, seed=seed, session="canvas") for seed in range(1, 1000)]
    assert runtime.waiting == 1
    network.gate.set()
    assert len(storm[-1].future.result(30)) == 1
    for job in (first, *storm[:-1]):
        with pytest.raises(Superseded):
            job.future.result(30)
    assert network.calls == 2  # the one that ran already, and the last


def test_sessions_do_not_stop_each_other(tiny: TinyModels, runtimes: Callable[..., LocalRuntime]) -> None:
    runtime = runtimes(onnx(tiny.student))
    jobs = [ask(runtime, seed=i, session=f"session {i}") for i in range(20)]
    assert all(len(job.future.result(30)) == 1 for job in jobs)


def test_a_running_job_stops_at_its_next_jump(
    gated: tuple[Model, Gated], runtimes: Callable[..., LocalRuntime]
) -> None:
    model, network = gated
    runtime = runtimes(model, threads=1)
    job = ask(runtime, steps=8)
    network.entered.acquire(timeout=20)
    runtime.stop(job, Cancelled("gone"))
    network.gate.set()
    with pytest.raises(Cancelled):
        job.future.result(30)
    assert network.calls == 1
    assert len(ask(runtime).future.result(30)) == 1


def test_a_job_that_is_stopped_while_it_waits_frees_its_place_and_never_runs(
    gated: tuple[Model, Gated], runtimes: Callable[..., LocalRuntime]
) -> None:
    model, network = gated
    runtime = runtimes(model, threads=1, max_waiting=1)
    running = ask(runtime)
    network.entered.acquire(timeout=20)
    waiting = ask(runtime)
    with pytest.raises(Busy, match="1 requests are already waiting") as busy:
        ask(runtime)
    assert busy.value.retry_after > 0
    runtime.stop(waiting, Cancelled("gone"))
    with pytest.raises(Cancelled):
        waiting.future.result(1)
    later = ask(runtime)
    network.gate.set()
    wait([running.future, later.future], 30)
    assert network.calls == 2


@pytest.mark.parametrize(
    ("ended", "seconds", "least", "most"),
    [
        (10, 1.0, 0.1, 2.0),  # between one job's time and the queue's
        (10, 1000.0, 30.0, 30.0),  # nobody waits longer for a guess
        (64, 0.001, 0.05, 0.05),
        (1, 1.0, 1.0, 1.0),  # of one job nothing is known yet
    ],
)
def test_who_finds_no_room_is_told_to_come_back_by_how_fast_jobs_ended_of_late(
    gated: tuple[Model, Gated],
    runtimes: Callable[..., LocalRuntime],
    monkeypatch: pytest.MonkeyPatch,
    ended: int,
    seconds: float,
    least: float,
    most: float,
) -> None:
    model, network = gated
    runtime = runtimes(model, threads=1, max_waiting=20)
    jobs = [ask(runtime)]
    network.entered.acquire(timeout=20)
    jobs += [ask(runtime) for _ in range(20)]
    with monkeypatch.context() as patched:
        patched.setattr(
            "fewstep.serving.engine.local_runtime.time", SimpleNamespace(perf_counter=lambda: 5000.0 + seconds)
        )
        runtime._recent.extend([5000.0] * ended)
        with pytest.raises(Busy) as busy:
            ask(runtime)
    assert least <= busy.value.retry_after <= most
    for job in jobs:
        runtime.stop(job, Cancelled("gone"))
    network.gate.set()


def test_clients_take_turns(gated: tuple[Model, Gated], runtimes: Callable[..., LocalRuntime]) -> None:
    model, network = gated
    runtime = runtimes(model, threads=1)
    order: list[str] = []

    def noted(name: str) -> Callable[[JobResult], None]:
        return lambda drawn: order.append(name)

    ask(runtime, finish=noted("first"))
    network.entered.acquire(timeout=20)
    greedy = [ask(runtime, client="greedy", finish=noted("greedy")) for _ in range(5)]
    modest = ask(runtime, client="modest", finish=noted("modest"))
    network.gate.set()
    wait([*(job.future for job in greedy), modest.future], 30)
    assert order.index("modest") <= 2


def test_a_crowd_of_one_client_does_not_shut_others_out(
    gated: tuple[Model, Gated], runtimes: Callable[..., LocalRuntime]
) -> None:
    model, network = gated
    runtime = runtimes(model, threads=1, max_waiting=2)
    ask(runtime, client="greedy")
    network.entered.acquire(timeout=20)
    jobs = [ask(runtime, client=client) for client in ("greedy", "greedy", "modest", "shy")]
    for client in ("greedy", "modest", "late"):  # of "late" nothing waits, but the queue is twice as full by now
        with pytest.raises(Busy):
            ask(runtime, client=client)
    network.gate.set()
    wait([job.future for job in jobs], 30)


def test_every_jump_but_the_last_is_seen(tiny: TinyModels, runtimes: Callable[..., LocalRuntime]) -> None:
    runtime = runtimes(onnx(tiny.student))
    jumps: list[int] = []
    ask(runtime, steps=4, on_step=lambda progress: jumps.append(progress.jump.index)).future.result(30)
    assert jumps == [0, 1, 2]


def test_an_error_in_the_answer_is_the_jobs_alone(tiny: TinyModels, runtimes: Callable[..., LocalRuntime]) -> None:
    runtime = runtimes(onnx(tiny.student), threads=1)
    job = ask(runtime, finish=lambda drawn: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        job.future.result(30)
    assert len(ask(runtime).future.result(30)) == 1


def test_timings_tell_waiting_from_work(gated: tuple[Model, Gated], runtimes: Callable[..., LocalRuntime]) -> None:
    model, network = gated
    runtime = runtimes(model, threads=1)
    first = ask(runtime)
    network.entered.acquire(timeout=20)
    second = ask(runtime, finish=lambda drawn: drawn.timings)
    time.sleep(0.3)
    network.gate.set()
    first.future.result(30)
    assert second.future.result(30)["queue"] >= 300
    assert set(second.future.result()) >= {"queue", "encode", "model", "sampler", "decode"}


def test_closing_ends_what_runs_and_refuses_what_comes(
    gated: tuple[Model, Gated], runtimes: Callable[..., LocalRuntime]
) -> None:
    model, network = gated
    runtime = runtimes(model, threads=1)
    running, waiting = ask(runtime), ask(runtime)
    network.entered.acquire(timeout=20)
    closing = threading.Thread(target=runtime.close, args=(20,))
    closing.start()
    while True:
        try:
            ask(runtime)
        except ShuttingDown:
            break
    network.gate.set()
    closing.join(30)
    assert len(running.future.result(1)) == len(waiting.future.result(1)) == 1


def test_closing_without_patience_stops_everything(
    gated: tuple[Model, Gated], runtimes: Callable[..., LocalRuntime]
) -> None:
    model, network = gated
    runtime = runtimes(model, threads=1)
    running, waiting = ask(runtime, steps=8), ask(runtime)
    network.entered.acquire(timeout=20)
    threading.Timer(0.2, network.gate.set).start()
    runtime.close(0)
    for job in (running, waiting):
        with pytest.raises(ShuttingDown):
            job.future.result(1)


def test_the_latest_of_a_session_goes_by_arrival_and_is_remembered(
    gated: tuple[Model, Gated], runtimes: Callable[..., LocalRuntime]
) -> None:
    model, network = gated
    metrics = Metrics()
    runtime = runtimes(model, threads=1, observer=metrics)
    later = ask(runtime, session="canvas", arrived=2.0)
    network.entered.acquire(timeout=20)
    for arrived in (0.5, 1.0):
        with pytest.raises(Superseded):
            ask(runtime, session="canvas", arrived=arrived)
    network.gate.set()
    assert len(later.future.result(30)) == 1
    with pytest.raises(Superseded):
        ask(runtime, session="canvas", arrived=1.0)  # it was on its way when the later one had ended
    assert b"fewstep_superseded_total 3.0" in metrics.text()
    assert len(ask(runtime, session="another", arrived=1.0).future.result(30)) == 1


def test_a_bounded_number_of_sessions_is_remembered(
    tiny: TinyModels, runtimes: Callable[..., LocalRuntime], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fewstep.serving.engine.local_runtime._MAX_SESSIONS", 2)
    runtime = runtimes(onnx(tiny.student))
    for name in ("a", "b", "a", "c"):
        ask(runtime, session=name).future.result(30)
    assert list(runtime._arrivals) == ["a", "c"]


def test_nothing_is_made_of_images_that_nobody_waits_for(
    tiny: TinyModels, runtimes: Callable[..., LocalRuntime]
) -> None:
    looking, go_on, kept = threading.Event(), threading.Event(), []

    def look(pixels: Any) -> list[Recognition]:
        looking.set()
        assert go_on.wait(20)
        return [Recognition()] * len(pixels)

    runtime = runtimes(onnx(tiny.student), recognise=look)
    job = ask(runtime, finish=kept.append)
    assert looking.wait(20)
    runtime.stop(job, Cancelled("gone"))
    go_on.set()
    with pytest.raises(Cancelled):
        job.future.result(30)
    assert kept == []


def test_an_answer_asks_whether_it_is_still_waited_for(
    tiny: TinyModels, runtimes: Callable[..., LocalRuntime]
) -> None:
    encoding, go_on, kept = threading.Event(), threading.Event(), []

    def finish(drawn: JobResult) -> None:
        encoding.set()
        assert go_on.wait(20)
        drawn.check()
        kept.append(drawn)

    runtime = runtimes(onnx(tiny.student))
    job = ask(runtime, finish=finish)
    assert encoding.wait(20)
    runtime.stop(job, Cancelled("gone"))
    go_on.set()
    with pytest.raises(Cancelled):
        job.future.result(30)
    assert kept == []


def test_warming_up_needs_no_place_and_jobs_wait_for_its_end_uncounted(
    gated: tuple[Model, Gated], runtimes: Callable[..., LocalRuntime]
) -> None:
    model, network = gated
    metrics = Metrics()
    runtime = runtimes(model, threads=1, max_waiting=0, observer=metrics)
    warming = threading.Thread(target=runtime.warm_up, args=([Request("cat"), Request("cat", images=2)],))
    warming.start()
    network.entered.acquire(timeout=20)
    early = ask(runtime)
    with pytest.raises(Busy):
        ask(runtime)
    assert runtime.running == 0
    assert not early.future.done()
    network.gate.set()
    assert len(early.future.result(30)) == 1
    warming.join(30)
    text = metrics.text()
    assert b"fewstep_images_total 1.0" in text
    assert b"fewstep_network_evaluations_total 1.0" in text
    assert b"fewstep_batch_samples_count 1.0" in text


def test_closing_while_it_warms_up_waits_no_longer_than_its_patience(
    gated: tuple[Model, Gated], runtimes: Callable[..., LocalRuntime]
) -> None:
    model, network = gated
    runtime = runtimes(model, threads=1)
    ends: list[Exception] = []

    def warm_up() -> None:
        try:
            runtime.warm_up([Request("cat")] * 10)
        except ShuttingDown as error:
            ends.append(error)

    warming = threading.Thread(target=warm_up)
    warming.start()
    network.entered.acquire(timeout=20)
    early = ask(runtime)
    begun = time.perf_counter()
    runtime.close(0.3)  # the network hangs all the while
    warming.join(5)
    assert time.perf_counter() - begun < 4
    assert len(ends) == 1
    with pytest.raises(ShuttingDown):
        early.future.result(0)
    network.gate.set()


def test_a_network_whose_thread_has_ended_closes_the_runtime(
    tiny: TinyModels, runtimes: Callable[..., LocalRuntime]
) -> None:
    runtime = runtimes(onnx(tiny.student), threads=1, cpus=[999])
    for _ in range(2):
        with pytest.raises((ValueError, ShuttingDown), match="999"):
            ask(runtime).future.result(30)
    assert runtime.closed
    with pytest.raises((ValueError, Closed), match="999"):
        runtime.warm_up([Request("cat")])
