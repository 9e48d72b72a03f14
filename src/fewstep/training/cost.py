"""What a training will cost, before it begins: memory from a dry run without arithmetic, time from one evaluation."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from fewstep.core.memory import check_memory, free_memory
from fewstep.training.strategy import accelerator
from fewstep.training.trainable import trainable

Inputs = tuple[Tensor, Tensor, Tensor, Mapping[str, Tensor]]
"""What a network is called with: x, two times and the conditions, each with the batch first."""


@dataclass(frozen=True)
class Memory:
    """Bytes that a training takes.

    Args:
        weights: of all networks, those that are not trained among them.
        training: gradients, optimiser and moving averages of what is trained.
        activations: kept for the gradient of one image.
    """

    weights: int
    training: int
    activations: int

    def total(self, batch: int) -> int:
        """The bytes of a batch of this size."""
        return self.weights + self.training + batch * self.activations


def memory_of(network: nn.Module, inputs: Inputs, others: int = 0, averages: int = 1) -> Memory:
    """The memory of training a network, AdamW's two moments included.

    Args:
        network: the network, some of whose parameters are trained.
        inputs: what it is called with, for one image.
        others: bytes of further networks.
        averages: moving averages of what is trained.
    """
    trained = sum(p.numel() * p.element_size() for p in trainable(network).values())
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    return Memory(weights + others, trained * (3 + averages), _activations(network, inputs))


def _activations(network: nn.Module, inputs: Inputs) -> int:
    """The bytes that a forward pass keeps for its gradient, found with tensors that hold no numbers."""
    kept: dict[int, Any] = {}

    def keep(tensor: Tensor) -> Tensor:
        whole = tensor if tensor._base is None else tensor._base
        if not isinstance(whole, nn.Parameter):
            storage = tensor.untyped_storage()
            kept[storage._cdata] = storage
        return tensor

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    x, at, to, cond = inputs
    fake = [mode.from_tensor(each) for each in (x, at, to)]
    with mode, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(*fake, {name: mode.from_tensor(values) for name, values in cond.items()})
    return sum(storage.nbytes() for storage in kept.values())


def seconds_of(call: Callable[..., Any], inputs: Inputs, times: int = 2) -> float:
    """The seconds of one evaluation without gradient, the shortest of several."""
    device, spent = inputs[0].device, []
    with torch.no_grad():
        for _ in range(1 + times):  # the first one sets up kernels
            began = time.perf_counter()
            call(*inputs)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            spent.append(time.perf_counter() - began)
    return min(spent[1:])


def free_on(device: torch.device) -> int:
    """Bytes that are free on a device; on a CPU, what the system can give without swapping."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if (free := free_memory()) is not None:
        return free
    import psutil

    return int(psutil.virtual_memory().available)


def check_training(network: nn.Module, inputs: Inputs, batch: int) -> None:
    """Refuse a training that cannot fit, before it begins; of what an objective needs beside the network it knows
    nothing.

    Args:
        network: the network to train.
        inputs: what it is called with, for one image.
        batch: images in a micro-batch.

    Raises:
        NotEnoughMemory: it needs more than is free.
    """
    needed = memory_of(network, inputs).total(batch) + batch * BATCHES * inputs[0].numel() * inputs[0].element_size()
    remedy = f"lower the batch of {batch}, or the size of the images or of the network"
    check_memory(needed, "the training", remedy, free_on(accelerator().device))


BATCHES = 4
"""Copies of a batch of data that exist at a time: read, noised, estimated, compared."""
