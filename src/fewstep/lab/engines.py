"""Benchmark every installed engine on one model, taking turns."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from fewstep.engines.errors import EngineError
from fewstep.engines.registry import ENGINES
from fewstep.engines.table import Measured
from fewstep.lab.turns import TurnError, Turns, in_turn

BATCHES = (1, 8, 32)
IMAGES = 8  # images whose pixels are compared
_EXACT = ("eager float32", "onnx float32")  # reference for pixel differences: the first one that runs

_ENGINE = """
import time
began = time.perf_counter()
import json, sys
from pathlib import Path
import numpy as np
from fewstep.generation import Request, load
from fewstep.lab.engines import IMAGES, call
name, engine, precision, device, threads = json.loads(sys.argv[1])
model = load(name, engine, device, threads, precision)
call(model, 1)
seconds = time.perf_counter() - began
kilobytes = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")]

def answer(what, batch=1, calls=1, file=""):
    if what == "start":
        return {"seconds": seconds, "megabytes": int(kilobytes[0].split()[1]) / 1024 if kilobytes else 0}
    if what == "pixels":
        prompt = "a red apple" if model.spec.conditioning.text_length else ""
        *_, last = model.run(model.plan(Request(prompt, seed=0, images=IMAGES)))
        np.save(file, np.clip(last.pixels, 0, 1))
        return None
    call(model, batch)
    return [call(model, batch) for _ in range(calls)]
"""


def measure_engines(
    name: str,
    device: str = "cpu",
    threads: int | None = None,
    rounds: int = 5,
    progress: Callable[[str], None] = lambda text: None,
) -> list[Measured]:
    """Latency, throughput, start-up time, memory and exactness of every engine and precision that runs here.

    Args:
        name: name of the model.
        device: device of the engines that support several.
        threads: threads per network call; None for one per core.
        rounds: turns of each engine at every batch size.
        progress: called with a line of text for each engine that cannot run.

    Raises:
        EngineError: no engine can run.
    """
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        running: dict[str, Turns] = {}
        starts: dict[str, Any] = {}
        for engine in ENGINES.values():
            if not engine.installed:
                progress(f"{engine.name}: not installed ({engine.install})")
                continue
            for precision in engine.precisions:
                key = f"{engine.name} {precision}"
                asked = json.dumps([str(name), engine.name, precision, device if engine.devices else "cpu", threads])
                turns = stack.enter_context(Turns(key, _ENGINE, asked))
                try:
                    starts[key] = turns.ask(what="start")
                except TurnError as error:
                    progress(str(error))
                else:
                    running[key] = turns
        if not running:
            raise EngineError(f"no engine runs the model '{name}' here")
        medians = {batch: _medians(running, rounds, batch) for batch in BATCHES}
        pixels = {key: _pixels(turns, Path(folder) / f"{key}.npy") for key, turns in running.items()}
    exact = next(pixels[key] for key in _EXACT if key in pixels)
    return [
        Measured(
            engine=key.split()[0],
            precision=key.split()[1],
            ms_batch1=round(1000 * medians[1][key], 3),
            images_per_s_batch8=round(8 / medians[8][key], 1),
            images_per_s_batch32=round(32 / medians[32][key], 1),
            cold_start_s=round(starts[key]["seconds"], 2),
            memory_mb=round(starts[key]["megabytes"]),
            max_pixel_difference=round(float(np.abs(pixels[key] - exact).max()), 6),
            mean_pixel_difference=round(float(np.abs(pixels[key] - exact).mean()), 6),
        )
        for key in running
    ]


def _medians(running: dict[str, Turns], rounds: int, batch: int) -> dict[str, float]:
    spent = in_turn(running, rounds, what="calls", batch=batch, calls=max(2, 16 // batch))
    return {key: statistics.median(values) for key, values in spent.items()}


def _pixels(turns: Turns, file: Path) -> Any:
    turns.ask(what="pixels", file=str(file))
    return np.load(file)


def call(model: Any, batch: int) -> float:
    """Seconds that one call of a model's network takes on a batch, at half-way times."""
    spec = model.spec
    shape = (batch, *spec.codec.shape(spec.pixels))
    arrays = spec.conditioning.encode(
        batch,
        prompt=["a red apple"] * batch,
        guidance=None if spec.guidance is None else [spec.guidance] * batch,
    )
    x, times = np.ones(shape, dtype=np.float32), np.full(batch, 0.5, dtype=np.float32)
    began = time.perf_counter()
    model.network(x, times, np.zeros_like(times), arrays)
    return time.perf_counter() - began
