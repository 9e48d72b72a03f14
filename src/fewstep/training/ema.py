"""Moving averages of weights: a constant decay, and the power function of EDM2 (2312.02696 §3.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fewstep.training.trainable import trainable


@dataclass(frozen=True)
class EmaConfig:
    """The moving average of the weights.

    Args:
        decay: Constant decay per step; None for the power function.
        sigma_rel: Width of the power function relative to the length of training (EDM2 eq. 3), e.g. 0.05 or 0.10.
    """

    decay: float | None = None
    sigma_rel: float = 0.05

    def __post_init__(self) -> None:
        if self.decay is not None and not 0 <= self.decay < 1:
            raise ValueError(f"an EMA decay must be at least 0 and below 1, got {self.decay}")
        if not 0 < self.sigma_rel < 0.28:
            raise ValueError(f"sigma_rel must be above 0 and below 0.28, got {self.sigma_rel}")

    def at(self, step: int) -> float:
        """The decay used after optimiser step number `step` (1 for the first)."""
        if self.decay is not None:
            # a constant decay would remember the random start for a long time: follow the weights at first
            return min(self.decay, step / (step + 9.0))
        return float((1 - 1 / max(step, 1)) ** (power(self.sigma_rel) + 1))


def power(sigma_rel: float) -> float:
    """γ with σ_rel = √((γ + 1)/((γ + 2)²·(γ + 3))) (2312.02696 eq. 3), by bisection; σ_rel falls with γ."""
    low, high = 0.0, 1e5
    for _ in range(200):
        middle = (low + high) / 2
        if ((middle + 1) / ((middle + 2) ** 2 * (middle + 3))) ** 0.5 > sigma_rel:
            low = middle
        else:
            high = middle
    return (low + high) / 2


@torch.no_grad()
def update(average: nn.Module, current: nn.Module, decay: float) -> None:
    """average ← decay·average + (1 − decay)·current, for every trainable parameter; buffers are copied.

    Args:
        average: a copy of `current`, of the same structure.
        current: the network being trained, which determines the trainable parameters.
        decay: at least 0 and below 1.
    """
    learned, averaged = trainable(current), dict(average.named_parameters())
    mine: list[Tensor] = [averaged[name].data for name in learned]
    latest: list[Tensor] = [parameter.data for parameter in learned.values()]
    torch._foreach_lerp_(mine, latest, 1 - decay)
    for kept, buffer in zip(average.buffers(), current.buffers(), strict=True):
        kept.copy_(buffer)
