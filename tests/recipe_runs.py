"""Recipes at their smallest, in a module that a fresh process can import."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from fewstep.recipes.images import ImagesRecipe
from fewstep.training import saving

SMALL: dict[str, Any] = {"size": 16, "widths": (32, 32), "depths": (1, 1), "text_width": 32}


def short(recipe: Any) -> Any:
    """The same recipe, two steps of four a stage."""
    teacher, student = (
        replace(config, images=8, batch=4, precision="float32", preview_every=0)
        for config in (recipe.stages.teacher, recipe.stages.student)
    )
    return staged(recipe, teacher=teacher, student=student)


def staged(recipe: Any, **changes: Any) -> Any:
    """The same recipe with other settings of its stages."""
    return replace(recipe, stages=replace(recipe.stages, **changes))


def run_images(out: Path, data: Path, rank: int) -> None:
    """In a process of its own; without the exported graphs, which take longer than the training."""
    saving.export_onnx = lambda *given: None  # type: ignore[assignment]  # and has another answer
    short(ImagesRecipe(data=str(data), **SMALL)).run(out)
