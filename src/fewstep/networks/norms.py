"""Norms that can be differentiated in forward mode."""

from __future__ import annotations

from torch import Tensor, nn
from torch.autograd import forward_ad


class GroupNorm(nn.GroupNorm):
    """torch's, whose derivative in forward mode does not take channels-last memory: there the layout is changed."""

    def forward(self, x: Tensor) -> Tensor:
        if forward_ad.unpack_dual(x).tangent is not None:
            x = x.contiguous()
        return super().forward(x)
