"""Run an exported network on OpenVINO, on Intel's and other CPUs, in float32 or, if the CPU has it, bfloat16.

The network is compiled for each batch size, since fixed shapes run a quarter faster than dynamic ones.
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
    """A `Network` on NumPy arrays; two threads must not call it at the same time.

    Args:
        file: the exported network; its weights may be in a file next to it.
        precision: precision of the arithmetic, float32 or bfloat16; weights, inputs and outputs keep theirs.
        threads: threads per call; None for one per core.

    Raises:
        EngineError: OpenVINO cannot load the network, or the CPU lacks the precision.
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
            "ENABLE_CPU_PINNING": False,  # its threads stay on the caller's cores
        }
        self._run = FixedSizes(self._compiled)
        self._run.built(1)  # errors in the file show now, and the first image does not wait

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
        self._inputs = tuple(port.get_names() for port in model.inputs)  # an input may have several names

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
