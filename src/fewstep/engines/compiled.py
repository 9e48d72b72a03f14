"""Run a network compiled by PyTorch: fused kernels on a CPU, CUDA graphs on a GPU.

It is compiled for each batch size when that size first occurs, which takes from seconds to a minute.
"""

from __future__ import annotations

from typing import Any

import torch

from fewstep.core.arrays import Array, Condition
from fewstep.engines.eager import EagerNetwork
from fewstep.engines.errors import EngineError
from fewstep.engines.fixed_sizes import SIZES, FixedSizes
from fewstep.models.saved import SavedComponent


class CompiledNetwork:
    """A `Network` on NumPy arrays.

    Args:
        component: a network with an architecture and weights.
        device: as in `EagerNetwork`.
        threads: threads per operation on a CPU, set for the whole process; None keeps the current number.
    """

    name = "compiled"
    precision = "float32"
    sizes = SIZES

    def __init__(self, component: SavedComponent, device: str = "cpu", threads: int | None = None) -> None:
        self._eager = EagerNetwork(component, device, threads)
        graphs = torch.device(device).type == "cuda"
        compiled = torch.compile(
            self._eager.network, dynamic=False, fullgraph=True, mode="reduce-overhead" if graphs else None
        )
        self._eager.network = compiled  # type: ignore[assignment]
        self._run = FixedSizes(lambda size: self._eager)

    def __call__(self, x: Array, time_at: Array, time_to: Array, cond: Condition) -> Any:
        try:
            return self._run(x, time_at, time_to, cond)
        except torch._dynamo.exc.TorchDynamoException as error:
            raise EngineError(f"PyTorch cannot compile the network here: {str(error).splitlines()[0]}") from error
