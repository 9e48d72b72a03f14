"""Reading a model: whatever is wrong with it is one ModelError that names the file."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewstep.models import finding
from fewstep.models.finding import find, own_directory
from fewstep.models.parts import ModelError
from fewstep.models.saved import read, sha256
from fewstep.models.writing import write
from models_spec import WEIGHTS, spec


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small model to damage."""
    return write(spec(), WEIGHTS, tmp_path / "model").directory


def describe(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what model.json says."""
    file = directory / "model.json"
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))


def test_missing_weights(model: Path) -> None:
    (model / "network.safetensors").unlink()
    with pytest.raises(ModelError, match=r"network\.safetensors' is missing"):
        read(model)


@pytest.mark.parametrize("harm", [lambda b: b[:-1], lambda b: b + b"\0", lambda b: b[:-1] + b"\x77", lambda b: b""])
def test_damaged_weights(model: Path, harm: Callable[[bytes], bytes]) -> None:
    file = model / "network.safetensors"
    file.write_bytes(harm(file.read_bytes()))
    with pytest.raises(ModelError, match=r"network\.safetensors' is damaged or was changed"):
        read(model)


def test_weights_that_the_description_does_not_mention(model: Path) -> None:
    describe(model, lambda values: values["components"]["network"]["files"].clear())
    with pytest.raises(
        ModelError, match=r"model\.json' names no weights \(\.safetensors\) of the component 'network'"
    ):
        read(model)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"hello"])
def test_a_description_that_is_not_json(model: Path, text: bytes) -> None:
    (model / "model.json").write_bytes(text)
    with pytest.raises(ModelError, match=r"model\.json' is not JSON"):
        read(model)


@pytest.mark.parametrize("text", ["[]", "3", "{}", '{"format": "1"}', '{"format": null}'])
def test_json_that_describes_no_model(model: Path, text: str) -> None:
    (model / "model.json").write_text(text)
    with pytest.raises(ModelError, match=r"model\.json' is not a model description"):
        read(model)


def test_a_future_format(model: Path) -> None:
    describe(model, lambda values: values.update(format=99, surprise=1))
    with pytest.raises(ModelError, match="has format 99, this version reads up to 2: update fewstep"):
        read(model)


def test_settings_that_this_version_does_not_know(model: Path) -> None:
    describe(model, lambda values: values.update(colour="red"))
    with pytest.raises(ModelError, match="unknown settings: colour"):
        read(model)


def test_a_part_that_this_version_does_not_know(model: Path) -> None:
    describe(model, lambda values: values["parameterisation"].update(kind="magic"))
    with pytest.raises(ModelError, match=r"unknown part 'magic': this version knows .*edm"):
        read(model)


def test_a_setting_that_a_part_does_not_know(model: Path) -> None:
    describe(model, lambda values: values["parameterisation"].update(magic=1))
    with pytest.raises(ModelError, match="part 'edm' has unknown settings: magic"):
        read(model)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("targets", "everywhere"),
        ("pixels", 3),
        ("pixels", []),
        ("pixels", ["a"]),
        ("pixels", [4, -8, 8]),
        ("pixel_format", "cmyk"),
        ("levels", [1]),
        ("levels", {"2": [1.0, 5.0]}),
        ("levels", {"two": [1.0]}),
        ("steps", 0),
        ("steps", "1"),
        ("sigma_max", -1),
        ("components", None),
        ("components", ["network"]),
        ("components", {}),
        ("parameterisation", {"kind": "identity"}),
        ("recipe", "mine"),
        ("sampler", 3),
        ("name", ""),
        ("name", "/etc/passwd"),
        ("name", "two\nlines"),
        ("name", 7),
    ],
)
def test_a_wrong_value_is_found_when_reading(model: Path, field: str, value: object) -> None:
    describe(model, lambda values: values.update({field: value}))
    with pytest.raises(ModelError, match=r"model\.json'"):
        read(model)


@pytest.mark.parametrize("field", ["name", "targets", "parameterisation", "components"])
def test_a_missing_setting_is_named(model: Path, field: str) -> None:
    describe(model, lambda values: values.pop(field))
    with pytest.raises(ModelError, match=rf"model\.json' cannot be read: .*{field}"):
        read(model)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "..\\outside", ".hidden", "sub/file"])
def test_files_outside_the_directory_are_refused(model: Path, name: str) -> None:
    (model.parent / "outside").write_bytes(b"secret")
    digest = sha256(model.parent / "outside")
    describe(model, lambda values: values["components"]["network"]["files"].update({name: digest}))
    with pytest.raises(ModelError, match="only plain file names are allowed"):
        read(model)


@pytest.mark.parametrize("name", ["network.onnx", "captions.txt", "recogniser.onnx"])
def test_a_file_that_would_be_used_unchecked_is_refused(model: Path, name: str) -> None:
    (model / name).write_bytes(b"slipped in")
    with pytest.raises(ModelError, match=rf"{name}' is not listed in '.*model\.json'"):
        read(model)


def test_other_files_may_lie_beside_a_model(model: Path) -> None:
    (model / "README.md").write_text("about it")
    assert read(model).spec.name == "points"


def test_infinity_as_older_versions_wrote_it_is_still_pure_noise(model: Path) -> None:
    describe(model, lambda values: values.update(levels={"1": [float("inf")]}))
    assert "Infinity" in (model / "model.json").read_text()
    assert read(model).spec.levels == {1: (float("inf"),)}


def component(model: Path, name: str, **values: Any) -> None:
    """Change what model.json says of a component."""
    describe(model, lambda whole: whole["components"].setdefault(name, {}).update(values))


@pytest.mark.parametrize(
    ("name", "values", "complaint"),
    [
        (
            "codec",
            {"kind": "magic"},
            "component 'codec' has the unknown kind 'magic': this version knows .*identity",
        ),
        ("codec", {"kind": None}, "component 'codec' has no kind"),
        ("codec", {"patch": 2}, "part 'identity' has unknown settings: patch"),
        ("codec", {"files": {"more.bin": "00"}}, "'codec' names the file 'more.bin': its kind has no files"),
        ("codec", {"kind": "class_label", "classes": 2}, "'codec' must not be of the kind class_label"),
        (
            "network",
            {"files": {"all.bin": "00"}},
            r"'all.bin': its kind has only files ending in .safetensors or .onnx",
        ),
        ("network", {"files": {"a.onnx": "00", "b.onnx": "00"}}, r"names a\.onnx and b\.onnx: one \.onnx is allowed"),
        ("network", {"files": ["network.safetensors"]}, "files of the component 'network' must map names to SHA-256"),
        (
            "network",
            {"files": {"network.safetensors": 3}},
            "files of the component 'network' must map names to SHA-256",
        ),
        ("network", {"engine": 3}, "engine of the component 'network' must be a name, got 3"),
        (
            "Label",
            {"kind": "class_label", "classes": 2},
            "name must be lower-case letters, digits and _, got 'Label'",
        ),
        ("other", {"kind": "learned_codec", "channels": 1, "factor": 1}, "'other' needs a network named 'encoder'"),
    ],
)
def test_a_component_that_cannot_be_is_named(model: Path, name: str, values: dict[str, Any], complaint: str) -> None:
    component(model, name, **values)
    with pytest.raises(ModelError, match=rf"model\.json' cannot be read: .*{complaint}"):
        read(model)


@pytest.mark.parametrize("name", ["network", "codec"])
def test_a_model_without_a_network_or_a_codec_is_none(model: Path, name: str) -> None:
    describe(model, lambda values: values["components"].pop(name))
    with pytest.raises(ModelError, match=f"the component {name} is missing"):
        read(model)


def test_two_conditioners_of_one_array_are_refused(model: Path) -> None:
    for name in ("label", "other"):
        component(model, name, kind="class_label", classes=2)
    with pytest.raises(ModelError, match="two conditioners return the array label"):
        read(model)


def test_another_token_table(model: Path) -> None:
    component(model, "prompt", kind="prompt_tokens", length=4, table="ab" * 32)
    with pytest.raises(ModelError, match=r"trained with another token table \(abababababab…\)"):
        read(model)


def test_a_component_is_found_with_its_files_by_name(model: Path) -> None:
    found = read(model)
    assert found.component("network").file(".safetensors") == found.weights == model / "network.safetensors"
    assert found.component("network").file(".onnx") is None
    assert found.component("codec").part == found.spec.codec
    with pytest.raises(ModelError, match="the model 'points' has no component 'adapter': it has codec, network"):
        found.component("adapter")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".pkl", ".bin"])
def test_a_pickle_is_refused_by_name_and_not_opened(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"model{suffix}"
    file.write_bytes(pickle.dumps(np.zeros(2)))
    for path in (file, tmp_path):
        with pytest.raises(ModelError, match=rf"'model{suffix}' is a pickle, which fewstep does not load"):
            find(path)


def test_a_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "network.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=r"network\.safetensors' is a file, but a model is a directory"):
        find(tmp_path / "network.safetensors")


@pytest.mark.parametrize(
    "name", ["", "  ", "no such model", "~nobody-by-this-name/x y", "a" * 5000, "nul\0byte", "a/b/c"]
)
def test_a_name_that_is_none_says_what_would_be_one(name: str) -> None:
    with pytest.raises(ModelError, match=r"^(no model '|a model's name must not be empty)"):
        find(name)


def test_a_directory_is_found_by_path_or_text(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model.parent)
    assert find(str(model)).hash == find(model).hash == find("model").hash


def test_a_built_in_model_is_found_by_name_even_beside_a_directory_of_that_name(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = write(spec(name="inside"), WEIGHTS, tmp_path / "package" / "model")
    monkeypatch.setattr(finding, "BUILT_IN", tmp_path / "package")
    monkeypatch.chdir(model.parent)
    assert finding.built_in() == ["model"]
    assert find("model").hash == inside.hash != read(model).hash


def test_a_directory_is_the_users_own_where_it_is_not_built_in(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (own_directory("model"), own_directory(model), own_directory("user/model")) == (Path("model"), model, None)
    write(spec(name="inside"), WEIGHTS, tmp_path / "package" / "model")
    monkeypatch.setattr(finding, "BUILT_IN", tmp_path / "package")
    assert (own_directory("model"), own_directory("./model")) == (None, Path("model"))


def test_a_hub_name_goes_to_the_hub_and_asks_for_the_files_of_a_model_only(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def download(name: str, allow_patterns: list[str], revision: str | None = None) -> str:
        asked.append((name, sorted(allow_patterns), revision))
        return str(model)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert find("some-user/a.model_1").hash == read(model).hash
    name = "some-user/a.model_1"
    assert asked == [(name, ["model.json"], None), (name, ["model.json", "network.safetensors"], "model")]


@pytest.mark.parametrize("name", ["user/model", "user/a--b", "user/.."])
def test_a_hub_that_does_not_answer_is_one_clear_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=f"^no directory '{name}', and the hub returned no model") as error:
        find(name)
    assert "\n" not in str(error.value)


class ProxyError(Exception):
    """Of an HTTP library, and no OSError."""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ProxyError("403 Forbidden\nand more"), "403 Forbidden"),
        (ProxyError(), "ProxyError"),
        (ProxyError("\n"), "ProxyError"),
    ],
)
def test_any_error_of_a_download_is_one_clear_line(
    error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(name: str, allow_patterns: list[str]) -> str:
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(ModelError, match=rf"the hub returned no model of this name: {reason}$"):
        find("user/model")


def test_a_repository_without_a_model_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, allow_patterns: str(tmp_path))
    with pytest.raises(ModelError, match=r"model\.json is missing"):
        find("user/model")
