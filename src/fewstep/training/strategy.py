"""How a run's networks are spread over its processes. A strategy alone knows how a network is wrapped, how gradients
are shared and measured, and where averages and states are kept; the loop and the objectives do not."""

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
    """What training asks of the way its networks are spread over processes."""

    @property
    def device(self) -> torch.device: ...

    @property
    def rank(self) -> int: ...

    @property
    def world(self) -> int: ...

    def place(self, network: nn.Module, channels_last: bool) -> nn.Module:
        """The network where it is trained, with the first process's weights."""
        ...

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network as its loss calls it: gradients that come back through it are those of all processes."""
        ...

    def accumulating(self, wrapped: nn.Module) -> AbstractContextManager[None]:
        """Calls and backward passes inside leave their gradients to be shared by a later one."""
        ...

    def share_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Average over processes the gradients of a network that was not wrapped."""
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
        """What is saved of a network, or of an average of it.

        Args:
            network: whose values are saved.
            of: the network that is trained, which says what learns: `network` itself or what it is an average of.
        """
        ...

    def wait(self) -> None:
        """Go on when every process has come here."""
        ...


class Replicate:
    """A whole copy of every network in each process, by Hugging Face Accelerate: a CPU, one GPU or several."""

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
    """Where to train: what `accelerate launch` set up, else the GPU, else the CPU.

    Precision and accumulation are the loop's own, whatever `accelerate config` says of them. Apple's GPUs have no
    float64, which levels are kept in: there the CPU trains.
    """
    apple = torch.backends.mps.is_available()
    if apple:
        log.info("training on the CPU: Apple's GPUs have no float64")
    once = GradientAccumulationPlugin(num_steps=1)
    return Accelerator(cpu=apple, mixed_precision="no", gradient_accumulation_plugin=once)
