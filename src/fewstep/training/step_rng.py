"""Training's random numbers, re-derived from (seed, step, rank) on the device, so that runs can be resumed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fewstep.core.randomness import derive


class StepRng:
    """The random numbers of one step, an `Rng` for torch.

    Each process draws the numbers of the whole global batch and keeps its own rows, so that a run does not depend on
    the number of processes.

    Args:
        seed: the run's seed.
        step: the optimiser step.
        device: device that the numbers are drawn on.
        rank, world: index of this process and micro-batch among all of the step, and their number.
    """

    def __init__(self, seed: int, step: int, device: torch.device, rank: int = 0, world: int = 1) -> None:
        self._generator = torch.Generator(device).manual_seed(derive("training", seed, step))
        self._device, self._rank, self._world = device, rank, world

    def normal(self, shape: Sequence[int]) -> Tensor:
        """float32 standard normal numbers; the first axis is the batch."""
        return self._mine(torch.randn(self._all(shape), generator=self._generator, device=self._device), shape)

    def uniform(self, shape: Sequence[int]) -> Tensor:
        """float32 numbers in [0, 1); the first axis is the batch."""
        return self._mine(torch.rand(self._all(shape), generator=self._generator, device=self._device), shape)

    def _all(self, shape: Sequence[int]) -> tuple[int, ...]:
        return (shape[0] * self._world, *shape[1:])

    def _mine(self, numbers: Tensor, shape: Sequence[int]) -> Tensor:
        return numbers[self._rank * shape[0] : (self._rank + 1) * shape[0]]
