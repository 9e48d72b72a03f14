"""Where a network's weights lie, and in which order."""

from __future__ import annotations

import torch
from torch import nn


def laid_out(network: nn.Module, channels_last: bool, device: torch.device | None = None) -> nn.Module:
    """The network itself, moved.

    Args:
        network: whose weights are moved.
        channels_last: whether images lie with their channels last from now on, which convolutions are faster on.
        device: where to; None leaves it where it is.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    moved: nn.Module = network.to(device, memory_format=layout)  # type: ignore[call-overload]  # torch's stubs lack it
    return moved
