"""How a run's networks are distributed over its processes. Only a strategy knows how a network is wrapped, how
gradients are reduced and clipped, and where averages and states are kept; the loop and the objectives do not."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin, broadcast
from torch import Tensor, nn

from fewstep.networks.layout import laid_out
from fewstep.training import ema
from fewstep.training.checkpoints import Stateful
from fewstep.training.trainable import LearnedState, frozen, sharing_copy

log = logging.getLogger(__name__)


class Strategy(Protocol):
    """The operations that training needs for networks distributed over processes."""

    @property
    def device(self) -> torch.device: ...

    @property
    def rank(self) -> int: ...

    @property
    def world(self) -> int: ...

    def place(self, network: nn.Module, channels_last: bool) -> nn.Module:
        """The network on its device, with the weights of the first process."""
        ...

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network as its loss calls it: gradients through it are averaged over all processes."""
        ...

    def accumulating(self, wrapped: nn.Module) -> AbstractContextManager[None]:
        """A context in which gradients are accumulated locally, to be shared by a later backward pass."""
        ...

    def share_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Average the gradients of a network that is not wrapped over all processes."""
        ...

    def clip(self, parameters: Sequence[nn.Parameter], limit: float) -> Tensor:
        """Scale gradients so that their norm is at most `limit`; return the norm they had."""
        ...

    def average(self, network: nn.Module) -> nn.Module:
        """A moving average of a network, equal to it at first."""
        ...

    def update(self, average: nn.Module, network: nn.Module, decay: float) -> None:
        """average ← decay·average + (1 − decay)·network."""
        ...

    def state(self, network: nn.Module, of: nn.Module) -> Stateful:
        """The state to save for a network, or for an average of it.

        Args:
            network: the network whose values are saved.
            of: the trained network, which determines the trainable parameters: `network` itself, or the network that
                it is an average of.
        """
        ...

    def wait(self) -> None:
        """Wait until every process has reached this point."""
        ...


class Replicate:
    """A full copy of every network in each process, with Hugging Face Accelerate: a CPU, one GPU or several."""

    def __init__(self) -> None:
        self._accelerator = accelerator()

    @property
    def device(self) -> torch.device:
        device: torch.device = self._accelerator.device
        return device

    @property
    def rank(self) -> int:
        rank: int = self._accelerator.process_index
        return rank

    @property
    def world(self) -> int:
        world: int = self._accelerator.num_processes
        return world

    def place(self, network: nn.Module, channels_last: bool) -> nn.Module:
        placed = laid_out(network, channels_last, self.device)
        for values in placed.state_dict().values():
            values.copy_(broadcast(values))
        return placed

    def wrap(self, network: nn.Module) -> nn.Module:
        wrapped: nn.Module = self._accelerator.prepare(network)
        return wrapped

    def accumulating(self, wrapped: nn.Module) -> AbstractContextManager[None]:
        alone: AbstractContextManager[None] = self._accelerator.no_sync(wrapped)
        return alone

    def share_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        if self.world > 1:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad = self._accelerator.reduce(parameter.grad, "mean")

    def clip(self, parameters: Sequence[nn.Parameter], limit: float) -> Tensor:
        return nn.utils.clip_grad_norm_(parameters, limit)

    def average(self, network: nn.Module) -> nn.Module:
        return sharing_copy(network).requires_grad_(False)

    def update(self, average: nn.Module, network: nn.Module, decay: float) -> None:
        ema.update(average, network, decay)

    def state(self, network: nn.Module, of: nn.Module) -> Stateful:
        return LearnedState(network, frozen(of))

    def wait(self) -> None:
        self._accelerator.wait_for_everyone()


def accelerator() -> Accelerator:
    """The devices to train on: those set up by `accelerate launch`, else the GPU, else the CPU.

    The loop handles precision and accumulation itself, whatever `accelerate config` says. Apple GPUs lack float64,
    which levels are stored in, so training runs on the CPU there.
    """
    apple = torch.backends.mps.is_available()
    if apple:
        log.info("training on the CPU: Apple GPUs do not support float64")
    once = GradientAccumulationPlugin(num_steps=1)
    return Accelerator(cpu=apple, mixed_precision="no", gradient_accumulation_plugin=once)
