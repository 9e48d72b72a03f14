"""Measure every engine that is installed, in turn, on one model."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fewstep.engines.errors import EngineError
from fewstep.engines.registry import ENGINES
from fewstep.engines.table import Measured
from fewstep.generation import Model, Request, load

BATCHES = (1, 8, 32)
_EXACT = ("eager", "onnx")  # what differences are taken from: the first that is installed

_COLD = """
import time
began = time.perf_counter()
import json, resource, sys
import numpy as np
from fewstep.generation import Request, load
name, engine, precision, device, threads = json.loads(sys.argv[1])
model = load(name, engine, device, threads, precision)
for _ in model.run(model.plan(Request(seed=0))):
    pass
seconds = time.perf_counter() - began
kilobytes = int(next(l for l in open("/proc/self/status") if l.startswith("VmRSS")).split()[1])
print(json.dumps({"seconds": seconds, "megabytes": kilobytes / 1024}))
"""


def measure_engines(
    name: str,
    device: str = "cpu",
    threads: int | None = None,
    rounds: int = 20,
    say: Callable[[str], None] = lambda text: None,
) -> list[Measured]:
    """Latency, throughput, start, memory and exactness of every engine and precision that runs here.

    Args:
        name: of the model.
        device: for the engines that have a choice.
        threads: of one call; None for one a core.
        rounds: turns at batch 1; fewer for larger batches.
        say: told of engines that cannot run.
    """
    models: dict[tuple[str, str], Model] = {}
    for engine in ENGINES.values():
        for precision in engine.precisions:
            if not engine.installed:
                say(f"{engine.name}: not installed ({engine.install})")
                continue
            try:
                where = device if engine.devices else "cpu"
                models[engine.name, precision] = load(name, engine.name, where, threads, precision)
                _call(models[engine.name, precision], 1)
            except EngineError as error:
                models.pop((engine.name, precision), None)
                say(f"{engine.name} {precision}: {error}")
    times = _in_turn(list(models.values()), rounds)
    exact = next(_pixels(models[engine, "float32"]) for engine in _EXACT if (engine, "float32") in models)
    rows = []
    for ((engine_name, precision), model), spent in zip(models.items(), times, strict=True):
        cold = _cold(name, engine_name, precision, model.device, threads)
        rows.append(
            Measured(
                engine=engine_name,
                precision=precision,
                ms_batch1=round(1000 * spent[1], 3),
                images_per_s_batch8=round(8 / spent[8], 1),
                images_per_s_batch32=round(32 / spent[32], 1),
                cold_start_s=round(cold["seconds"], 2),
                memory_mb=round(cold["megabytes"]),
                max_pixel_difference=round(float(np.abs(_pixels(model) - exact).max()), 6),
            )
        )
    return rows


def _in_turn(models: Sequence[Model], rounds: int) -> list[dict[int, float]]:
    """Median seconds of one network call by batch size, the models in turn."""
    results: list[dict[int, float]] = [{} for _ in models]
    for batch in BATCHES:
        spent: list[list[float]] = [[] for _ in models]
        for turn in range(1 + max(3, rounds // batch)):
            for model, times in zip(models, spent, strict=True):
                for _ in range(2):  # the first call of a turn finds the caches as the other engine left them
                    began = time.perf_counter()
                    _call(model, batch)
                    seconds = time.perf_counter() - began
                if turn:
                    times.append(seconds)
        for result, times in zip(results, spent, strict=True):
            result[batch] = statistics.median(times)
    return results


def _call(model: Model, batch: int) -> None:
    spec = model.spec
    shape = (batch, *spec.conditioning.codec.shape(spec.pixels))
    arrays = spec.conditioning.arrays(["a red apple"] * batch, None, None, spec.pixels, spec.guidance)
    times = np.full(batch, 0.5, dtype=np.float32)
    model.network(np.ones(shape, dtype=np.float32), times, np.zeros_like(times), arrays)


def _pixels(model: Model) -> Any:
    *_, last = model.run(model.plan(Request("a red apple", seed=0, images=8)))
    return np.clip(model.spec.conditioning.codec.decode(last.jump.x), 0, 1)


def _cold(name: str, engine: str, precision: str, device: str, threads: int | None) -> Any:
    asked = json.dumps([str(name), engine, precision, device, threads])
    done = subprocess.run([sys.executable, "-c", _COLD, asked], capture_output=True, text=True, check=False)
    if done.returncode:
        raise EngineError(f"{engine} {precision} failed in a fresh process: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout.splitlines()[-1])
