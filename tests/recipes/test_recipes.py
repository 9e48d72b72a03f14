"""Every recipe at its smallest: both stages train, both models load, and the student draws."""

from __future__ import annotations

import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import fewstep
from fewstep.data.dataset import DataError
from fewstep.measure.judges import RecogniserError
from fewstep.models.finding import find
from fewstep.models.saved import SavedModel
from fewstep.objectives.registry import ConsistencyDistillationSettings
from fewstep.recipes.digits import DigitsRecipe
from fewstep.recipes.emoji import EmojiRecipe
from fewstep.recipes.images import ImagesRecipe
from fewstep.recipes.toy import ToyRecipe
from fewstep.recipes.two_stage import build_network, conditioning_of, describe_model
from fewstep.training.checkpoints import AnotherRun
from picture_cases import gradient, six_in
from recipe_runs import SMALL, run_images, short, staged
from training_runs import Processes, curve


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six pictures without a word about them."""
    return six_in(tmp_path / "photos")


def captioned(folder: Path) -> Path:
    rows = [{"file_name": f"{number}.png", "text": f"slope number {number}"} for number in range(6)]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder


def watched(stage: Path, steps: int = 2) -> bool:
    """Whether a student was drawn beside its teacher, and the distance told."""
    (picture,) = (stage / "previews").glob("student_beside_teacher-*.png")
    told = [curve(stage, f"distance_to_teacher/{count}") for count in (1, 2, 4)]
    return picture.name.endswith(f"{steps}.png") and all(0 < value < 5 for (value,) in told)


def description(saved: SavedModel) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((saved.directory / "model.json").read_text(encoding="utf-8"))
    return read


def test_captioned_images_become_a_model_that_takes_prompts(photos: Path, tmp_path: Path) -> None:
    recipe = short(ImagesRecipe(data=str(captioned(photos)), name="slopes", licence="CC0-1.0", **SMALL))
    saved = recipe.run(tmp_path / "run")
    assert saved.directory == tmp_path / "run" / "models" / "slopes"
    model = fewstep.load(saved.directory)
    image = model.generate("slope number 3", seed=1)
    assert (image.size, image.mode) == ((16, 16), "RGB")
    assert image.record.network_evaluations == 1
    assert image.record.guidance == recipe.scale
    assert fewstep.load(saved.directory.with_name("slopes-teacher")).spec.steps == 18
    assert saved.captions is not None
    assert description(saved)["licence"] == "CC0-1.0"
    assert {"data": "photos", "examples": 6} in description(saved)["lineage"]
    assert watched(tmp_path / "run" / "student")


@pytest.mark.usefixtures("without_graphs")
def test_where_the_images_lay_is_not_told(photos: Path, tmp_path: Path) -> None:
    saved = short(ImagesRecipe(data=str(photos), **SMALL)).run(tmp_path / "run")
    assert str(photos.parent) not in (saved.directory / "model.json").read_text(encoding="utf-8")
    assert description(saved)["recipe"]["settings"]["data"] == "photos"


@pytest.mark.usefixtures("without_graphs")
def test_images_without_captions_become_a_model_that_takes_none(photos: Path, tmp_path: Path) -> None:
    saved = short(ImagesRecipe(data=str(photos), channels="L", **SMALL)).run(tmp_path / "run")
    assert saved.spec.guidance is None
    assert saved.spec.conditioning.guidance is None
    image = fewstep.load(saved.directory, engine="eager").generate("", seed=1)
    assert image.mode == "L"
    assert image.record.guidance is None
    assert watched(tmp_path / "run" / "student")


def test_folders_by_class_are_prompts(photos: Path) -> None:
    for number in range(6):
        place = photos / ("uphill" if number % 2 else "downhill")
        place.mkdir(exist_ok=True)
        (photos / f"{number}.png").rename(place / f"{number}.png")
    recipe = ImagesRecipe(data=str(photos), **SMALL)
    assert recipe.dataset.captions == ["downhill", "uphill"]
    assert recipe.conditioning.text_length > 0
    assert conditioning_of(recipe, is_student=True).guidance == recipe.guidance
    assert conditioning_of(recipe, is_student=False).guidance is None


@pytest.mark.usefixtures("without_graphs")
def test_labels_alone_make_a_model_by_class(photos: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "photos.tar", "w") as shard:
        for number in range(6):
            shard.add(photos / f"{number}.png", f"{number}.png")
            label = tmp_path / f"{number}.cls"
            label.write_text(str(number % 3))
            shard.add(label, f"{number}.cls")
    saved = short(ImagesRecipe(data=str(tmp_path / "photos.tar"), **SMALL)).run(tmp_path / "run")
    assert (saved.spec.conditioning.classes, saved.spec.conditioning.text_length) == (3, 0)
    assert saved.spec.guidance == 2.0
    assert fewstep.load(saved.directory, engine="eager").generate(label=2, seed=1).record.label == 2
    assert watched(tmp_path / "run" / "student")


def in_albums(photos: Path) -> Path:
    for number in range(6):
        album = photos / ("100APPLE" if number % 2 else "2023-07")
        album.mkdir(exist_ok=True)
        (photos / f"{number}.png").rename(album / f"{number}.png")
    return photos


@pytest.mark.parametrize(
    ("condition", "text", "classes"), [("auto", True, 0), ("text", True, 0), ("class", False, 2), ("none", False, 0)]
)
def test_folders_that_are_albums_need_not_become_prompts(
    photos: Path, condition: Any, text: bool, classes: int
) -> None:
    recipe = ImagesRecipe(data=str(in_albums(photos)), condition=condition, **SMALL)
    takes = conditioning_of(recipe, is_student=True)
    assert (takes.text_length > 0, takes.classes) == (text, classes)
    assert (takes.guidance is None) == (condition == "none")


def test_what_the_data_are_is_said_at_the_start(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        ImagesRecipe(data=str(captioned(photos)), **SMALL).check(tmp_path / "run")
    assert "photos: 6 images, 6 captions; the model will take a prompt" in caplog.text


@pytest.mark.usefixtures("without_graphs")
def test_a_run_does_not_go_on_with_other_pictures(photos: Path, tmp_path: Path) -> None:
    recipe = short(ImagesRecipe(data=str(photos), **SMALL))
    recipe.run(tmp_path / "run")
    with pytest.raises(AnotherRun, match="framing"):
        replace(recipe, flip=True).run(tmp_path / "run")
    gradient(turn=9).save(photos / "9.png")
    with pytest.raises(AnotherRun, match=r"source\.dataset\.examples was 6, now 7"):
        replace(recipe).run(tmp_path / "run")


@pytest.mark.usefixtures("without_graphs")
def test_a_student_does_not_go_on_under_another_teacher(photos: Path, tmp_path: Path) -> None:
    recipe = short(ImagesRecipe(data=str(photos), **SMALL))
    recipe.run(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "teacher")
    with pytest.raises(AnotherRun, match="teacher was"):
        staged(recipe, teacher=replace(recipe.stages.teacher, seed=5)).run(tmp_path / "run")


def test_steps_without_levels_of_their_own_stay_where_the_student_was_trained(photos: Path) -> None:
    recipe = ImagesRecipe(data=str(photos), **SMALL)
    grid = describe_model(recipe, build_network(recipe, is_student=True), is_student=True).grid(3)
    assert float(grid.ratio[2]) == pytest.approx(recipe.stages.objective.lowest)


def test_the_codec_learns_the_pictures_own_mean_and_deviation(photos: Path) -> None:
    recipe = ImagesRecipe(data=str(photos), **SMALL)
    rng = np.random.default_rng(0)
    pixels = np.stack([recipe.dataset.example(i, rng).data for i in range(6)])
    encoded = recipe.conditioning.codec.encode(pixels)
    assert abs(float(encoded.mean())) < 1e-3
    assert float(encoded.std()) == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"data": ""}, DataError, "give --data"),
        ({"data": "nowhere/at/all"}, DataError, "nowhere/at/all"),
        ({"name": "a/b"}, ValueError, "name must be letters"),
        ({"name": "x" * 95}, ValueError, "name must be letters"),
        ({"condition": "text"}, DataError, "photos has no captions"),
        ({"condition": "class"}, DataError, "photos has no classes"),
    ],
)
def test_what_is_wrong_is_said_before_any_training(
    photos: Path, tmp_path: Path, settings: dict[str, Any], error: type[Exception], says: str
) -> None:
    recipe = short(ImagesRecipe(**{"data": str(photos), **SMALL, **settings}))
    with pytest.raises(error, match=says):
        recipe.run(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_scale_outside_of_the_distilled_range_is_refused_before_any_training(photos: Path, tmp_path: Path) -> None:
    recipe = short(ImagesRecipe(data=str(captioned(photos)), scale=9.0, **SMALL))
    with pytest.raises(ValueError, match="guidance must be in the distilled range 1 … 4, got 9"):
        recipe.run(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_inside_the_data_is_refused(photos: Path) -> None:
    with pytest.raises(DataError, match="is inside the data"):
        short(ImagesRecipe(data=str(photos), **SMALL)).run(photos / "run")


def test_a_missing_recogniser_is_found_before_any_training(tmp_path: Path) -> None:
    with pytest.raises(RecogniserError, match=r"nowhere\.onnx"):
        short(EmojiRecipe(canvas=(0, 32), recogniser=Path("nowhere.onnx"), **SMALL)).run(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"levels": 1}, "levels"), ({"sigma_min": 90.0}, "sigma_min"), ({"target_decay": 1.0}, "decay")],
)
def test_a_distillation_that_cannot_be_is_refused_before_any_training(
    photos: Path, tmp_path: Path, settings: dict[str, Any], says: str
) -> None:
    recipe = staged(ImagesRecipe(data=str(photos), **SMALL), objective=ConsistencyDistillationSettings(**settings))
    with pytest.raises(ValueError, match=says):
        short(recipe).run(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_size_that_the_network_cannot_halve_is_refused() -> None:
    with pytest.raises(ValueError, match="size must be a multiple of 8"):
        ImagesRecipe(data="photos", size=30)


@pytest.mark.usefixtures("without_graphs")
def test_the_emoji_recipe_makes_a_teacher_and_a_student(tmp_path: Path) -> None:
    recipe = short(EmojiRecipe(canvas=(0, 32), **SMALL))
    saved = recipe.run(tmp_path)
    image = fewstep.load(saved.directory, engine="eager").generate("a red apple", seed=1)
    assert (image.size, image.mode) == ((16, 16), "RGBA")
    teacher = fewstep.load(tmp_path / "models" / "emoji-teacher", engine="eager")
    assert saved.spec.lineage == [{"teacher": "emoji-teacher", "hash": teacher.saved.hash}]
    assert watched(tmp_path / "student")


@pytest.mark.usefixtures("without_graphs")
def test_a_teacher_is_trained_further_from_a_saved_one(photos: Path, tmp_path: Path) -> None:
    recipe = short(ImagesRecipe(data=str(photos), **SMALL))
    recipe.run(tmp_path / "first")
    first = find(tmp_path / "first" / "models" / "images-teacher")
    teacher = recipe.stages.teacher
    still = replace(teacher, optimizer=replace(teacher.optimizer, lr=1e-9, muon_lr=1e-9))
    further = staged(recipe, start=first.directory, teacher=still)
    further.run(tmp_path / "second")
    second = find(tmp_path / "second" / "models" / "images-teacher")
    before, after = load_file(first.weights), load_file(second.weights)
    for name, values in before.items():
        assert after[name] == pytest.approx(values, rel=2e-3, abs=1e-6), name  # float16, and an average's rounding
    assert second.spec.lineage[1:] == [{"start": "images-teacher", "hash": first.hash}]
    assert second.spec.recipe["settings"]["stages"]["start"] == "images-teacher"


@pytest.mark.parametrize(
    ("start", "says"),
    [
        ("emoji", "'emoji' is a student"),
        ("emoji-teacher", "has .*widths .64, 128, 160. for .32, 32."),
        ("no", "no model 'no'"),
    ],
)
def test_a_start_that_does_not_fit_is_refused_before_any_training(
    photos: Path, tmp_path: Path, start: str, says: str
) -> None:
    for recipe in (ImagesRecipe(data=str(captioned(photos)), **SMALL), EmojiRecipe(canvas=(0, 32), **SMALL)):
        with pytest.raises(ValueError, match=says):
            short(staged(recipe, start=Path(start))).run(tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("without_graphs")
def test_another_start_is_another_run(photos: Path, tmp_path: Path) -> None:
    recipe = short(ImagesRecipe(data=str(photos), **SMALL))
    recipe.run(tmp_path)
    with pytest.raises(AnotherRun, match="start"):
        staged(recipe, start=tmp_path / "models" / "images-teacher").run(tmp_path)


@pytest.mark.usefixtures("without_graphs")
def test_the_digits_recipe_makes_a_teacher_and_a_student(tmp_path: Path) -> None:
    saved = short(DigitsRecipe(widths=(32, 32), depths=(1, 1))).run(tmp_path)
    assert fewstep.load(saved.directory, engine="eager").generate(label=3, seed=1).size == (16, 16)
    assert watched(tmp_path / "student")


def test_the_toy_recipe_measures_what_it_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recipe = replace(short(ToyRecipe(width=16, depth=1)), points=100)
    with caplog.at_level("INFO"):
        recipe.run(tmp_path)
    assert "sliced Wasserstein distance" in caplog.text
    assert watched(tmp_path / "student")


def test_two_processes_train_and_write_one_model(photos: Path, tmp_path: Path) -> None:
    assert Processes().run_together(2, run_images, tmp_path / "run", photos) == [0, 0]
    assert fewstep.load(tmp_path / "run" / "models" / "images", engine="eager").generate("", seed=1).size == (16, 16)
    assert sorted(p.name for p in (tmp_path / "run" / "models").iterdir()) == ["images", "images-teacher"]
