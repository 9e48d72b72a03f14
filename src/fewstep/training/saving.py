"""Save a trained network as a model: weights rounded, graph exported, recipe and lineage recorded."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from fewstep.core.parameterisations import Targets
from fewstep.engines.export import export_onnx
from fewstep.models import writing
from fewstep.models.parts import to_plain
from fewstep.models.saved import SavedModel, read
from fewstep.models.spec import ModelSpec
from fewstep.objectives.setup import ObjectiveSettings
from fewstep.training.strategy import accelerator


def save_model(
    network: nn.Module,
    spec: ModelSpec,
    directory: Path,
    captions: Sequence[str] = (),
    other_words: Sequence[str] = (),
    recogniser: Path | None = None,
    beside: Sequence[Path] = (),
) -> SavedModel:
    """Save a trained network as a model, exported to ONNX, its weights rounded to float16.

    The network keeps the rounded weights, so that every engine uses the same numbers. With several processes, one
    writes and all read what it wrote. `beside` holds files of components that were trained before.
    """
    rounded = {name: value.detach().half().cpu() for name, value in network.state_dict().items()}
    network.load_state_dict({name: value.float() for name, value in rounded.items()})
    shape = spec.codec.shape(spec.pixels)

    def complete(scratch: Path) -> None:
        export_onnx(network, shape, spec.conditioning.null(2), scratch)
        if recogniser is not None:
            (scratch / "judge.onnx").write_bytes(recogniser.read_bytes())
        for file in beside:
            (scratch / file.name).write_bytes(file.read_bytes())

    processes = accelerator()
    if processes.is_main_process:
        weights = {name: value.numpy() for name, value in rounded.items()}
        writing.write(spec, weights, directory, captions, other_words, complete)
    processes.wait_for_everyone()
    return read(directory)


def resolved(recipe: Any, name: str) -> dict[str, Any]:
    """A recipe with all its settings as JSON values, as stored in `model.json`."""
    return {"name": name, "settings": _plain(recipe)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"kind": value.kind, **fields} if isinstance(value, ObjectiveSettings) else fields
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, Path):
        return value.name  # paths of the training machine are private
    return value.item() if isinstance(value, np.generic) else to_plain(value)


def lineage(parent: SavedModel | None, start: SavedModel | None = None) -> list[dict[str, Any]]:
    """The lineage of a model, as stored in model.json.

    Args:
        parent: for a student, the teacher it was distilled from, or the student that it continues, whose own lineage
            is kept.
        start: for a teacher, the earlier teacher that it was trained further from.
    """
    if parent is not None and parent.spec.targets is not Targets.SAME:
        return [{"start": parent.spec.name, "hash": parent.hash}, *map(dict, parent.spec.lineage)]
    if parent is not None:
        return [{"teacher": parent.spec.name, "hash": parent.hash}]
    if start is not None:
        return [{"start": start.spec.name, "hash": start.hash}]
    return []
