"""The two networks of a learned codec: an encoder from pixels to latents, and a decoder back.

Patches of pixels become channels, followed by residual blocks at each resolution; a pixel shuffle expands the last
resolution of the decoder to pixels. The blocks are those of ConvNeXt (2201.03545 §2): a depthwise 3 × 3 convolution,
then two 1 × 1 convolutions; a CPU runs two of them in the time of one block with two dense 3 × 3 convolutions.
Latents are normalised per channel, and noised in training, so that the decoder tolerates small errors of a few-step
model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from fewstep.networks.embeddings import zero
from fewstep.networks.norms import GroupNorm


@dataclass(frozen=True)
class AutoencoderConfig:
    """The shape of a codec.

    Args:
        channels: Channels of the pixels.
        latents: Channels of the latents.
        patch: Side in pixels of the patch that becomes one position of the first resolution.
        encoder: Channels of the encoder at each resolution, fine to coarse; each resolution halves the one before.
        decoder: Channels of the decoder at each resolution, fine to coarse.
        encoder_depths: Residual blocks of the encoder at each resolution, fine to coarse.
        decoder_depths: Residual blocks of the decoder at each resolution, fine to coarse.
        margin: How far beyond 0 and 1 the decoder aims, so that transparent pixels are exactly 0 after clamping.
        deviation: Standard deviation of each channel of the normalised latents.
    """

    channels: int = 4
    latents: int = 32
    patch: int = 4
    encoder: tuple[int, ...] = (64, 128, 256)
    decoder: tuple[int, ...] = (64, 128, 256)
    encoder_depths: tuple[int, ...] = (1, 1, 2)
    decoder_depths: tuple[int, ...] = (1, 2, 3)
    margin: float = 0.02
    deviation: float = 0.5

    def __post_init__(self) -> None:
        lengths = {len(each) for each in (self.encoder, self.decoder, self.encoder_depths, self.decoder_depths)}
        if len(lengths) != 1 or not self.encoder:
            raise ValueError(
                "encoder, decoder and their depths must have one entry for each resolution, got "
                f"{self.encoder}, {self.decoder}, {self.encoder_depths} and {self.decoder_depths}"
            )
        if any(width < 16 or width % 16 for width in (*self.encoder, *self.decoder)):
            raise ValueError(f"widths must be multiples of 16, got {self.encoder} and {self.decoder}")
        for name in ("channels", "latents", "patch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def factor(self) -> int:
        """Side, in pixels, of the cell that becomes one position."""
        return int(self.patch * 2 ** (len(self.encoder) - 1))


class Encoder(nn.Module):
    """Pixels [b, c, h, w] in [0, 1] to latents [b, latents, h/factor, w/factor]. Each channel has mean 0 and the
    deviation of the configuration, according to running statistics from training."""

    mean: Tensor
    variance: Tensor

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths, self.patch, self.deviation = config.encoder, config.patch, config.deviation
        self.stem = nn.Conv2d(config.channels * config.patch**2, widths[0], 1)
        self.stages = _stages(widths, config.encoder_depths)
        self.shrink = nn.ModuleList(nn.Conv2d(4 * fine, coarse, 1) for fine, coarse in pairwise(widths))
        self.norm = GroupNorm(widths[-1] // 16, widths[-1])
        self.head = nn.Conv2d(widths[-1], config.latents, 1)
        self.register_buffer("mean", torch.zeros(config.latents))
        self.register_buffer("variance", torch.ones(config.latents))

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        time_at: Tensor | None = None,
        time_to: Tensor | None = None,
        cond: Mapping[str, Tensor] | None = None,
    ) -> Float[Tensor, "b d i j"]:
        """Latents of pixels x; the other arguments of a `Network` are ignored."""
        return self.normalised(self.raw(x), self.mean, self.variance)

    def raw(self, pixels: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """Latents before they are normalised."""
        h = self.stem(F.pixel_unshuffle(2 * pixels - 1, self.patch))
        for level, stage in enumerate(self.stages):
            h = stage(h)
            if level < len(self.shrink):
                h = self.shrink[level](F.pixel_unshuffle(h, 2))
        latents: Tensor = self.head(self.norm(h))
        return latents

    def normalised(
        self, latents: Float[Tensor, "b d i j"], mean: Tensor, variance: Tensor
    ) -> Float[Tensor, "b d i j"]:
        """Raw latents, normalised with the given statistics of each channel."""
        scale = self.deviation * (variance + 1e-5).rsqrt()
        return (latents - mean[:, None, None]) * scale[:, None, None]

    @torch.no_grad()
    def follow(self, mean: Tensor, variance: Tensor) -> None:
        """Update the running statistics with those of a batch."""
        self.mean.lerp_(mean, MOMENTUM)
        self.variance.lerp_(variance, MOMENTUM)


MOMENTUM = 0.02
"""The weight of a batch in the running statistics of the latents."""


class Decoder(nn.Module):
    """Normalised latents [b, latents, i, j] to pictures [b, c, i·factor, j·factor]."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths, self.patch = config.decoder, config.patch
        self.deviation, self.margin = config.deviation, config.margin
        self.stem = nn.Conv2d(config.latents, widths[-1], 3, padding=1)
        self.stages = _stages(widths, config.decoder_depths)
        self.grow = nn.ModuleList(nn.Conv2d(coarse, 4 * fine, 1) for fine, coarse in pairwise(widths))
        self.norm = GroupNorm(widths[0] // 16, widths[0])
        self.head = nn.Conv2d(widths[0], config.channels * config.patch**2, 3, padding=1)

    def forward(
        self,
        x: Float[Tensor, "b d i j"],
        time_at: Tensor | None = None,
        time_to: Tensor | None = None,
        cond: Mapping[str, Tensor] | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """The picture of latents x; the other arguments of a `Network` are ignored."""
        return to_picture(self.aim(x), self.margin)

    def aim(self, latents: Float[Tensor, "b d i j"]) -> Float[Tensor, "b c h w"]:
        """The raw output, which training compares with pictures: it exceeds [0, 1] by the margin."""
        h = self.stem(latents / self.deviation)
        for level in reversed(range(len(self.stages))):
            h = self.stages[level](h)
            if level > 0:
                h = F.pixel_shuffle(self.grow[level - 1](h), 2)
        out: Tensor = F.pixel_shuffle(self.head(self.norm(h)), self.patch)
        return (out + 1) / 2


def _stages(widths: Sequence[int], depths: Sequence[int]) -> nn.ModuleList:
    return nn.ModuleList(
        nn.Sequential(*(ConvNextBlock(width) for _ in range(depth)))
        for width, depth in zip(widths, depths, strict=True)
    )


class ConvNextBlock(nn.Module):
    """A depthwise convolution, then a perceptron over the channels; the result is added to the input."""

    def __init__(self, width: int, expansion: int = 3) -> None:
        super().__init__()
        self.around = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm = GroupNorm(width // 16, width)
        self.expand = nn.Conv2d(width, expansion * width, 1)
        self.project = zero(nn.Conv2d(expansion * width, width, 1))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        out: Tensor = x + self.project(F.silu(self.expand(self.norm(self.around(x)))))
        return out


class Autoencoder(nn.Module):
    """Both networks, as they are trained together."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = Encoder(config), Decoder(config)

    def encode(self, pixels: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """Normalised latents."""
        latents: Tensor = self.encoder(pixels)
        return latents

    def decode(self, latents: Float[Tensor, "b d i j"]) -> Float[Tensor, "b c h w"]:
        """The nearest picture in [0, 1]: premultiplied RGBA, or any other channels."""
        picture: Tensor = self.decoder(latents)
        return picture

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        time_at: Float[Tensor, "b"],
        time_to: Float[Tensor, "b"],
        cond: Mapping[str, Tensor],
    ) -> Float[Tensor, "b c h w"]:
        """The raw output of the decoder for the latents of pixels, with the signature of a `Network`.

        The condition `noise` [b, d, i, j] is added to the latents, multiplied by `time_at` in units of their
        deviation. Its presence marks training: if the encoder is trained, its latents are normalised by the
        statistics of the batch, which also update the running ones; otherwise the running statistics are used.
        """
        encoder, noise = self.encoder, cond.get("noise")
        latents = encoder.raw(x)
        mean, variance = encoder.mean, encoder.variance
        if noise is not None and latents.requires_grad:
            variance, mean = torch.var_mean(latents.float(), dim=(0, 2, 3))
            encoder.follow(mean, variance)
        latents = encoder.normalised(latents, mean, variance)
        if noise is not None:
            latents = latents + encoder.deviation * time_at[:, None, None, None] * noise
        return self.decoder.aim(latents)


def to_picture(decoded: Tensor, margin: float) -> Tensor:
    """The valid picture nearest to a decoder's output: values in [0, 1], and colours at most alpha, if it has alpha.

    Args:
        decoded: the output [b, c, h, w]; c = 4 is premultiplied RGBA.
        margin: the margin used in training: −margin stands for 0 and 1 + margin for 1.
    """
    pixels = ((decoded + margin) / (1 + 2 * margin)).clamp(0, 1)
    if pixels.shape[1] != 4:
        return pixels
    alpha = pixels[:, 3:]
    return torch.cat([torch.minimum(pixels[:, :3], alpha), alpha], dim=1)
