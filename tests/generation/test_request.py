"""A request is checked before anything runs, field by field."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fewstep.core.randomness import MAX_SEED
from fewstep.generation import Request, RequestError
from fewstep.generation.request import IMAGES, SIZE, STEPS

WRONG: list[tuple[str, Any]] = [
    ("prompt", None),
    ("prompt", "x" * 32_001),
    ("prompt", "\udcff"),
    ("negative_prompt", 3),
    ("seed", -1),
    ("seed", MAX_SEED + 1),
    ("seed", 1.0),
    ("seed", True),
    ("seed", "7"),
    ("steps", 0),
    ("steps", STEPS.maximum + 1),
    ("steps", 1.5),
    ("steps", True),
    ("images", 0),
    ("images", IMAGES.maximum + 1),
    ("images", 2.0),
    ("guidance", 0.5),
    ("guidance", float("nan")),
    ("guidance", "strong"),
    ("gamma", -0.1),
    ("gamma", 1.1),
    ("gamma", float("nan")),
    ("size", 7),
    ("size", 64.5),
    ("size", "64x64x64"),
    ("size", (64,)),
    ("size", (7, 64)),
    ("size", (64, SIZE.maximum + 1)),
    ("size", (64.0, 64)),
    ("background", "blue"),
    ("background", "#ffcc0"),
    ("background", "#ffcc00\n"),
    ("background", 0),
    ("background", []),
    ("sampler", ["heun"]),
    ("label", "3"),
    ("label", 1.5),
    ("label", True),
    ("control", "sketch.png"),
]


@pytest.mark.parametrize(("field", "value"), WRONG, ids=lambda v: repr(v)[:20])
def test_a_wrong_choice_is_an_error_that_names_its_field(field: str, value: Any) -> None:
    with pytest.raises(RequestError) as error:
        Request(**{field: value})
    assert error.value.field == field
    assert field.split("_")[-1] in str(error.value)
    assert "\n" not in str(error.value).replace(str(value), "")


def test_the_last_image_of_a_request_has_a_seed_too() -> None:
    assert Request(seed=MAX_SEED, images=1).seed == MAX_SEED
    for last in (MAX_SEED, np.int64(MAX_SEED)):
        with pytest.raises(RequestError, match="seed plus images"):
            Request(seed=last, images=2)  # type: ignore[arg-type]


def test_a_seed_drawn_at_random_is_below_2_to_the_32() -> None:
    seeds = {Request().seeded().seed for _ in range(50)}
    assert len(seeds) == 50
    assert all(seed is not None and 0 <= seed < 2**32 for seed in seeds)
    assert Request(seed=0).seeded().seed == 0


def test_numbers_of_numpy_become_plain() -> None:
    numbers: dict[str, Any] = {
        "seed": np.uint64(7),
        "steps": np.int32(2),
        "images": np.int64(2),
        "label": np.uint8(3),
    }
    numbers |= {"guidance": np.float32(2), "gamma": np.float64(0.5), "size": [np.int64(64), np.array(32)]}
    request = Request(**numbers)
    plain = {"seed": 7, "steps": 2, "images": 2, "label": 3, "guidance": 2.0, "gamma": 0.5, "size": (64, 32)}
    assert {name: getattr(request, name) for name in plain} == plain
    assert {name: type(getattr(request, name)) for name in plain} == {name: type(v) for name, v in plain.items()}
    assert [type(side) for side in request.size or ()] == [int, int]


@pytest.mark.parametrize("field", ["seed", "steps", "images", "label", "guidance", "gamma"])
def test_true_is_no_number_in_numpy_either(field: str) -> None:
    for value in (True, np.True_):
        with pytest.raises(RequestError) as error:
            Request(**{field: value})
        assert error.value.field == field


PLAIN = st.text(st.characters(codec="utf-8"), max_size=50)
RIGHT = st.fixed_dictionaries(
    {},
    optional={
        "prompt": PLAIN,
        "negative_prompt": PLAIN,
        "seed": st.none() | st.integers(0, MAX_SEED - IMAGES.maximum),
        "steps": st.none() | st.integers(1, STEPS.maximum),
        "images": st.integers(1, IMAGES.maximum),
        "guidance": st.none() | st.floats(1, 20),
        "gamma": st.floats(0, 1),
        "size": st.none()
        | st.tuples(st.integers(SIZE.minimum, SIZE.maximum), st.integers(SIZE.minimum, SIZE.maximum)),
        "background": st.none()
        | st.sampled_from(["transparent", "white", "black"])
        | st.from_regex(r"#[0-9a-fA-F]{6}", fullmatch=True),
        "label": st.none() | st.integers(0, 9),
        "control": st.none() | st.just(Image.new("RGB", (8, 8))),
    },
)


@settings(deadline=None)
@given(RIGHT)
def test_every_choice_in_range_is_taken_as_it_is(choices: dict[str, Any]) -> None:
    request = Request(**choices)
    assert {name: getattr(request, name) for name in choices} == choices


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.lists(st.integers(), max_size=3)
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(Request.__dataclass_fields__)), ANYTHING, max_size=4))
def test_whatever_the_values_a_request_is_right_or_a_request_error(choices: dict[str, Any]) -> None:
    try:
        request: Request | RequestError = Request(**choices)
    except RequestError as refusal:
        request = refusal
    if isinstance(request, RequestError):
        assert request.field in Request.__dataclass_fields__
        return
    assert request.seed is None or 0 <= request.seed <= MAX_SEED
    assert 1 <= request.images <= IMAGES.maximum
    assert request.gamma is None or 0 <= request.gamma <= 1


@settings(deadline=None)
@given(st.integers(SIZE.minimum, SIZE.maximum), st.integers(SIZE.minimum, SIZE.maximum))
def test_a_size_is_read_as_people_write_it(width: int, height: int) -> None:
    assert SIZE.check(f"{width}x{height}") == SIZE.check(f" {width}×{height} ") == (width, height)
    assert SIZE.check(str(width)) == (width, width)
    assert re.search(SIZE.schema()["pattern"], f"{width}x{height}")


@pytest.mark.parametrize("text", ["", "x", "64x", "64x64x64", "-64x64", "6.4x64", "big"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="size must be like 64x64"):
        SIZE.check(text)
    assert not re.search(SIZE.schema()["pattern"], text)
