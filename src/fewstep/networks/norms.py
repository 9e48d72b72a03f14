"""Norms that can be differentiated in forward mode."""

from __future__ import annotations

from torch import Tensor, nn
from torch.autograd import forward_ad


class GroupNorm(nn.GroupNorm):
    """torch's group norm. Its forward-mode derivative does not support channels-last memory, so there the layout is
    changed."""

    def forward(self, x: Tensor) -> Tensor:
        if forward_ad.unpack_dual(x).tangent is not None:
            x = x.contiguous()
        return super().forward(x)
