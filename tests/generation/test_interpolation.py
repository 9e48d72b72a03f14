"""The way between two seeds and two prompts: its ends are what each draws, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fewstep.core.levels import CLEAN, from_ratio
from fewstep.core.parameterisations import Targets
from fewstep.core.randomness import NoiseBetween, noise
from fewstep.generation import Model, Request, RequestError
from fewstep.models.codecs import SpaceToDepth
from fewstep.models.conditioning import Conditioning, between, conditioners
from tiny_models import TinyModels, onnx


@pytest.fixture(scope="module")
def model(tiny: TinyModels) -> Model:
    return onnx(tiny.student)


ENDS = [{"to_seed": 9}, {"to_prompt": "red apple with a face"}, {"to_seed": 9, "to_prompt": ""}]


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("end", ENDS)
def test_the_ends_are_the_plain_images_to_the_bit(model: Model, end: dict[str, Any], steps: int) -> None:
    frames = model.generate_all(Request("cat", seed=4, images=4, steps=steps, **end))
    last = Request(end.get("to_prompt", "cat"), seed=end.get("to_seed", 4), steps=steps)
    ends = [model.generate("cat", seed=4, steps=steps), model.generate_all(last)[0]]
    for made, plain in zip((frames[0], frames[-1]), ends, strict=True):
        assert made.tobytes() == plain.tobytes()
    assert len({frame.tobytes() for frame in frames}) == 4


def test_a_frame_is_drawn_again_by_its_record(model: Model) -> None:
    frames = model.generate_all(Request("cat", seed=4, images=4, to_seed=9, to_prompt="dog face"))
    for index, frame in enumerate(frames):
        record = frame.record
        assert (record.prompt, record.seed, record.index) == ("cat", 4, index)
        settings = dict(record.sampler_settings)
        assert settings == {"to_seed": 9, "to_prompt": "dog face", "position": index / 3}
        again = model.generate(record.prompt, seed=record.seed, steps=record.steps, **settings)
        assert again.tobytes() == frame.tobytes()


def test_frames_lie_between(model: Model) -> None:
    frames = model.generate_all(Request("cat", seed=4, images=9, to_seed=9))
    pixels = np.stack([np.asarray(frame).astype(float) for frame in frames])
    steps = np.abs(np.diff(pixels, axis=0)).mean(axis=(1, 2, 3))
    assert steps.max() < 0.5 * np.abs(pixels[-1] - pixels[0]).mean()


def test_of_a_gaussian_model_the_way_is_that_of_its_noise() -> None:
    """Its consistency function is linear: the mean of two frames' data is what the mean of their noise becomes."""
    shrink, shape, at = np.diag([0.3, 0.9]), (2,), from_ratio(np.full(3, 80.0))

    class Linear:
        targets, epsilon = Targets.CLEAN, 0.0

        def __call__(self, x: Any, at: Any, to: Any, cond: Any) -> Any:
            return x @ shrink / 80

    x = 80.0 * NoiseBetween(1, 2, (0.0, 0.5, 1.0), shape)(0)
    first, middle, last = Linear()(x, at, CLEAN.batch(3), {})
    a, b = noise(1, shape).astype(float), noise(2, shape).astype(float)
    angle = np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    np.testing.assert_allclose(middle, (first + last) / (2 * np.cos(angle / 2)), rtol=1e-5)


def test_texts_are_mixed_and_the_shorter_is_repeated() -> None:
    conditioning = Conditioning(SpaceToDepth(), conditioners(8))
    one, two = (conditioning.encode(3, prompt=[text] * 3) for text in ("cat", "red apple pie"))
    mixed = between(one, two, (0.0, 0.5, 1.0))
    for name in ("text", "text_mask"):
        np.testing.assert_array_equal(mixed[name][0], one[name][0])
        np.testing.assert_array_equal(mixed[name][2], two[name][2])
    count = int(two["text_mask"][0].sum())
    assert count > int(one["text_mask"][0].sum()) == 1
    np.testing.assert_array_equal(mixed["text_mask"][1], two["text_mask"][0])
    np.testing.assert_allclose(mixed["text"][1, :count], (one["text"][0, :1] + two["text"][0, :count]) / 2, rtol=1e-6)
    assert not mixed["text"][1, count:].any()


def test_words_unknown_at_either_end_are_told(model: Model) -> None:
    frames = model.generate_all(Request("cat zebra", to_prompt="giraffe", seed=1, images=2))
    assert {"zebra", "giraffe"} <= set(frames[0].record.unknown_words)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"to_seed": -1}, "to_seed"),
        ({"to_seed": True}, "to_seed"),
        ({"to_prompt": 3}, "to_prompt"),
        ({"to_prompt": "x", "position": 1.5}, "position"),
        ({"to_prompt": "x", "position": float("nan")}, "position"),
        ({"to_prompt": "x", "position": 0.5, "images": 2}, "position"),
        ({"position": 0.5}, "position"),
        ({"to_prompt": "x"}, "images"),
    ],
)
def test_what_is_wrong_is_named(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestError) as refused:
        Request("cat", **wrong)
    assert refused.value.field == field


def test_a_model_without_text_has_no_way_to_a_prompt_but_to_a_seed(tiny: TinyModels) -> None:
    points = onnx(tiny.points)
    with pytest.raises(RequestError, match="takes no prompt: leave to_prompt empty") as refused:
        points.plan(Request(to_prompt="x", images=2))
    assert refused.value.field == "to_prompt"
    *_, last = points.run(points.plan(Request(seed=1, to_seed=2, images=3)))
    assert last.jump.x.shape == (3, 2)
