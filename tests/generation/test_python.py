"""Python's way to draw: typed keywords, images in any form, names of other libraries answered, steps, pickles."""

from __future__ import annotations

import inspect
import pickle
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
from PIL import Image

import fewstep
from fewstep.generation import Choices, EditChoices, Model, Request, RequestError, Step, load
from fewstep.generation.choices import OTHER_NAMES
from fewstep.generation.choices import EditChoices as Editing
from fewstep.generation.request import OWN
from tiny_models import TinyModels, onnx


@pytest.fixture(scope="module")
def model(tiny: TinyModels) -> Model:
    return onnx(tiny.student)


def photo() -> Image.Image:
    image = Image.new("RGB", (40, 40), "white")
    image.paste((200, 0, 0), (10, 10, 30, 30))
    return image


def test_the_keywords_are_those_of_a_request() -> None:
    fields = {field.name for field in OWN} - {"prompt", "images"}
    assert fields | {"edit", "on_step", "noise", "levels"} == set(get_type_hints(Choices))
    for method in (Model.generate, Model.iterate, Model.generate_all):
        assert set(get_type_hints(Choices)) <= set(inspect.signature(method).parameters)
    assert set(get_type_hints(EditChoices)) <= set(inspect.signature(Model.edit).parameters)


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_names_of_other_libraries_are_answered_with_ours(model: Model, name: str) -> None:
    if name in get_type_hints(Choices):
        pytest.fail("it is a name of ours")
    with pytest.raises(TypeError) as error:
        model.generate("cat", **{name: 1})  # type: ignore[arg-type]  # a mistake on purpose
    assert str(error.value) == f"generate() has no '{name}': it is called {OTHER_NAMES[name]} here"


def test_a_misspelt_name_gets_a_suggestion(model: Model) -> None:
    with pytest.raises(TypeError, match=r"generate\(\) has no 'step': did you mean 'steps'\?"):
        model.generate("cat", step=1)  # type: ignore[call-arg]  # a mistake on purpose
    with pytest.raises(TypeError, match=r"edit\(\) has no 'maks': did you mean 'mask'\?"):
        model.edit(photo(), maks=photo())  # type: ignore[call-arg]  # a mistake on purpose
    with pytest.raises(TypeError, match=r"iterate\(\) has no 'qqq': it takes background, control"):
        model.iterate("cat", qqq=1)  # type: ignore[call-arg]  # a mistake on purpose


@pytest.mark.parametrize(
    ("choices", "field", "message"),
    [
        ({"steps": "2"}, "steps", "steps must be a whole number between 1 and 1000, got the text '2'"),
        ({"steps": 2.5}, "steps", "steps must be a whole number between 1 and 1000, got the number 2.5"),
        ({"seed": True}, "seed", "seed must be a whole number between 0 and .*, got true"),
        ({"guidance": "x"}, "guidance", "guidance must be a number at least 1, got the text 'x'"),
        ({"guidance": [1]}, "guidance", "guidance must be a number at least 1, got a list"),
        ({"control_frame": 1}, "control_frame", "control_frame must be true or false, got the number 1"),
        ({"negative_prompt": 3}, "negative_prompt", "negative_prompt must be text, got the number 3"),
        ({"size": 4}, "size", "width and height of size must be whole numbers between 8 and 2048, got 4x4"),
        ({"control": "none.png"}, "control", "control 'none.png' cannot be read: the file is missing"),
        ({"control": np.zeros((4, 4, 2))}, "control", r"control must be .* got an array \[4, 4, 2\] of float64"),
        ({"control": np.full((4, 4), 7.0)}, "control", "control must have values from 0 to 1, got 7 to 7"),
        ({"control": 3}, "control", "control must be a Pillow image, .* got 3"),
        ({"levels": [2, 80]}, "levels", "levels must be σ/α in falling order"),
        ({"levels": []}, "levels", "levels must be σ/α in falling order"),
        ({"levels": [80, 2], "steps": 2}, "levels", "levels says how many steps there are"),
        ({"noise": np.zeros(3)}, "noise", r"noise must have the shape \[1, .*, got \[3\]"),
        ({"noise": "x"}, "noise", "noise must be an array of numbers"),
    ],
)
def test_wrong_values_are_told_with_their_type(
    model: Model, choices: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(RequestError, match=message) as error:
        model.generate("cat", **choices)
    assert error.value.field == field


def test_what_is_left_out_or_none_is_the_model_s_own(model: Model) -> None:
    plain = model.generate("cat", seed=1)
    none = dict.fromkeys(get_type_hints(Choices), None)
    assert model.generate("cat", **{**none, "seed": 1}).tobytes() == plain.tobytes()  # type: ignore[arg-type]  # a mistake on purpose


def test_several_prompts_and_seeds(model: Model) -> None:
    made = model.generate_all(["cat", "dog"], n=2, seed=3)
    assert [(image.record.prompt, image.record.seed) for image in made] == [
        ("cat", 3), ("cat", 4), ("dog", 3), ("dog", 4),
    ]  # fmt: skip
    made = model.generate_all(["cat", "dog"], seeds=[9, 2])
    assert [(image.record.prompt, image.record.seed) for image in made] == [
        ("cat", 9), ("cat", 2), ("dog", 9), ("dog", 2),
    ]  # fmt: skip
    assert made[0].tobytes() == model.generate("cat", seed=9).tobytes()
    assert len(model.generate_all("cat", n=3)) == 3
    assert model.generate_all([]) == []
    with pytest.raises(RequestError, match="seeds has the seed of each image: leave out n and seed"):
        model.generate_all("cat", seeds=[1], seed=2)
    with pytest.raises(TypeError, match="takes a Request alone"):
        model.generate_all(Request("cat"), n=2)
    with pytest.raises(RequestError, match="prompt must be text, got a list"):
        model.generate(["cat", "dog"])  # type: ignore[arg-type]  # a mistake on purpose


def test_images_in_any_form_draw_the_same(model: Model, tmp_path: Path) -> None:
    sketch = photo()
    sketch.save(tmp_path / "sketch.png")
    array = np.asarray(sketch)
    forms: list[Any] = [sketch, tmp_path / "sketch.png", str(tmp_path / "sketch.png"), array, array / 255]
    drawn = {model.generate("cat", seed=1, control=form).tobytes() for form in forms}
    assert len(drawn) == 1
    edited = {model.edit(form, "cat", seed=1, strength=0.5).tobytes() for form in forms}
    assert edited == {model.generate("cat", seed=1, edit=fewstep.Edit(sketch, strength=0.5)).tobytes()}
    grey = np.zeros((40, 40, 1), dtype=np.uint8)
    assert model.edit(grey, "cat", seed=1).tobytes() == model.edit(grey[:, :, 0], "cat", seed=1).tobytes()


def test_the_record_of_a_file_is_the_parent_of_its_edit(model: Model, tmp_path: Path) -> None:
    made = model.generate("cat", seed=1)
    made.save(tmp_path / "cat.png")
    assert model.edit(tmp_path / "cat.png", "cat").record.parents == (made.record.id,)


def test_every_edit_is_reached_by_keywords(model: Model) -> None:
    image, half = photo(), np.zeros((40, 40))
    half[:20] = 1
    names = {
        "restart": model.edit(image),
        "inpaint": model.edit(image, "cat", mask=half),
        "outpaint": model.edit(image, left=0.5, fit=0),
    }
    for name, made in names.items():
        assert made.record.sampler_settings["edit"] == name
    assert names["outpaint"].size == (60, 40)
    kept = np.asarray(names["inpaint"].convert("RGB"))[20:]
    assert np.array_equal(kept, np.asarray(image)[20:])
    with pytest.raises(RequestError, match="edit must be one of"):
        model.edit(image, kind="upscale")
    with pytest.raises(RequestError, match="an edit with margins takes no mask: leave it out"):
        model.edit(image, mask=half, left=0.5)
    with pytest.raises(RequestError, match="image must be a Pillow image, a path or an array, got None"):
        model.edit(None)  # type: ignore[arg-type]  # a mistake on purpose


def test_steps_show_the_image_as_it_comes(model: Model) -> None:
    seen: list[Step] = []
    made = model.generate("cat", seed=1, steps=3, on_step=seen.append)
    assert [(step.index, step.steps, step.is_last) for step in seen] == [(1, 3, False), (2, 3, False), (3, 3, True)]
    steps = list(model.iterate("cat", seed=1, steps=3))
    assert all(step.image.size == model.native_size for step in steps)
    assert steps[-1].image.tobytes() == made.tobytes()
    assert isinstance(steps[-1].image, fewstep.GeneratedImage)
    assert steps[0].image.tobytes() != made.tobytes()


def test_own_noise_and_levels(model: Model) -> None:
    shape = model.spec.codec.shape(model.spec.pixels)
    noise = np.random.default_rng(0).standard_normal(shape)
    one, other = (model.generate("cat", seed=1, noise=values, levels=[80, 2]) for values in (noise, noise[None]))
    assert one.tobytes() == other.tobytes()
    assert one.tobytes() != model.generate("cat", seed=1, levels=[80, 2]).tobytes()
    assert one.record.steps == 2
    assert [sigma / alpha for alpha, sigma in one.record.levels] == pytest.approx([80, 2, 0])
    assert len(str(one.record.sampler_settings["noise_sha256"])) == 16
    assert model.generate("cat", seed=1, noise=noise, levels=[80, 2, 0]).tobytes() == one.tobytes()
    with pytest.raises(RequestError, match="noise must be finite"):
        model.generate("cat", noise=noise * np.nan)
    with pytest.raises(RequestError, match="levels of an edit are given by its strength"):
        model.generate("cat", edit=fewstep.Edit(photo(), strength=0.5), levels=[80, 2])
    with pytest.raises(RequestError, match="an interpolation takes the noise of its seeds"):
        model.generate_all("cat", n=3, to_seed=4, noise=noise)


def test_a_model_is_pickled_as_what_opens_it(tiny: TinyModels) -> None:
    model = load(tiny.student.directory, threads=1)
    again = pickle.loads(pickle.dumps(model))
    assert again.generate("cat", seed=1).tobytes() == model.generate("cat", seed=1).tobytes()
    with pytest.raises(TypeError, match=r"only a model from fewstep\.load can be pickled"):
        pickle.dumps(Model(model.saved, model.network, "spy"))


def test_a_pickle_of_a_model_that_has_changed_is_refused(tiny: TinyModels, tmp_path: Path) -> None:
    load(tiny.student.directory).save_pretrained(tmp_path / "model")
    pickled = pickle.dumps(load(tmp_path / "model"))
    file = tmp_path / "model" / "model.json"
    file.write_text(file.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    with pytest.raises(fewstep.ModelError, match="the pickled model was "):
        pickle.loads(pickled)


def test_a_saved_copy_is_the_model(tiny: TinyModels, tmp_path: Path) -> None:
    model = load(tiny.student.directory)
    copy = load(model.save_pretrained(tmp_path / "new" / "copy"))
    assert copy.hash == model.hash
    with pytest.raises(FileExistsError, match="it exists and is not empty"):
        model.save_pretrained(tmp_path / "new" / "copy")


def test_a_model_is_pushed_with_its_own_files_alone(
    tiny: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(load(tiny.student.directory).save_pretrained(tmp_path / "model"))
    (tmp_path / "model" / "secret.txt").write_text("x", encoding="utf-8")
    calls: dict[str, Any] = {}

    class Hub:
        def __init__(self, token: str | None) -> None:
            calls["token"] = token

        def create_repo(self, name: str, **options: Any) -> None:
            calls["created"] = (name, options)

        def upload_folder(self, **options: Any) -> Any:
            calls["uploaded"] = options
            return type("Commit", (), {"commit_url": "https://hub/commit"})()

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    assert model.push_to_hub("me/model", private=True, token="hf_x") == "https://hub/commit"
    assert calls["created"] == ("me/model", {"private": True, "exist_ok": True})
    assert sorted(calls["uploaded"]["allow_patterns"]) == sorted(["model.json", *model.spec.files])
    assert "secret.txt" not in calls["uploaded"]["allow_patterns"]


def test_the_public_names() -> None:
    for name in fewstep.__all__:
        assert getattr(fewstep, name) is not None
    assert issubclass(fewstep.RequestError, ValueError)
    assert Editing is EditChoices
