"""What a training will cost: the dry run agrees with what a real forward pass keeps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fewstep.networks.unet import UNet, UNetConfig
from fewstep.training.cost import Inputs, free_on, memory_of, seconds_of


def network() -> UNet:
    torch.manual_seed(0)
    return UNet(UNetConfig(channels=4, widths=(32, 64), depths=(1, 1), attention=(False, True), classes=3))


def inputs(batch: int = 1) -> Inputs:
    time = torch.rand(batch)
    return torch.randn(batch, 4, 16, 16), time, time, {"label": torch.zeros(batch, dtype=torch.int64)}


def really_kept(module: nn.Module) -> int:
    """The bytes that a real forward pass keeps, parameters apart."""
    parameters = {p.untyped_storage().data_ptr() for p in module.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in parameters:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        module(*inputs())
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def test_activations_are_those_of_a_real_pass() -> None:
    unet = network()
    memory = memory_of(unet, inputs())
    assert 0.9 < memory.activations / really_kept(unet) < 1.2
    assert memory.total(8) - memory.total(4) == 4 * memory.activations


def test_frozen_weights_need_no_optimiser() -> None:
    unet = network()
    size = 4 * sum(p.numel() for p in unet.parameters())
    whole = memory_of(unet, inputs(), others=100)
    assert (whole.weights, whole.training) == (size + 100, 4 * size)
    unet.requires_grad_(False)
    unet.head.requires_grad_(True)
    head = 4 * sum(p.numel() for p in unet.head.parameters())
    part = memory_of(unet, inputs(), averages=2)
    assert (part.weights, part.training) == (size, 5 * head)
    assert part.activations < whole.activations


def test_an_evaluation_is_timed_and_memory_is_found() -> None:
    calls: list[int] = []

    def call(x: Tensor, *others: object) -> None:
        calls.append(len(x))

    assert seconds_of(call, inputs(2), times=3) >= 0
    assert calls == [2] * 4
    assert free_on(torch.device("cpu")) > 2**20
