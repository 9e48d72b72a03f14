"""A network's kernels as one CUDA graph: a small network on a GPU waits for Python to launch them one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.core.arrays import Condition
from fewstep.core.parameterisations import Network


class Graphed:
    """A network that is recorded at its first call with inputs of a shape and replayed from then on, derivatives too.

    A call's output and its parameters' gradients lie where those of the call before it lay: use them, or copy them,
    before the next. Not for derivatives in forward mode.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._recorded: dict[Any, Any] = {}

    def __call__(self, x: Tensor, time_at: Tensor, time_to: Tensor, cond: Condition) -> Tensor:
        names = tuple(sorted(cond))
        inputs = (x, time_at, time_to, *(cond[name] for name in names))
        half = torch.is_autocast_enabled(x.device.type)
        key = (names, half, torch.is_grad_enabled(), *((tuple(t.shape), t.dtype) for t in inputs))
        if key not in self._recorded:
            samples = tuple(t.detach().clone() for t in inputs)
            # weights cast once and kept, as autocast would, are not the weights of the next step
            with torch.autocast(x.device.type, torch.bfloat16, enabled=half, cache_enabled=False):
                self._recorded[key] = torch.cuda.make_graphed_callables(_Positional(self._network, names), samples)
        output: Tensor = self._recorded[key](*inputs)
        return output


class _Positional(nn.Module):
    """A network called with tensors alone, as recording wants it."""

    def __init__(self, network: Network, names: Sequence[str]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, x: Tensor, time_at: Tensor, time_to: Tensor, *cond: Tensor) -> Tensor:
        output: Tensor = self.network(x, time_at, time_to, dict(zip(self.names, cond, strict=True)))
        return output
