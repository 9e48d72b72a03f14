"""What a service needs of generation: models beside each other, streams that wait, records of where."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fewstep.generation import Model, Request, RequestError
from fewstep.models.finding import find
from tiny_models import TinyModels, onnx


def still(x: Any, time_at: Any, time_to: Any, cond: Any) -> Any:
    return np.zeros_like(x)


def test_two_models_at_once_do_not_disturb_each_other(tiny: TinyModels) -> None:
    student, teacher = onnx(tiny.student), onnx(tiny.teacher)
    requests = [(model, Request("cat face", seed=3, steps=2)) for model in (student, teacher)]
    alone = [model.generate_all(request)[0] for model, request in requests]
    streams = [(model, model.plan(request)) for model, request in requests]
    running = [model.run(plan) for model, plan in streams]
    steps = list(zip(*running, strict=True))  # a jump of one, a jump of the other, and again
    for i, (model, plan) in enumerate(streams):
        image = model.finish(plan, steps[-1][i])[0]
        assert image.tobytes() == alone[i].tobytes()
        assert image.record.model_hash == model.hash
        assert image.record.network_evaluations == alone[i].record.network_evaluations
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(lambda pair: pair[0].generate_all(pair[1])[0], requests * 4))
    for image, (model, _) in zip(again, requests * 4, strict=True):
        assert image.tobytes() == alone[0 if model is student else 1].tobytes()
    assert alone[0].tobytes() != alone[1].tobytes()


def test_what_a_reader_does_between_jumps_is_not_the_samplers_time(
    tiny: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def clock() -> float:  # every look at it takes a second
        nonlocal now
        now += 1.0
        return now

    monkeypatch.setattr("fewstep.generation.running.time", SimpleNamespace(perf_counter=clock))
    model = Model(tiny.student, still, "fake")
    counted = []
    for progress in model.run(model.plan(Request(seed=1, steps=3))):
        counted.append(progress.timings["sampler"] + progress.timings["model"])
        now += 1_000_000.0
    assert counted == sorted(counted)
    assert counted[-1] < 1000 * 100


def test_previews_are_what_the_model_thinks_of_not_the_noisy_state(tiny: TinyModels) -> None:
    model = onnx(tiny.student)
    first, *_ = model.run(model.plan(Request("cat", seed=1, steps=2)))
    decode = model.spec.codec.decode
    np.testing.assert_array_equal(first.previews, decode(first.jump.estimate))
    assert np.abs(first.previews - decode(first.jump.x)).max() > 0.5


def test_a_stream_can_be_left_and_the_next_request_is_whole(tiny: TinyModels) -> None:
    model = onnx(tiny.student)
    expected = model.generate("rocket", seed=2, steps=3)
    stream = model.run(model.plan(Request("cat", seed=1, steps=3)))
    next(stream)
    stream.close()
    assert model.generate("rocket", seed=2, steps=3).tobytes() == expected.tobytes()


def test_the_last_jump_is_the_picture(tiny: TinyModels) -> None:
    model = onnx(tiny.teacher)
    request = Request("cat", seed=1, steps=3)
    plan = model.plan(request)
    seen = list(model.run(plan))
    assert [p.evaluations for p in seen] == [4, 8, 10]  # guided Heun: two and two, the last step a jump
    image = model.finish(plan, seen[-1])[0]
    assert image.tobytes() == model.generate("cat", seed=1, steps=3).tobytes()
    assert image.tobytes() != model.finish(plan, seen[0])[0].tobytes()


@pytest.mark.parametrize("device", ["cpu", "cuda:1", "mps"])
def test_the_record_says_which_device_drew(tiny: TinyModels, device: str) -> None:
    import platform

    record = Model(tiny.student, still, "eager", device=device).generate(seed=1).record
    assert record.device == (platform.machine() if device == "cpu" else device)


def test_guidance_needs_something_to_strengthen(tiny: TinyModels) -> None:
    points = Model(find(tiny.points.directory), still, "fake")
    assert points.plan(Request(guidance=1.0)).conditions.guidance == 1.0
    with pytest.raises(RequestError, match="no prompt or label for guidance to strengthen") as error:
        points.plan(Request(guidance=2.0))
    assert error.value.field == "guidance"
