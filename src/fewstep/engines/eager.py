"""Run a network in PyTorch, uncompiled: the reference that the other engines are compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from fewstep.core.arrays import Array, Condition
from fewstep.engines.errors import EngineError
from fewstep.models.components import WEIGHTS
from fewstep.models.saved import SavedComponent
from fewstep.networks.registry import build, load_weights


class EagerNetwork:
    """A `Network` that takes and returns NumPy arrays and computes in torch.

    Args:
        component: a network with an architecture and weights.
        device: for example "cpu", "cuda", "cuda:1" or "mps".
        threads: threads per operation on a CPU, set for the whole process; None keeps the current number.
    """

    name = "eager"
    precision = "float32"

    def __init__(self, component: SavedComponent, device: str = "cpu", threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        weights = component.file(WEIGHTS)
        if weights is None or component.part.architecture is None:
            raise EngineError(f"the component '{component.name}' is only an exported network: use engine 'onnx'")
        try:
            network = build(component.part.description)
            load_weights(network, weights)
        except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            raise EngineError(f"'{weights}' does not fit the network of its model.json: {error}") from error
        try:
            self._device = torch.device(device)
            self.network = network.to(self._device).eval().requires_grad_(False)
        except (RuntimeError, AssertionError) as error:  # torch does not know the device, or was built without it
            raise EngineError(f"the device '{device}' cannot be used here: {error}") from error

    def __call__(self, x: Array, time_at: Array, time_to: Array, cond: Condition) -> Any:
        with torch.inference_mode():
            tensors = {k: self._tensor(v) for k, v in {"x": x, "at": time_at, "to": time_to}.items()}
            named = {name: self._tensor(values) for name, values in cond.items()}
            output = self.network(tensors["x"], tensors["at"], tensors["to"], named)
        return output.cpu().numpy()

    def _tensor(self, values: Array) -> torch.Tensor:
        # times and levels may be broadcast views, which are read-only; torch wants writable memory
        return torch.from_numpy(np.require(values, requirements=("C", "W"))).to(self._device)
