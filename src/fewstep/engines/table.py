"""The stored measurements of `fewstep bench engines` on this machine, and the choice of engine based on them.

A table is valid for one processor, device, number of threads, set of engine versions and network shape, whatever the
weights.
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
from fewstep.engines.registry import ENGINES
from fewstep.models.saved import SavedModel
from fewstep.pictures import installed

log = logging.getLogger(__name__)

MOST_DIFFERENCE = 2 / 255
"""The largest difference of a pixel from float32 eager that `auto` accepts."""


@dataclass(frozen=True)
class Measured:
    """One engine at one precision.

    Args:
        engine, precision: the engine and its precision.
        ms_batch1: milliseconds per network call with one sample.
        images_per_s_batch8, images_per_s_batch32: images per second at one network call per image.
        cold_start_s: seconds from the start of a process to its first output.
        memory_mb: resident memory after that.
        max_pixel_difference, mean_pixel_difference: largest and mean difference of a pixel, in [0, 1], from float32
            eager, or from ONNX Runtime if PyTorch is not installed.
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


def place(model: SavedModel, device: str = "cpu", threads: int | None = None) -> Path:
    """The path of the table for this machine and a model's shape; `device` and `threads` as for an engine."""
    shape = json.dumps([model.spec.network, model.spec.pixels], sort_keys=True, default=str)
    versions = installed("onnxruntime", "openvino", "torch")
    machine = [platform.machine(), _processor(), cores(), device, threads or cores()]
    facts = json.dumps([shape, machine, versions], sort_keys=True)
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "fewstep" / "engines" / f"{hashlib.sha256(facts.encode()).hexdigest()[:16]}.json"


def keep(model: SavedModel, rows: Sequence[Measured], device: str = "cpu", threads: int | None = None) -> Path:
    """Write the table, and return its path."""
    file = place(model, device, threads)
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_suffix(f".{os.getpid()}")
    scratch.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")
    scratch.replace(file)
    return file


def read(model: SavedModel, device: str = "cpu", threads: int | None = None) -> list[Measured] | None:
    """The table, or None if nothing was measured, or it was written in another format."""
    try:
        values: Any = json.loads(place(model, device, threads).read_text(encoding="utf-8"))
        return [Measured(**row) for row in values]
    except (FileNotFoundError, ValueError, TypeError):
        return None


def choose(
    model: SavedModel, precision: str | None = None, device: str = "cpu", threads: int | None = None
) -> tuple[str, str]:
    """The engine and precision that `auto` chooses; the reason is logged. It is the fastest at batch 1 that draws the
    same image, or the fastest with the given precision; without such a measurement, the first one available.

    Raises:
        ValueError: no engine computes in this precision on this device.
    """
    usable = [engine for engine in ENGINES.values() if device == "cpu" or engine.devices]
    ways = [(engine.name, kind) for engine in usable for kind in engine.precisions if precision in (None, kind)]
    if not ways:
        raise ValueError(f"no engine computes in {precision} on the device '{device}'")
    installed_ways = [(name, kind) for name, kind in ways if ENGINES[name].installed]
    table = read(model, device, threads)
    rows = [row for row in table or [] if (row.engine, row.precision) in installed_ways]
    able = [row for row in rows if precision or row.max_pixel_difference <= MOST_DIFFERENCE]
    if not able:
        engine, kind = (installed_ways or ways)[0]
        log.warning(
            "engine auto: %s %s, since %s", engine, kind, _unmeasured(table, rows, precision, device, threads)
        )
        return engine, kind
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


def _unmeasured(
    table: list[Measured] | None, rows: list[Measured], precision: str | None, device: str, threads: int | None
) -> str:
    """The reason why there is no measurement to choose by."""
    options = f"{'' if device == 'cpu' else f' --device {device}'}{f' --threads {threads}' if threads else ''}"
    command = f"fewstep bench engines MODEL{options}"
    if table is None:
        return f"nothing was measured here for this model: run '{command}'"
    if rows:
        return f"none of the engines measured by '{command}' draws the same image"
    return f"'{command}' measured no installed engine{f' in {precision}' if precision else ''}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
