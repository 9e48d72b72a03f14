"""Models of format 1 are read as they were: the same identity, the same parts, the same images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewstep.data.styles import COLOURS, hexadecimal
from fewstep.generation import Request, load
from fewstep.models.codecs import SpaceToDepth
from fewstep.models.components import Judge, NetworkPart, Sketch, Vocabulary
from fewstep.models.conditioners import ClassLabel, ControlImage, GuidanceScale, PromptTokens
from fewstep.models.finding import BUILT_IN, find
from fewstep.models.format1 import EARLY_STYLES, PALETTE, STYLES
from fewstep.models.parts import ModelError
from fewstep.models.saved import description, read
from fewstep.models.writing import rewrite

EMOJI = json.loads((Path(__file__).parent / "emoji_format1.json").read_text())
"""model.json of the emoji model, as it was written in format 1."""


@pytest.fixture
def describe(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The parts that EMOJI with other settings describes; the files that it names are not there."""

    def parts(**settings: Any) -> dict[str, Any]:
        (tmp_path / "model.json").write_text(json.dumps({**EMOJI, **settings}))
        return {name: component.part for name, component in description(tmp_path).components.items()}

    return parts


def test_its_hash_is_that_of_its_description_which_records_and_lineage_name() -> None:
    emoji, teacher = find("emoji"), find("emoji-teacher")
    assert emoji.hash == hashlib.sha256((BUILT_IN / "emoji" / "model.json").read_bytes()).hexdigest()
    assert emoji.spec.lineage[0]["hash"] == teacher.hash


def test_its_settings_become_components(describe: Callable[..., dict[str, Any]]) -> None:
    assert describe() == {
        "network": NetworkPart("unet", EMOJI["network"]["config"]),
        "codec": SpaceToDepth(2, (0.3131, 0.2665, 0.1949, 0.4379), (0.3925, 0.3326, 0.2927, 0.4748)),
        "prompt": PromptTokens(16, EMOJI["text_table"]),
        "control": ControlImage((4, 32, 32)),
        "guidance": GuidanceScale(1.0, 4.0),
        "sketch": Sketch(0.92, 3.0),
        "vocabulary": Vocabulary(STYLES, PALETTE),
        "judge": Judge(),
    }


def test_what_it_does_not_have_is_no_component(describe: Callable[..., dict[str, Any]]) -> None:
    asked = {**EMOJI["conditioning"], "text_length": 0, "classes": 5, "control": False, "guidance": None}
    files = {"weights.safetensors": EMOJI["files"]["weights.safetensors"]}
    parts = describe(conditioning=asked, files=files, fills=None, control_guidance=None)
    assert set(parts) == {"network", "codec", "label"}
    assert parts["label"] == ClassLabel(5)


def test_each_file_belongs_to_its_component() -> None:
    emoji = find("emoji")
    assert emoji.weights.name == "weights.safetensors"
    assert emoji.exported == emoji.directory / "network.onnx"
    assert emoji.judge == emoji.directory / "recogniser.onnx"
    assert emoji.component("vocabulary").file(".txt") == emoji.directory / "captions.txt"
    assert emoji.spec.files == EMOJI["files"]


def test_a_recipe_that_names_no_styles_is_from_before_there_were_more(
    describe: Callable[..., dict[str, Any]],
) -> None:
    assert describe(recipe={"name": "emoji"})["vocabulary"].styles == EARLY_STYLES
    some = describe(recipe={"name": "emoji", "settings": {"styles": ["neon", "flat"]}})
    assert some["vocabulary"].styles == ("flat", "neon")


def test_the_words_of_its_colours_are_those_that_it_was_trained_on() -> None:
    assert {name: hexadecimal(colour) for name, colour in COLOURS.items()} == PALETTE


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"components": {}}, "unknown settings: components"),
        ({"files": {**EMOJI["files"], "more.bin": "00"}}, "names the file 'more.bin'"),
        ({"files": ["weights.safetensors"]}, "files must map names to SHA-256 digests"),
        ({"conditioning": {**EMOJI["conditioning"], "kind": "edm"}}, "conditioning must be a part of that kind"),
        ({"conditioning": {**EMOJI["conditioning"], "pose": 1}}, "part 'conditioning' has unknown settings: pose"),
        ({"conditioning": {**EMOJI["conditioning"], "control": 1}}, "control must be true or false, got 1"),
        (
            {"conditioning": {**EMOJI["conditioning"], "text_length": -1}},
            "length must be between 1 and 32000, got -1",
        ),
        ({"conditioning": {**EMOJI["conditioning"], "guidance": [1.0]}}, "cannot be read"),
        ({"network": "unet"}, "cannot be read"),
        ({"fills": 1.5}, "fills must be above 0 and at most 1, got 1.5"),
        ({"control_guidance": 9.0}, r"a sketch's guidance must be in the distilled range 1 … 4, got 9"),
    ],
)
def test_what_cannot_be_is_refused(describe: Callable[..., Any], settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ModelError, match=rf"model\.json' cannot be read: .*{complaint}|{complaint}"):
        describe(**settings)


def test_rewritten_in_format_2_it_is_the_same_model_with_the_same_images(tmp_path: Path) -> None:
    before = find("emoji")
    assert json.loads((before.directory / "model.json").read_text())["format"] == 1
    after = rewrite(before, before.spec, tmp_path / "emoji")
    assert json.loads((after.directory / "model.json").read_text())["format"] == 2
    assert after.spec == before.spec == read(after.directory).spec
    assert after.hash != before.hash
    one, two = (load(saved.directory, threads=1) for saved in (before, after))
    sketch = one.generate("cat face", seed=1)
    for request in (
        Request("red apple", seed=3),
        Request("blue cat face", seed=4, steps=2, images=2, guidance=3.0),
        Request("rocket", seed=5, control=sketch),
    ):
        for first, second in zip(one.generate_all(request), two.generate_all(request), strict=True):
            assert np.array_equal(np.asarray(first), np.asarray(second))
