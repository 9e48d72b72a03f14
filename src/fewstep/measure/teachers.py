"""Find the teacher that a student was distilled from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fewstep.core.parameterisations import Targets
from fewstep.generation.load import load
from fewstep.generation.model import Model
from fewstep.models.parts import ModelError


def teacher_of(
    model: Model, threads: int | None = None, progress: Callable[[str], None] = lambda text: None
) -> Model | None:
    """The teacher named in a model's lineage, from the same folder or the package; None if it is in neither.

    Args:
        model: the student.
        threads: threads of the teacher's network.
        progress: called with a message if the teacher is missing, saying what was expected where.

    Raises:
        ModelError: the teacher's files are damaged.
    """
    if model.spec.targets is Targets.SAME:
        return None
    absent = []
    for parent in model.spec.lineage:
        if name := str(parent.get("teacher") or ""):
            found = None if "/" in name else _teacher(model.saved.directory.parent / name, threads)
            if found is not None and parent.get("hash") in (None, found.hash):
                return found
            absent.append(_absence(name, parent.get("hash"), model.saved.directory.parent, found))
    for text in absent:
        progress(text)
    return None


def _teacher(beside: Path, threads: int | None) -> Model | None:
    """The model in this directory, else the built-in one with its name."""
    try:
        return load(beside if beside.is_dir() else beside.name, threads=threads)
    except ModelError:
        if beside.is_dir():
            raise
        return None


def _absence(name: str, expected: Any, folder: Path, found: Model | None) -> str:
    digest = "" if expected is None else f" ({str(expected)[:10]})"
    why = f"is neither in '{folder}' nor built in"
    if found is not None:
        why = f"is not the one in '{found.saved.directory}' ({found.hash[:10]})"
    return f"the teacher '{name}'{digest} that the model names {why}: it is left out; give one with --teacher"
