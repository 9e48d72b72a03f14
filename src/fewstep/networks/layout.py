"""The device and memory layout of a network's weights."""

from __future__ import annotations

import torch
from torch import nn


def laid_out(network: nn.Module, channels_last: bool, device: torch.device | None = None) -> nn.Module:
    """Move a network's weights to a memory layout and device, and return the network.

    Args:
        network: the network.
        channels_last: whether to store channels last, which makes convolutions faster.
        device: the device to move to; None to stay.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    moved: nn.Module = network.to(device, memory_format=layout)  # type: ignore[call-overload]  # torch's stubs lack it
    return moved
