"""Whatever a description says, a model is refused when it is read, or it can be run."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewstep.generation import Model, Request, RequestError
from fewstep.models.codecs import LearnedCodec, SpaceToDepth
from fewstep.models.components import Component, Sketch, Vocabulary
from fewstep.models.conditioners import ClassLabel, ControlImage, GuidanceScale, PromptTokens
from fewstep.models.format2 import component_from_plain, component_to_plain
from fewstep.models.parts import ModelError
from fewstep.models.saved import read
from fewstep.models.writing import write
from models_spec import WEIGHTS
from tiny_models import TinyModels

JUNK: list[Any] = [None, "x", -1, 0, 10**9, 2.5, float("nan"), [], {}, [1, "a"], True, {"kind": "edm"}]
Where = tuple[str | int, ...]


def places(value: Any, where: Where = ()) -> Iterator[Where]:
    """Every place of a description, but for the network and the files, which have tests of their own."""
    if where:
        yield where
    if where == ("components", "network") or where[-1:] == ("files",):
        return
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in entries:
        yield from places(inner, (*where, name))


def changed(plain: dict[str, Any], where: Where, junk: Any) -> str:
    values = copy.deepcopy(plain)
    inner: Any = values
    for name in where[:-1]:
        inner = inner[name]
    inner[where[-1]] = junk
    return json.dumps(values)


def nothing(x: Any, time_at: Any, time_to: Any, cond: Any) -> Any:
    assert all(np.asarray(values).dtype.kind in "fi" for values in (x, time_at, time_to, *cond.values()))
    return np.zeros_like(x)


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # what is a number may still be a silly one
@pytest.mark.parametrize("kind", ["student", "teacher", "points"])
def test_a_description_changed_anywhere_is_refused_or_runs(tiny: TinyModels, tmp_path: Path, kind: str) -> None:
    directory = write(getattr(tiny, kind).spec, WEIGHTS, tmp_path / "model").directory
    plain = json.loads((directory / "model.json").read_text())
    refused, ran = set(), set()
    for where in places(plain):
        for junk in JUNK:
            (directory / "model.json").write_text(changed(plain, where, junk))
            try:
                model = Model(read(directory), nothing, "none")
            except ModelError as error:
                assert "model.json" in str(error)
                refused.add(where)
                continue
            try:
                for steps in (None, 2):
                    *_, last = model.run(plan := model.plan(Request(seed=1, steps=steps)))
                if model.spec.pixel_format != "points":
                    model.finish(plan, last)
                ran.add(where)
            except RequestError as error:  # a default that the model itself does not offer
                assert error.field in {"sampler", "guidance"}
    everywhere = set(places(plain))
    strings = {("licence",), ("recipe",), ("lineage",), ("sampler",), ("targets",), ("name",)}
    assert {
        ("name",),
        ("steps",),
        ("pixels",),
        ("components", "codec"),
        ("parameterisation", "sigma_data"),
    } <= refused
    assert {("sigma_max",), ("parameterisation", "epsilon"), ("recipe",)} <= ran
    assert everywhere - refused - ran <= {where for where in everywhere if where[:1] in strings}


@pytest.mark.parametrize(
    ("part", "field", "value", "complaint"),
    [
        (SpaceToDepth(), "patch", 0, "patch must be at least 1, got 0"),
        (SpaceToDepth(), "patch", 2.0, "patch must be a whole number, got 2.0"),
        (SpaceToDepth(), "patch", True, "patch must be a whole number, got True"),
        (SpaceToDepth(), "std", [0.5, 0.0], "std and sigma_data must be above 0"),
        (SpaceToDepth(), "sigma_data", -1.0, "std and sigma_data must be above 0"),
        (SpaceToDepth(), "mean", ["0.5"], "mean must be a list, got"),
        (SpaceToDepth(), "sigma_data", float("nan"), "sigma_data must be a number, got nan"),
        (LearnedCodec(4, 8), "factor", 0, "channels and factor must be at least 1, got 4 and 0"),
        (ClassLabel(3), "classes", -1, "classes must be at least 1, got -1"),
        (PromptTokens(4), "length", 32_001, "length must be between 1 and 32000, got 32001"),
        (ControlImage((4, 8, 8)), "pixels", 1, "pixels must be a list, got 1"),
        (GuidanceScale(1.0, 4.0), "low", [1.0], "low must be a number"),
        (GuidanceScale(1.0, 4.0), "low", 5.0, "guidance must be a range of scales, low then high"),
        (Sketch(), "fills", 1.5, "fills must be above 0 and at most 1, got 1.5"),
        (Vocabulary(), "styles", [1], "styles must be a list, got"),
        (Vocabulary(), "palette", {"red": "rot"}, "palette must be colours like #dc2626, got 'rot' for 'red'"),
    ],
)
def test_a_component_says_which_setting_is_wrong_and_what_would_be_right(
    part: Any, field: str, value: Any, complaint: str
) -> None:
    plain = component_to_plain(Component(part))
    assert component_from_plain("its", plain).part == part
    with pytest.raises(ValueError, match=complaint):
        component_from_plain("its", {**plain, field: value})


def test_a_codec_needs_as_many_means_as_the_pixels_have_channels() -> None:
    codec = SpaceToDepth(2, (0.1, 0.2, 0.3), (0.5,))
    assert codec.shape((3, 4, 4)) == (12, 2, 2)
    with pytest.raises(ValueError, match="mean must have one value, or one for each of 4 channels"):
        codec.shape((4, 4, 4))


def test_a_description_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("[" * 100_000)
    with pytest.raises(ModelError, match=r"model\.json' is not JSON"):
        read(tmp_path)
