"""A model is written whole or not at all, and what is read back is what was written."""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewstep.core.levels import VE, VP, Linear, Trig
from fewstep.core.parameterisations import Clipped, Data, Edm, Epsilon, Lcm, Targets, V, Velocity
from fewstep.models.codecs import Identity, LearnedCodec, SpaceToDepth
from fewstep.models.components import KINDS, Component, Judge, NetworkPart, Sketch, Vocabulary
from fewstep.models.conditioners import ClassLabel, ControlImage, GuidanceScale, PromptTokens
from fewstep.models.conditioning import Conditioning, conditioners
from fewstep.models.format2 import component_from_plain, component_to_plain
from fewstep.models.parts import PARTS, ModelError, from_plain, to_plain
from fewstep.models.saved import SavedModel, read, sha256
from fewstep.models.text import BUILT_IN
from fewstep.models.writing import check_rewrite, rewrite, write
from models_spec import WEIGHTS, spec
from tiny_models import TinyModels

EVERY_PART: list[Any] = [
    Edm(0.7, 0.002, "quarter_log"),
    Epsilon(),
    V(),
    Data(),
    Velocity(),
    Clipped(Edm(0.7, 0.002), 1.5),
    Lcm(Epsilon(), 0.4, 9.0),
    VE(),
    Linear(),
    Trig(0.8),
    VP.cosine(),
]

EVERY_COMPONENT: list[Any] = [
    NetworkPart("mlp", {"dims": 2}),
    Identity(),
    SpaceToDepth(4, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 1.0),
    LearnedCodec(16, 8, "narrow", "wide"),
    PromptTokens(7, "ab" * 32),
    ClassLabel(3),
    ControlImage((3, 8, 8)),
    GuidanceScale(1.0, 5.0),
    Judge(),
    Sketch(0.9, 3.0),
    Vocabulary(("flat", "pixel art"), {"red": "#db2626"}),
]


@pytest.mark.parametrize("part", EVERY_PART, ids=lambda part: type(part).__name__)
def test_every_part_survives_json(part: Any) -> None:
    assert from_plain(json.loads(json.dumps(to_plain(part)))) == part


def test_every_kind_of_part_is_tested_here() -> None:
    assert {type(part) for part in EVERY_PART} == set(PARTS.values())


@pytest.mark.parametrize("part", EVERY_COMPONENT, ids=lambda part: type(part).__name__)
def test_every_kind_of_component_survives_json(part: Any) -> None:
    files = {f"its{ending}": "00" * 32 for ending in KINDS[Component(part).kind].files}
    component = Component(part, files, "onnx")
    assert component_from_plain("its", json.loads(json.dumps(component_to_plain(component)))) == component


def test_every_kind_of_component_is_tested_here() -> None:
    assert [type(part) for part in EVERY_COMPONENT] == [kind.part for kind in KINDS.values()]


def test_a_description_survives_writing_and_reading(tmp_path: Path) -> None:
    written = spec(
        parameterisation=Velocity(),
        targets=Targets.ANY,
        guidance=1.5,
        levels={1: (math.inf,), 3: (80.0, 2.5, 0.5)},
        sigma_max=60.0,
        licence="CC0-1.0",
        recipe={"name": "r", "settings": {"lr": 0.1, "widths": [1, 2]}},
        lineage=[{"teacher": "t", "hash": "00"}],
    )
    saved = write(written, WEIGHTS, tmp_path / "m")
    found = read(tmp_path / "m").spec
    assert found == replace(written, components={**written.components, "network": found.components["network"]})
    assert saved == read(tmp_path / "m")
    assert list(found.files) == ["network.safetensors"]


def strict(text: str) -> Any:
    """JSON as others read it: without Python's own NaN and Infinity."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_pure_noise_is_written_as_json_that_others_read(tmp_path: Path) -> None:
    saved = write(spec(levels={1: (math.inf,)}, recipe={"clip": math.inf}), WEIGHTS, tmp_path / "m")
    values = strict((tmp_path / "m" / "model.json").read_text())
    assert (values["levels"], values["recipe"]) == ({"1": ["inf"]}, {"clip": "inf"})
    assert saved.spec.levels == {1: (math.inf,)}


def test_what_is_no_number_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write(spec(recipe={"lr": math.nan}), WEIGHTS, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_weights_keep_their_names_shapes_and_precision(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    arrays = load_file(write(spec(), WEIGHTS, tmp_path / "m").weights)
    assert {n: (v.dtype, v.tolist()) for n, v in arrays.items()} == {
        n: (v.dtype, v.tolist()) for n, v in WEIGHTS.items()
    }


def test_captions_survive_in_order_with_line_breaks_made_spaces(tmp_path: Path) -> None:
    conditioning = Conditioning(Identity(), conditioners(4))
    captions = ["zebra", "", "two\nlines\u2028here", "  ", "été 🍎"]
    saved = write(spec(conditioning=conditioning), WEIGHTS, tmp_path / "m", captions, ["red", "blue", "red"])
    assert saved.captions is not None
    assert saved.captions.captions == ["zebra", "two lines here", "été 🍎"]
    assert saved.captions.other_words == ["blue", "red"]


def test_a_model_without_text_has_no_captions(tmp_path: Path) -> None:
    assert write(spec(), WEIGHTS, tmp_path / "m", ["cat"]).captions is None


def test_a_model_with_text_names_its_token_table(tiny: TinyModels) -> None:
    assert tiny.student.component("prompt").part.table == sha256(BUILT_IN / "table.safetensors")


def test_the_same_model_has_the_same_hash_and_any_change_another(tmp_path: Path) -> None:
    def add(content: bytes) -> Any:
        return lambda scratch: (scratch / "network.onnx").write_bytes(content)

    conditioning = Conditioning(Identity(), conditioners(4))
    base = spec(conditioning=conditioning)
    ways = [
        (base, WEIGHTS, ["cat"], add(b"a")),
        (base, {**WEIGHTS, "b": np.float32([1.6])}, ["cat"], add(b"a")),
        (base, WEIGHTS, ["dog"], add(b"a")),
        (base, WEIGHTS, ["cat"], add(b"b")),
        (base, WEIGHTS, ["cat"], None),
        (replace(base, steps=2), WEIGHTS, ["cat"], add(b"a")),
    ]
    hashes = [write(s, w, tmp_path / "m", c, complete=f).hash for s, w, c, f in ways]
    assert len(set(hashes)) == len(ways)
    assert write(base, WEIGHTS, tmp_path / "elsewhere", ["cat"], complete=add(b"a")).hash == hashes[0]


def test_a_failure_while_writing_leaves_the_old_model_whole_and_nothing_beside_it(tmp_path: Path) -> None:
    old = write(spec(), WEIGHTS, tmp_path / "m")

    def fail(scratch: Path) -> None:
        (scratch / "network.onnx").write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write(spec(steps=2), WEIGHTS, tmp_path / "m", complete=fail)
    assert read(tmp_path / "m") == old
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]


def test_a_description_that_could_not_be_read_back_replaces_nothing(tmp_path: Path) -> None:
    old = write(spec(), WEIGHTS, tmp_path / "m")
    with pytest.raises(ModelError, match="steps must be"):
        write(spec(steps=0), WEIGHTS, tmp_path / "m")
    assert read(tmp_path / "m") == old
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]


def test_the_old_model_stays_until_the_new_one_can_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = write(spec(), WEIGHTS, tmp_path / "m")
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.name.endswith(".writing"):
            raise OSError("no")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="no"):
        write(spec(steps=2), WEIGHTS, tmp_path / "m")
    assert read(tmp_path / "m") == old


def test_two_processes_write_beside_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def meanwhile(scratch: Path) -> None:
        monkeypatch.setattr("os.getpid", lambda: 123)
        write(spec(steps=2), WEIGHTS, tmp_path / "m")
        assert (scratch / "network.safetensors").is_file()

    assert write(spec(), WEIGHTS, tmp_path / "m", complete=meanwhile).spec.steps == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]


def test_a_model_that_a_crash_left_aside_is_put_back_first(tmp_path: Path) -> None:
    old = write(spec(), WEIGHTS, tmp_path / "m")
    (tmp_path / "m").rename(tmp_path / ".m.old")

    def fail(scratch: Path) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write(spec(steps=2), WEIGHTS, tmp_path / "m", complete=fail)
    assert read(tmp_path / "m") == old
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]


def test_a_new_model_replaces_the_old_one_with_all_its_files(tmp_path: Path) -> None:
    write(spec(), WEIGHTS, tmp_path / "m", complete=lambda scratch: (scratch / "network.onnx").write_bytes(b"x"))
    saved = write(spec(steps=2), WEIGHTS, tmp_path / "m")
    assert read(tmp_path / "m").spec.steps == 2
    assert sorted(f.name for f in saved.directory.iterdir()) == ["model.json", "network.safetensors"]
    assert saved.spec.files["network.safetensors"] == sha256(saved.weights)


@pytest.fixture
def model(tmp_path: Path) -> SavedModel:
    """A model of two files, with a note beside them that its description does not name."""
    saved = write(
        spec(), WEIGHTS, tmp_path / "m", complete=lambda scratch: (scratch / "network.onnx").write_bytes(b"x")
    )
    (tmp_path / "m" / "README.md").write_text("mine")
    return saved


def test_another_description_leaves_what_lies_beside_it_alone(model: SavedModel) -> None:
    inode = model.weights.stat().st_ino
    changed = rewrite(model, replace(model.spec, levels={2: (80.0, 0.8)}), model.directory)
    assert changed == read(model.directory)
    assert changed.spec == replace(model.spec, levels={2: (80.0, 0.8)})
    assert changed.hash != model.hash
    assert model.weights.stat().st_ino == inode
    names = {"README.md", "model.json", "network.onnx", "network.safetensors"}
    assert {file.name for file in model.directory.iterdir()} == names


def test_a_copy_with_another_description_has_the_named_files_and_leaves_the_model_as_it_was(
    model: SavedModel, tmp_path: Path
) -> None:
    copy = rewrite(model, replace(model.spec, steps=2), tmp_path / "copies" / "c")
    assert copy.directory == tmp_path / "copies" / "c"
    assert {file.name for file in copy.directory.iterdir()} == {"model.json", "network.onnx", "network.safetensors"}
    assert copy.spec == replace(model.spec, steps=2)
    assert read(model.directory) == model


def test_a_copy_replaces_another_model_and_nothing_else(model: SavedModel, tmp_path: Path) -> None:
    write(spec(steps=4), {"w": np.float16([1])}, tmp_path / "other")
    assert rewrite(model, replace(model.spec, steps=2), tmp_path / "other").spec.steps == 2
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "notes.txt").write_text("mine")
    for do in (lambda place: check_rewrite(model, place), lambda place: rewrite(model, model.spec, place)):
        for place in (tmp_path / "notes", tmp_path / "notes" / "notes.txt"):
            with pytest.raises(ModelError, match="contains something other than a model"):
                do(place)
    assert [file.name for file in (tmp_path / "notes").iterdir()] == ["notes.txt"]


def test_a_link_to_a_model_stays_a_link(model: SavedModel, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("m")
    assert rewrite(read(tmp_path / "link"), replace(model.spec, steps=2), tmp_path / "link").spec.steps == 2
    assert (tmp_path / "link").is_symlink()
    assert read(tmp_path / "m").spec.steps == 2


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_description_that_cannot_be_read_back_is_not_written(
    model: SavedModel, tmp_path: Path, elsewhere: bool
) -> None:
    for wrong, complaint in (({"steps": 0}, "steps must be"), ({"recipe": {"lr": math.nan}}, "not JSON compliant")):
        with pytest.raises(ValueError, match=complaint):
            rewrite(model, replace(model.spec, **wrong), tmp_path / "copy" if elsewhere else model.directory)
    assert read(model.directory) == model
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_model_that_was_changed_meanwhile_is_not_given_the_description_of_the_old_one(
    model: SavedModel, tmp_path: Path, elsewhere: bool
) -> None:
    new = write(replace(model.spec, steps=3), WEIGHTS, model.directory)
    with pytest.raises(ModelError, match="has changed since it was read"):
        rewrite(model, replace(model.spec, steps=2), tmp_path / "copy" if elsewhere else model.directory)
    assert read(model.directory) == new
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]


def test_a_copy_that_breaks_off_leaves_nothing(
    model: SavedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("shutil.copyfile", fail)
    with pytest.raises(OSError, match="disk full"):
        rewrite(model, replace(model.spec, steps=2), tmp_path / "copy")
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]


def test_a_description_that_breaks_off_leaves_the_old_one(model: SavedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, target: Path) -> Path:
        raise OSError("disk full")

    before = {file.name for file in model.directory.iterdir()}
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        rewrite(model, replace(model.spec, steps=2), model.directory)
    assert read(model.directory) == model
    assert {file.name for file in model.directory.iterdir()} == before


def test_where_nothing_can_be_written_is_told_before_the_work(
    model: SavedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_rewrite(model, model.directory)
    check_rewrite(model, tmp_path / "not" / "yet")
    with pytest.raises(PermissionError, match="is not a writable directory"):
        check_rewrite(model, model.weights / "copy")
    made = tempfile.TemporaryFile

    def refused(dir: Path) -> Any:
        if dir == tmp_path:
            raise PermissionError
        return made(dir=dir)

    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    check_rewrite(model, model.directory)
    with pytest.raises(PermissionError, match="is not a writable directory"):
        check_rewrite(model, tmp_path / "copy")
