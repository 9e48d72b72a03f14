"""What a service needs of generation: models beside each other, streams that wait, records of where."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from fewstep.generation import Model, Request, RequestError
from fewstep.models.saved import find
from tiny_models import TinyModels, onnx


def still(x: Any, time_at: Any, time_to: Any, cond: Any) -> Any:
    return np.zeros_like(x)


def test_two_models_at_once_do_not_disturb_each_other(tiny: TinyModels) -> None:
    student, teacher = onnx(tiny.student), onnx(tiny.teacher)
    requests = [(model, Request("cat face", seed=3, steps=2)) for model in (student, teacher)]
    alone = [model.generate_all(request)[0] for model, request in requests]
    streams = [(model, model.plan(request), request) for model, request in requests]
    running = [model.run(plan) for model, plan, _ in streams]
    steps = list(zip(*running, strict=True))  # a jump of one, a jump of the other, and again
    for i, (model, plan, request) in enumerate(streams):
        image = model.finish(request, plan, steps[-1][i])[0]
        assert image.tobytes() == alone[i].tobytes()
        assert image.record.model_hash == model.hash
        assert image.record.network_evaluations == alone[i].record.network_evaluations
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(lambda pair: pair[0].generate_all(pair[1])[0], requests * 4))
    for image, (model, _) in zip(again, requests * 4, strict=True):
        assert image.tobytes() == alone[0 if model is student else 1].tobytes()
    assert alone[0].tobytes() != alone[1].tobytes()


def test_what_a_reader_does_between_jumps_is_not_the_samplers_time(tiny: TinyModels) -> None:
    model = Model(tiny.student, still, "fake")
    waited = 0.0
    for progress in model.run(model.plan(Request(seed=1, steps=4))):
        start = time.perf_counter()
        time.sleep(0.05)
        waited += 1000 * (time.perf_counter() - start)
        counted = progress.timings["sampler"]
    assert counted < waited - 100  # three of the four waits would be in it


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
    image = model.finish(request, plan, seen[-1])[0]
    assert image.tobytes() == model.generate("cat", seed=1, steps=3).tobytes()
    assert image.tobytes() != model.finish(request, plan, seen[0])[0].tobytes()


@pytest.mark.parametrize("device", ["cpu", "cuda:1", "mps"])
def test_the_record_says_which_device_drew(tiny: TinyModels, device: str) -> None:
    import platform

    record = Model(tiny.student, still, "eager", device=device).generate(seed=1).record
    assert record.device == (platform.machine() if device == "cpu" else device)


def test_guidance_needs_something_to_strengthen(tiny: TinyModels) -> None:
    points = Model(find(tiny.points.directory), still, "fake")
    assert points.plan(Request(guidance=1.0)).guidance == 1.0
    with pytest.raises(RequestError, match="no prompt or label for guidance to strengthen") as error:
        points.plan(Request(guidance=2.0))
    assert error.value.field == "guidance"
