"""Every kind of conditioner: the same named arrays whatever it is given, a sample each, and a null that is nothing.

A conditioner joins by an entry in `fewstep.models.components.KINDS` and an example here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from fewstep.models import components as registry
from fewstep.models.codecs import Identity, SpaceToDepth
from fewstep.models.components import KINDS, Component, Kind
from fewstep.models.conditioners import ClassLabel, Conditioner, ControlImage, GuidanceScale, PromptTokens
from fewstep.models.conditioning import Conditioning, conditioners
from fewstep.models.format2 import component_from_plain, component_to_plain
from fewstep.models.saved import read
from fewstep.models.writing import write
from models_spec import WEIGHTS, spec

CODEC = SpaceToDepth(2)
IMAGE = np.random.default_rng(0).random((2, 3, 4, 4), dtype=np.float32)

EXAMPLES: dict[str, tuple[Conditioner, Any, list[Any]]] = {
    "prompt_tokens": (PromptTokens(4), "", ["red apple", "cat"]),
    "class_label": (ClassLabel(3), None, [0, 2]),
    "control_image": (ControlImage((3, 4, 4)).with_codec(CODEC), None, [*IMAGE]),
    "guidance_scale": (GuidanceScale(1.0, 4.0), 1.0, [1.5, 4.0]),
}
"""A conditioner of each kind, the value that stands for nothing, and two others."""


@pytest.fixture(params=EXAMPLES)
def example(request: pytest.FixtureRequest) -> tuple[Conditioner, Any, list[Any]]:
    return EXAMPLES[request.param]


Example = tuple[Conditioner, Any, list[Any]]


def test_every_kind_of_conditioner_has_an_example() -> None:
    assert {name for name, kind in KINDS.items() if hasattr(kind.part, "null")} == set(EXAMPLES)
    assert all(isinstance(part, Conditioner) for part, _, _ in EXAMPLES.values())


def test_it_gives_the_arrays_that_it_names_with_the_batch_first(example: Example) -> None:
    part, nothing, values = example
    for batch in (values, [nothing, values[0]], [nothing, nothing], values[:1]):
        arrays = part.encode(batch)
        assert tuple(arrays) == part.names
        assert {len(each) for each in arrays.values()} == {len(batch)}


def test_its_arrays_have_one_shape_and_type_whatever_the_values(example: Example) -> None:
    part, nothing, values = example
    for name, array in part.encode(values).items():
        for other in (part.null(2)[name], part.encode([nothing, values[0]])[name]):
            assert (other.shape, other.dtype) == (array.shape, array.dtype)


def test_null_is_what_nothing_gives(example: Example) -> None:
    part, nothing, values = example
    for name, array in part.null(2).items():
        np.testing.assert_array_equal(array, part.encode([nothing, nothing])[name])
    assert any(not np.array_equal(part.null(2)[name], array) for name, array in part.encode(values).items())


def test_a_sample_does_not_depend_on_its_neighbours(example: Example) -> None:
    part, nothing, values = example
    batch = [values[0], nothing, values[1]]
    for i, value in enumerate(batch):
        for name, array in part.encode([value]).items():
            np.testing.assert_array_equal(part.encode(batch)[name][i], array[0])


def test_it_survives_model_json(example: Example) -> None:
    part, _, _ = example
    assert component_from_plain("its", component_to_plain(Component(part))).part == part


def test_a_value_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="a label must be between 0 and 2, got 3"):
        ClassLabel(3).encode([3])
    with pytest.raises(ValueError, match="label must have a value for each of 2 samples, got 1"):
        Conditioning(Identity(), conditioners(classes=3)).encode(2, label=[1])


def test_together_they_give_the_arrays_of_all_in_one_order() -> None:
    usual = conditioners(4, 3, control=(3, 4, 4), guidance=(1.0, 4.0))
    order = ["text", "text_mask", "label", "control", "control_mask", "guidance"]
    for named in (usual, dict(reversed(usual.items()))):
        assert list(Conditioning(CODEC, named).null(2)) == order
    assert list(Conditioning(CODEC, usual).unguided(1)) == ["text", "text_mask", "label"]
    assert list(Conditioning(CODEC, usual).without("prompt", "control").null(1)) == ["label", "guidance"]


@dataclass(frozen=True)
class Length:
    """A conditioner of somebody's own: how long the prompt is."""

    unit: float = 10.0

    input: ClassVar[str] = "prompt"
    guided: ClassVar[bool] = True
    names: ClassVar[tuple[str, ...]] = ("length",)

    def encode(self, values: Sequence[str]) -> dict[str, Any]:
        return {"length": np.array([len(value) / self.unit for value in values], dtype=np.float32)}

    def null(self, size: int) -> dict[str, Any]:
        return self.encode([""] * size)


def test_another_conditioner_joins_by_one_registration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.KINDS, "length", Kind(Length))
    beside = Conditioning(Identity(), {**conditioners(4), "length": Length(5.0)})
    write(spec(beside), WEIGHTS, tmp_path / "model")
    found = read(tmp_path / "model").spec.conditioning
    arrays = found.encode(2, prompt=["cat", "red apple"])
    assert list(arrays) == ["text", "text_mask", "length"]
    np.testing.assert_allclose(arrays["length"], [0.6, 1.8])
    assert found.takes("prompt")
    assert not found.takes("label")
    assert list(found.unguided(1)) == ["text", "text_mask", "length"]
