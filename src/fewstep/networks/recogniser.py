"""The judge of emoji and stickers: a small convolutional network with three heads."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ConvNorm(nn.Module):
    """Convolution, batch norm, SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.norm(self.conv(x)))


class RecogniserNetwork(nn.Module):
    """Premultiplied RGBA [b, 4, h, w], h and w divisible by 8 · pool, to features [b, f] and three sets of logits.

    Args:
        glyphs, colours, styles: number of each; colours and styles have one more class, for none.
        widths: channels at a half, a quarter and an eighth of the side.
        features: length of the feature vector.
        pool: side of the squares of pixels that are averaged first.
    """

    def __init__(
        self,
        glyphs: int,
        colours: int,
        styles: int,
        widths: tuple[int, int, int] = (40, 80, 128),
        features: int = 128,
        pool: int = 1,
    ) -> None:
        super().__init__()
        half, quarter, eighth = widths
        self.pool = pool
        self.stem = ConvNorm(4, half, kernel=6, stride=2)
        self.stages = nn.ModuleList(
            [
                ConvNorm(half, half),
                ConvNorm(half, quarter, stride=2),
                ConvNorm(quarter, quarter),
                ConvNorm(quarter, eighth, stride=2),
                ConvNorm(eighth, eighth),
            ]
        )
        # a 1 × 1 convolution instead of a linear layer, so that its norm can be folded in like the others
        self.project = nn.Conv2d(2 * eighth, features, 1, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(features)
        self.glyph = nn.Linear(features, glyphs)
        self.colour = nn.Linear(features, 1 + colours)
        self.style = nn.Linear(features, 1 + styles)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Features, and the logits of glyphs, colours and styles; index 0 of colours and styles means none."""
        if self.pool > 1:
            pixels = F.avg_pool2d(pixels, self.pool)
        alpha = pixels[:, 3:].clamp(0, 1)
        colour = torch.minimum(pixels[:, :3].clamp(min=0), alpha)
        h = self.stem(torch.cat([colour + 1 - alpha, alpha], dim=1) * 2 - 1)
        for stage in self.stages:
            h = h + stage(h) if stage.conv.stride == (1, 1) else stage(h)
        pooled = torch.cat([h.mean(dim=(2, 3), keepdim=True), h.amax(dim=(2, 3), keepdim=True)], dim=1)
        features = self.norm(self.project(pooled)).flatten(1)
        return features, self.glyph(features), self.colour(features), self.style(features)
