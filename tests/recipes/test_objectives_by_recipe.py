"""Every objective from every recipe: a few steps are trained, and the saved student draws."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import fewstep
from fewstep.core.parameterisations import Targets
from fewstep.models.saved import SavedModel
from fewstep.objectives.registry import OBJECTIVES, STUDENTS
from fewstep.recipes import two_stage
from fewstep.recipes.digits import DigitsRecipe
from fewstep.recipes.emoji import EmojiRecipe
from fewstep.recipes.images import ImagesRecipe
from fewstep.recipes.two_stage import DEFAULT_SAMPLERS
from fewstep.training import saving
from fewstep.training.reporting import Reporter
from picture_cases import six_in
from recipe_runs import staged

SMALLEST: dict[str, Any] = {"size": 8, "widths": (32,), "depths": (1,)}
REQUESTS: dict[str, dict[str, Any]] = {
    "digits": {"label": 3},
    "images": {"prompt": "slope number 3"},
    "emoji": {"prompt": "a red apple"},
}


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Without the exported network and the chart of losses, which take longer than all else and are tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saving, "export_onnx", lambda *given: None)
        patch.setattr(Reporter, "chart", lambda *given: None)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def recipe_of(folder: Path) -> Callable[[str], Any]:
    """A recipe at its smallest, by name."""
    photos = six_in(folder / "photos")
    rows = [{"file_name": f"{number}.png", "text": f"slope number {number}"} for number in range(6)]
    (photos / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")

    @cache
    def make(name: str) -> Any:
        recipes: dict[str, Any] = {
            "digits": DigitsRecipe(**SMALLEST),
            "images": ImagesRecipe(data=str(photos), text_width=32, **SMALLEST),
            "emoji": EmojiRecipe(canvas=(8,), text_width=32, **SMALLEST),
        }
        recipe = recipes[name]
        stages = recipe.stages
        teacher, student = (
            replace(
                config,
                images=9,
                batch=3,
                precision="float32",
                optimizer=replace(config.optimizer, lr=1e-2, warmup=0, decay_from=1.0),
                checkpoint_every=0,
                preview_every=0,
            )
            for config in (stages.teacher, stages.student)
        )
        return staged(recipe, teacher=teacher, student=student)

    return make


@pytest.fixture(scope="module")
def parent_of(recipe_of: Callable[[str], Any], folder: Path) -> Callable[[str, Targets], SavedModel]:
    """A teacher or a consistency model of a recipe, each trained once."""

    @cache
    def make(name: str, targets: Targets) -> SavedModel:
        out = folder / name / targets.value
        if targets is Targets.SAME:
            return two_stage.train_teacher(recipe_of(name), out)
        teacher = make(name, Targets.SAME).directory
        return run(staged(recipe_of(name), objective=OBJECTIVES["easy_consistency"], parent=teacher), out)

    return make


def run(recipe: Any, out: Path) -> SavedModel:
    saved: SavedModel = recipe.run(out)
    return saved


@pytest.mark.parametrize("objective", STUDENTS)
@pytest.mark.parametrize("name", REQUESTS)
def test_every_recipe_trains_a_student_by_every_objective(
    name: str,
    objective: str,
    recipe_of: Callable[[str], Any],
    parent_of: Callable[[str, Targets], SavedModel],
    tmp_path: Path,
) -> None:
    settings: Any = OBJECTIVES[objective]
    if hasattr(settings, "every"):  # three steps of the run shall be three of the student's
        settings = replace(settings, every=1)
    parent = parent_of(name, settings.needs or Targets.SAME)
    saved = run(staged(recipe_of(name), objective=settings, parent=parent.directory), tmp_path)
    assert saved.spec.targets is settings.targets
    assert saved.spec.sampler == DEFAULT_SAMPLERS[settings.targets]
    assert saved.spec.recipe["settings"]["stages"]["objective"]["kind"] == settings.kind
    assert parent.hash in [entry.get("hash") for entry in saved.spec.lineage]
    guided = settings.learns_guidance and name != "digits"
    assert (saved.spec.conditioning.guidance is not None) == guided
    before, after = load_file(parent.weights), load_file(saved.weights)
    assert any(not np.array_equal(values, after[weights]) for weights, values in before.items()), "it learned nothing"
    image = fewstep.load(saved.directory, engine="eager").generate(**REQUESTS[name], seed=1)
    assert image.size == (8, 8)
    assert image.record.network_evaluations == 1
