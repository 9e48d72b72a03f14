"""What `fewstep bench engines` measured on this machine, kept, and the choice that follows from it.

A table belongs to a processor, to the versions of the engines, and to the shape of a network, whatever its weights.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fewstep.engines.machine import cores
from fewstep.engines.registry import DEFAULT, ENGINES
from fewstep.models.saved import SavedModel
from fewstep.provenance import installed

log = logging.getLogger(__name__)

MOST_DIFFERENCE = 2 / 255
"""Of a pixel from float32 eager: what `auto` accepts."""


@dataclass(frozen=True)
class Measured:
    """One engine at one precision.

    Args:
        engine, precision: which.
        ms_batch1: milliseconds of one call with one sample.
        images_per_s_batch8, images_per_s_batch32: of one network call each.
        cold_start_s: a fresh process until its first output.
        memory_mb: resident after it.
        max_pixel_difference, mean_pixel_difference: of a pixel in [0, 1], from float32 eager, or ONNX Runtime without
            PyTorch.
    """

    engine: str
    precision: str
    ms_batch1: float
    images_per_s_batch8: float
    images_per_s_batch32: float
    cold_start_s: float
    memory_mb: float
    max_pixel_difference: float
    mean_pixel_difference: float


def place(model: SavedModel) -> Path:
    """Where the table of this machine and a model's shape is kept."""
    shape = json.dumps([model.spec.network, model.spec.pixels], sort_keys=True, default=str)
    versions = installed("onnxruntime", "openvino", "torch")
    facts = json.dumps([shape, platform.machine(), _processor(), cores(), versions], sort_keys=True)
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "fewstep" / "engines" / f"{hashlib.sha256(facts.encode()).hexdigest()[:16]}.json"


def keep(model: SavedModel, rows: Sequence[Measured]) -> Path:
    """Write the table: where."""
    file = place(model)
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_suffix(f".{os.getpid()}")
    scratch.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")
    scratch.replace(file)
    return file


def read(model: SavedModel) -> list[Measured] | None:
    """The table, or None if nothing was measured, or not in this form."""
    try:
        values: Any = json.loads(place(model).read_text(encoding="utf-8"))
        return [Measured(**row) for row in values]
    except (FileNotFoundError, ValueError, TypeError):
        return None


def choose(model: SavedModel, precision: str | None = None) -> tuple[str, str]:
    """The engine and precision that `auto` takes, and says why: the fastest at batch 1 that draws the same image, or
    the fastest of the precision that is asked for."""
    rows = [row for row in read(model) or [] if row.engine in ENGINES and ENGINES[row.engine].installed]
    able = [
        row
        for row in rows
        if (row.precision == precision if precision else row.max_pixel_difference <= MOST_DIFFERENCE)
    ]
    if not able:
        log.warning("engine auto: %s, since nothing was measured here; 'fewstep bench engines' does", DEFAULT)
        return DEFAULT, precision or ENGINES[DEFAULT].precisions[0]
    best = min(able, key=lambda row: row.ms_batch1)
    others = ", ".join(f"{row.engine} {row.precision} {row.ms_batch1:.1f}" for row in rows if row is not best)
    log.warning(
        "engine auto: %s %s, %.1f ms at batch 1%s",
        best.engine,
        best.precision,
        best.ms_batch1,
        f" ({others})" if others else "",
    )
    return best.engine, best.precision


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
