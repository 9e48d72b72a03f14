"""How training calls a network: its precision, and on a GPU optionally as a CUDA graph, since a small network is
slowed down by Python launching its kernels one by one."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fewstep.networks.positional import Positional

Precision = Literal["auto", "bf16", "float32"]
"""`auto` is bf16 where `fast_dtype` is bfloat16, else float32."""


@cache
def fast_dtype(device: str) -> torch.dtype:
    """The type that a kind of device multiplies fastest: bfloat16, or on CPUs without it float32, 20 times as fast
    there."""
    fast = device != "cpu" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


def uses_bf16(precision: Precision, device: str) -> bool:
    """Whether a precision is bfloat16 on a kind of device."""
    return precision == "bf16" or (precision == "auto" and fast_dtype(device) is torch.bfloat16)


class AtPrecision:
    """A network called in bfloat16 or float32 arithmetic, optionally as CUDA graphs; its output is float32.

    Each call is its own autocast region: a shared one would cache the weights cast without gradient for the target's
    call and reuse them for the student's.
    """

    def __init__(self, network: nn.Module, device: torch.device, precision: Precision, graphs: bool = False) -> None:
        self.network = Graphed(network) if graphs and device.type == "cuda" else network
        self._device, self._half = device.type, uses_bf16(precision, device.type)

    def __call__(self, x: Any, time_at: Any, time_to: Any, cond: Mapping[str, Any]) -> Any:
        with torch.autocast(self._device, torch.bfloat16, enabled=self._half):
            output: Tensor = self.network(x, time_at, time_to, cond)
        if isinstance(self.network, Graphed) and output.dtype == x.dtype:
            return output.clone()
        return output.to(x.dtype)


class Graphed:
    """A network that is recorded at its first call with inputs of a shape and replayed from then on, derivatives too.

    A call overwrites the output and the parameter gradients of the previous call: use or copy them before the next
    one. Does not support forward-mode derivatives.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._recorded: dict[Any, Any] = {}

    def __call__(self, x: Tensor, time_at: Tensor, time_to: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        names = tuple(sorted(cond))
        inputs = (x, time_at, time_to, *(cond[name] for name in names))
        half = torch.is_autocast_enabled(x.device.type)
        key = (names, half, torch.is_grad_enabled(), *((tuple(t.shape), t.dtype) for t in inputs))
        if key not in self._recorded:
            samples = tuple(t.detach().clone() for t in inputs)
            # autocast would cache the cast weights, which would be stale in the next step
            with torch.autocast(x.device.type, torch.bfloat16, enabled=half, cache_enabled=False):
                self._recorded[key] = torch.cuda.make_graphed_callables(Positional(self.network, names), samples)
        output: Tensor = self._recorded[key](*inputs)
        return output
