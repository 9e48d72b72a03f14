"""Run an exported network on ONNX Runtime: the default engine, which does not need torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from fewstep.core.arrays import Array, Condition
from fewstep.engines.errors import EngineError
from fewstep.engines.machine import cores

SPIN = "50"  # microseconds that an idle thread stays awake


def open_session(file: Path, threads: int | None = None) -> Any:
    """An ONNX Runtime session on the CPU.

    A thread that sleeps between two operations wakes up late, and one that keeps spinning takes its core from
    everything else. Spinning for a limited time saves a third of the latency for a few percent more work. Runtimes
    that do not know the limit (below 1.25) spin for as long as they choose.

    Args:
        file: the graph.
        threads: threads per operation; None for one per core.

    Raises:
        EngineError: ONNX Runtime cannot load it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or cores()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.add_session_config_entry("session.intra_op.spin_duration_us", SPIN)
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no narrower common base
        raise EngineError(f"ONNX Runtime cannot load '{file}': {error}") from error


class OnnxNetwork:
    """A `Network` on NumPy arrays.

    Args:
        file: the exported network; its weights may be in a file next to it.
        threads: threads per operation; None for one per core.
    """

    name = "onnx"
    precision = "float32"

    def __init__(self, file: Path, threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        self._session = open_session(file, threads)
        self._inputs = {i.name: i for i in self._session.get_inputs()}
        self._output = self._session.get_outputs()[0].name

    def __call__(self, x: Array, time_at: Array, time_to: Array, cond: Condition) -> Any:
        feeds = {"x": x, "time_at": time_at, "time_to": time_to, **cond}
        missing = sorted(set(self._inputs) - set(feeds))
        if missing:
            raise EngineError(f"the network needs the conditions {', '.join(missing)}")
        arrays = {name: np.ascontiguousarray(feeds[name]) for name in self._inputs}
        try:
            (output,) = self._session.run([self._output], arrays)
        except Exception as error:  # as above
            raise EngineError(f"ONNX Runtime cannot run the network: {str(error).splitlines()[0]}") from error
        return output
