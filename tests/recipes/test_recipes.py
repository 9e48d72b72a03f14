"""Every recipe at its smallest: both stages train, both models load, and the student draws."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fewstep
from fewstep.data.dataset import DataError
from fewstep.models.saved import SavedModel
from fewstep.recipes.digits import DigitsRecipe
from fewstep.recipes.emoji import EmojiRecipe
from fewstep.recipes.images import ImagesRecipe
from fewstep.recipes.toy import ToyRecipe
from pictures import gradient
from training_runs import Processes

SMALL: dict[str, Any] = {"size": 16, "widths": (32, 32), "depths": (1, 1), "text_width": 32}


def short(recipe: Any) -> Any:
    """The same recipe, two steps of four a stage."""
    stages = {
        stage: replace(getattr(recipe, stage), images=8, batch=4, precision="float32", preview_every=0)
        for stage in ("teacher", "student")
    }
    return replace(recipe, **stages)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six pictures without a word about them."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(6):
        gradient(turn=number).save(folder / f"{number}.png")
    return folder


def captioned(folder: Path) -> Path:
    rows = [{"file_name": f"{number}.png", "text": f"slope number {number}"} for number in range(6)]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder


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


def test_where_the_images_lay_is_not_told(photos: Path, tmp_path: Path) -> None:
    saved = short(ImagesRecipe(data=str(photos), **SMALL)).run(tmp_path / "run")
    assert str(photos.parent) not in (saved.directory / "model.json").read_text(encoding="utf-8")
    assert description(saved)["recipe"]["settings"]["data"] == "photos"


def test_images_without_captions_become_a_model_that_takes_none(photos: Path, tmp_path: Path) -> None:
    saved = short(ImagesRecipe(data=str(photos), channels="L", **SMALL)).run(tmp_path / "run")
    assert saved.spec.guidance is None
    assert saved.spec.conditioning.guidance is None
    image = fewstep.load(saved.directory).generate("", seed=1)
    assert image.mode == "L"
    assert image.record.guidance is None


def test_folders_by_class_are_prompts(photos: Path) -> None:
    for number in range(6):
        place = photos / ("uphill" if number % 2 else "downhill")
        place.mkdir(exist_ok=True)
        (photos / f"{number}.png").rename(place / f"{number}.png")
    recipe = ImagesRecipe(data=str(photos), **SMALL)
    assert recipe.dataset.captions == ["downhill", "uphill"]
    assert recipe.conditioning(distilled=True).text_length > 0
    assert recipe.conditioning(distilled=True).guidance == recipe.guidance
    assert recipe.conditioning(distilled=False).guidance is None


def test_labels_alone_make_a_model_by_class(photos: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the datasets package")
    rows = {"image": [str(photos / f"{number}.png") for number in range(6)], "label": [0, 1, 2, 0, 1, 2]}
    data = datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())
    data.save_to_disk(str(tmp_path / "saved"))
    recipe = short(ImagesRecipe(data=str(tmp_path / "saved"), **SMALL))
    assert (recipe.conditioning(True).classes, recipe.conditioning(True).text_length) == (0, 0)
    assert recipe.dataset.columns.label is None  # whole numbers without a ClassLabel are not taken for classes
    labelled = data.cast_column("label", datasets.ClassLabel(num_classes=3))
    labelled.save_to_disk(str(tmp_path / "labelled"))
    named = ImagesRecipe(data=str(tmp_path / "labelled"), **SMALL)
    assert named.dataset.classes == 3


def test_the_codec_learns_the_pictures_own_mean_and_deviation(photos: Path) -> None:
    recipe = ImagesRecipe(data=str(photos), **SMALL)
    rng = np.random.default_rng(0)
    pixels = np.stack([recipe.dataset.example(i, rng).data for i in range(6)])
    encoded = recipe.conditioning(False).codec.encode(pixels)
    assert abs(float(encoded.mean())) < 1e-3
    assert float(encoded.std()) == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"data": ""}, DataError, "give --data"),
        ({"data": "nowhere/at/all"}, DataError, "nowhere/at/all"),
        ({"name": "a/b"}, ValueError, "name must be letters"),
    ],
)
def test_what_is_wrong_is_said_before_any_training(
    photos: Path, tmp_path: Path, settings: dict[str, Any], error: type[Exception], says: str
) -> None:
    recipe = short(ImagesRecipe(**{"data": str(photos), **SMALL, **settings}))
    with pytest.raises(error, match=says):
        recipe.run(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_size_that_the_network_cannot_halve_is_refused() -> None:
    with pytest.raises(ValueError, match="size must be a multiple of 8"):
        ImagesRecipe(data="photos", size=30)


def test_the_emoji_recipe_makes_a_teacher_and_a_student(tmp_path: Path) -> None:
    recipe = short(EmojiRecipe(canvas=(0, 32), **SMALL))
    saved = recipe.run(tmp_path)
    image = fewstep.load(saved.directory).generate("a red apple", seed=1)
    assert (image.size, image.mode) == ((16, 16), "RGBA")
    teacher = fewstep.load(tmp_path / "models" / "emoji-teacher")
    assert saved.spec.lineage == [{"teacher": "emoji-teacher", "hash": teacher.saved.hash}]


def test_the_digits_recipe_makes_a_teacher_and_a_student(tmp_path: Path) -> None:
    saved = short(DigitsRecipe(widths=(32, 32), depths=(1, 1))).run(tmp_path)
    assert fewstep.load(saved.directory).generate(label=3, seed=1).size == (16, 16)


def test_the_toy_recipe_measures_what_it_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recipe = replace(short(ToyRecipe(width=16, depth=1)), points=100)
    with caplog.at_level("INFO"):
        recipe.run(tmp_path)
    assert "sliced Wasserstein distance" in caplog.text


def _two_stages(out: Path, data: Path, rank: int) -> None:
    short(ImagesRecipe(data=str(data), **SMALL)).run(out)


def test_two_processes_train_and_write_one_model(photos: Path, tmp_path: Path) -> None:
    assert Processes().run_together(2, _two_stages, tmp_path / "run", photos) == [0, 0]
    assert fewstep.load(tmp_path / "run" / "models" / "images").generate("", seed=1).size == (16, 16)
    assert sorted(p.name for p in (tmp_path / "run" / "models").iterdir()) == ["images", "images-teacher"]
