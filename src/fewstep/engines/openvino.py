"""Run an exported network on OpenVINO: Intel's and other CPUs, in float32 or, where the CPU has it, bfloat16.

The network is compiled once for each batch size, since fixed shapes run a quarter faster than open ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino

from fewstep.core.arrays import Array, Condition
from fewstep.engines.errors import EngineError
from fewstep.engines.fixed_sizes import SIZES, FixedSizes
from fewstep.engines.machine import cores

PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


class OpenVinoNetwork:
    """A `Network` of NumPy arrays; not to be called by two threads at once.

    Args:
        file: the exported network; its weights may lie in a file beside it.
        precision: float32 or bfloat16, of the arithmetic; weights and what comes in and out stay as they are.
        threads: for one call; None for one a core.

    Raises:
        EngineError: OpenVINO cannot use it, or the CPU lacks the precision.
    """

    name = "openvino"
    sizes = SIZES

    def __init__(self, file: Path, precision: str = "float32", threads: int | None = None) -> None:
        if precision not in PRECISIONS:
            raise EngineError(f"the engine 'openvino' computes in {' or '.join(PRECISIONS)}, not in {precision}")
        self._core = openvino.Core()
        able = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bfloat16" and "BF16" not in able:
            raise EngineError(f"this CPU has no bfloat16 arithmetic (OpenVINO lists {', '.join(able)}): use float32")
        self.precision = precision
        self._file = file
        self._settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
            "INFERENCE_NUM_THREADS": threads or cores(),
            "ENABLE_CPU_PINNING": False,  # its threads stay where the caller is
        }
        self._run = FixedSizes(self._compiled)
        self._run.built(1)  # what is wrong with the file shows now, and the first image does not wait

    def __call__(self, x: Array, time_at: Array, time_to: Array, cond: Condition) -> Any:
        return self._run(x, time_at, time_to, cond)

    def _compiled(self, size: int) -> _Compiled:
        try:
            model = self._core.read_model(self._file)
            model.reshape({port.get_any_name(): [size, *_sample_shape(port)] for port in model.inputs})
            return _Compiled(self._core.compile_model(model, "CPU", self._settings))
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot load '{self._file}': {_first_line(error)}") from error


class _Compiled:
    """The network at one batch size."""

    def __init__(self, model: openvino.CompiledModel) -> None:
        self._request = model.create_infer_request()
        self._inputs = tuple(port.get_names() for port in model.inputs)  # an input may have several

    def __call__(self, x: Array, time_at: Array, time_to: Array, cond: Condition) -> Any:
        feeds = {"x": x, "time_at": time_at, "time_to": time_to, **cond}
        if missing := sorted(min(names) for names in self._inputs if not names & feeds.keys()):
            raise EngineError(f"the network needs the conditions {', '.join(missing)}")
        arrays = [
            np.ascontiguousarray(next(feeds[name] for name in names if name in feeds)) for names in self._inputs
        ]
        try:
            return self._request.infer(arrays, share_inputs=True)[0]
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot run the network: {_first_line(error)}") from error


def _sample_shape(port: Any) -> list[int]:
    return [axis.get_length() for axis in list(port.get_partial_shape())[1:]]


def _first_line(error: RuntimeError) -> str:
    return str(error).strip().splitlines()[0]
