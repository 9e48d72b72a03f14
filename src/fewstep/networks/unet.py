"""A compact U-Net for few-step models, for CPUs and GPUs alike.

It has convolutions at the high resolutions, attention over positions and text tokens at the low ones, two times as
inputs, and a zero-initialised output. Everything is differentiable in forward mode and exports to ONNX.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from fewstep.core.randomness import shared_dropout
from fewstep.networks.embeddings import Embedding, TextEncoder, attend, zero
from fewstep.networks.inputs import NetworkInputs, NetworkSize
from fewstep.networks.norms import GroupNorm
from fewstep.networks.prior import Prior

ATTENDED = 16
"""The largest side, in positions, at which attention over all positions is cheap."""


@dataclass(frozen=True)
class UNetConfig:
    """The shape of a U-Net.

    Args:
        channels: channels of the encoded data.
        control: channels of the encoded control image, or 0; one more channel tells whether there is one.
        widths: channels at each resolution, which halves from one to the next.
        depths: residual blocks at each resolution, on the way down and again on the way up.
        attention: whether the blocks at each resolution have attention.
        embedding: length of the embedding of times and summaries.
        canvas: at each resolution, channels of a canvas that is drawn from the embedding alone, or 0; () for none. It
            lets a prompt place shapes while x is still noise, and fixes the size of the network's input.
        prior: length of the embedding and channels of the features of a prior, a picture drawn from the prompt alone
            that is an input beside x and fixes the size too; () for none.
        size: side of the input in positions, needed for a canvas or a prior.
        text: length of a token's vector, or 0 for no text.
        text_length: maximum number of tokens of a prompt.
        text_width, text_layers: width and number of layers of the text transformer.
        classes: number of classes, or 0.
        guidance: whether the guidance scale is an input (for a guidance-distilled student).
        dropout: dropout rate in the residual blocks, used only if the condition contains `dropout` keys.
    """

    channels: int = 16
    control: int = 0
    widths: tuple[int, ...] = (64, 128, 256)
    depths: tuple[int, ...] = (2, 2, 2)
    attention: tuple[bool, ...] = (False, True, True)
    embedding: int = 256
    canvas: tuple[int, ...] = ()
    prior: tuple[int, ...] = ()
    size: int = 0
    text: int = 0
    text_length: int = 16
    text_width: int = 192
    text_layers: int = 2
    classes: int = 0
    guidance: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not len(self.widths) == len(self.depths) == len(self.attention) >= 1:
            raise ValueError(
                "widths, depths and attention must have one entry for each resolution, "
                f"got {len(self.widths)}, {len(self.depths)} and {len(self.attention)}"
            )
        if self.canvas and (len(self.canvas) != len(self.widths) or self.size < 2 ** (len(self.widths) - 1)):
            raise ValueError(
                f"a canvas needs one entry for each of {len(self.widths)} resolutions and the size of the input, "
                f"got {self.canvas} and size {self.size}"
            )
        if self.prior and not self.size:
            raise ValueError("a prior needs the size of the input, got size 0")
        if len(self.prior) not in (0, 2) or min(self.prior, default=1) < 1:
            raise ValueError(f"prior must be an embedding's length and a number of features, got {self.prior}")
        if any(width % 32 for width in self.widths):
            raise ValueError(f"widths must be multiples of 32, got {self.widths}")
        if self.text and self.text_width % 4:
            raise ValueError(f"text_width must be a multiple of 4, its attention heads, got {self.text_width}")

    @classmethod
    def fitted(cls, inputs: NetworkInputs, size: NetworkSize) -> UNetConfig:
        """The U-Net for these inputs. It has attention at sides of 16 positions or fewer, except at the first
        resolution, whose blocks are purely convolutional.

        Raises:
            ValueError: x is not an image.
        """
        if len(inputs.shape) != 3:
            raise ValueError(f"the network 'unet' is for images [c, h, w], got data of shape {list(inputs.shape)}")
        channels, side, _ = inputs.shape
        sides = [side >> level for level in range(len(size.widths))]
        return cls(
            channels=channels,
            control=channels if inputs.control else 0,
            widths=size.widths,
            depths=size.depths,
            attention=(False, *(side <= ATTENDED for side in sides[1:])),
            embedding=size.embedding,
            canvas=size.canvas,
            prior=size.prior,
            size=side if size.canvas or size.prior else 0,
            text=inputs.text,
            text_length=inputs.text_length or cls.text_length,
            text_width=size.text_width,
            classes=inputs.classes,
            guidance=inputs.guidance,
        )


class UNet(nn.Module):
    """The U-Net. Input and output are [b, channels, h, w], with h and w multiples of 2^(levels − 1)."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        extra = (config.control + 1 if config.control else 0) + (config.channels if config.prior else 0)
        self.stem = nn.Conv2d(config.channels + extra, config.widths[0], 3, padding=1)
        self.text = (
            TextEncoder(config.text, config.text_length, config.text_width, config.text_layers)
            if config.text
            else None
        )
        summary = config.text_width if config.text else 0
        self.embedding = Embedding(config.embedding, config.classes, config.guidance, summary)
        shape = (config.channels, config.size, config.size)
        self.prior = (
            Prior(summary, config.classes, (config.prior[0], config.prior[1]), shape) if config.prior else None
        )
        # the best estimate for a known picture is a sum of x and that picture, which normalised layers cannot give
        self.shares = zero(nn.Linear(config.embedding, 2 * config.channels)) if config.prior else None
        self.down, self.up = nn.ModuleDict(), nn.ModuleDict()
        self.shrink, self.grow = nn.ModuleList(), nn.ModuleList()
        self.canvas = nn.ModuleDict(
            {
                str(level): Canvas(config.embedding, channels, config.widths[level], config.size >> level)
                for level, channels in enumerate(config.canvas)
                if channels
            }
        )
        layer = 0
        for level, (width, depth) in enumerate(zip(config.widths, config.depths, strict=True)):
            for i in range(depth):
                self.down[f"{level}_{i}"] = _block(config, level, width, layer + i)
                self.up[f"{level}_{i}"] = _block(config, level, 2 * width, layer + depth + i)
            layer += 2 * depth
            if level + 1 < len(config.widths):
                following = config.widths[level + 1]
                self.shrink.append(nn.Conv2d(width, following, 3, stride=2, padding=1))
                self.grow.append(nn.Conv2d(following, width, 1))
        self.norm = GroupNorm(_groups(config.widths[0]), config.widths[0])
        self.head = zero(nn.Conv2d(config.widths[0], config.channels, 3, padding=1))

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        time_at: Float[Tensor, "b"],
        time_to: Float[Tensor, "b"],
        cond: Mapping[str, Tensor],
    ) -> Float[Tensor, "b c h w"]:
        """Run the raw network.

        It reads the conditions `text` [b, n, v] with `text_mask` [b, n], `label` int64 [b], `guidance` [b],
        `control` [b, c', h, w] with `control_mask` [b], and `dropout` int64 keys [b]; each may be absent.
        """
        tokens, bias, summary = (None, None, None) if self.text is None else self.text.read(x, cond)
        embedding = self.embedding(time_at, time_to, cond, summary)
        keys = cond.get("dropout")
        seen = self._with_control(x, cond)
        picture = None if self.prior is None else self.prior(x.shape[0], cond, summary)
        h = self.stem(seen if picture is None else torch.cat([seen, picture], dim=1))
        kept: list[Tensor] = []
        for level, depth in enumerate(self.config.depths):
            if str(level) in self.canvas:
                h = h + self.canvas[str(level)](embedding)
            for i in range(depth):
                h = self.down[f"{level}_{i}"](h, embedding, tokens, bias, keys)
                kept.append(h)
            if level < len(self.shrink):
                h = self.shrink[level](h)
        for level, depth in reversed(list(enumerate(self.config.depths))):
            for i in range(depth):
                h = self.up[f"{level}_{i}"](torch.cat([h, kept.pop()], dim=1), embedding, tokens, bias, keys)
            if level > 0:
                h = F.interpolate(self.grow[level - 1](h), scale_factor=2.0, mode="nearest")
        out: Tensor = self.head(F.silu(self.norm(h)))
        if picture is not None and self.shares is not None:
            of_x, of_picture = self.shares(embedding)[:, :, None, None].chunk(2, dim=1)
            out = out + of_x * x + of_picture * picture
        return out

    def _with_control(self, x: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        if not self.config.control:
            return x
        control, present = cond.get("control"), cond.get("control_mask")
        if control is None or present is None:
            return torch.cat([x, x.new_zeros(x.shape[0], self.config.control + 1, *x.shape[2:])], dim=1)
        present = present.to(x.dtype)[:, None, None, None]
        plane = present.expand(-1, 1, *x.shape[2:])
        return torch.cat([x, control.to(x.dtype) * present, plane], dim=1)


def _groups(channels: int) -> int:
    return channels // 16


def _block(config: UNetConfig, level: int, inputs: int, layer: int) -> ResidualBlock:
    return ResidualBlock(
        inputs,
        config.widths[level],
        config.embedding,
        layer,
        config.dropout,
        attention=config.attention[level],
        tokens=config.text_width if config.text else 0,
    )


class Canvas(nn.Module):
    """Features at every position from the embedding alone, with which a prompt can tell where things are."""

    def __init__(self, embedding: int, channels: int, width: int, side: int) -> None:
        super().__init__()
        self.draw = nn.Linear(embedding, channels * side * side)
        self.spread = nn.Conv2d(channels, width, 1)
        self.channels, self.side = channels, side

    def forward(self, embedding: Float[Tensor, "b e"]) -> Float[Tensor, "b w s s"]:
        drawn = self.draw(embedding).reshape(-1, self.channels, self.side, self.side)
        features: Tensor = self.spread(F.silu(drawn))
        return features


class ResidualBlock(nn.Module):
    """A residual block, modulated by the embedding, followed by attention if configured."""

    def __init__(
        self,
        inputs: int,
        width: int,
        embedding: int,
        layer: int,
        dropout: float,
        attention: bool,
        tokens: int,
    ) -> None:
        super().__init__()
        self.norm1 = GroupNorm(_groups(inputs), inputs)
        self.conv1 = nn.Conv2d(inputs, width, 3, padding=1)
        self.modulate = nn.Linear(embedding, 2 * width)
        self.norm2 = GroupNorm(_groups(width), width)
        self.conv2 = zero(nn.Conv2d(width, width, 3, padding=1))
        self.skip = nn.Conv2d(inputs, width, 1) if inputs != width else nn.Identity()
        self.attention = Attention(width, tokens) if attention else None
        self.layer, self.dropout = layer, dropout

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        embedding: Float[Tensor, "b e"],
        tokens: Float[Tensor, "b n t"] | None,
        bias: Float[Tensor, "b n"] | None,
        keys: Int[Tensor, "b"] | None,
    ) -> Float[Tensor, "b d h w"]:
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.modulate(embedding)[:, :, None, None].chunk(2, dim=1)
        h = F.silu(self.norm2(h) * (1 + scale) + shift)
        if keys is not None and self.dropout:
            h = shared_dropout(h, keys, self.layer, self.dropout)
        out: Tensor = self.skip(x) + self.conv2(h)
        return out if self.attention is None else self.attention(out, tokens, bias)


class Attention(nn.Module):
    """Attention of every position over all positions and the tokens of the text, in one softmax."""

    def __init__(self, width: int, tokens: int, head: int = 32) -> None:
        super().__init__()
        self.norm = GroupNorm(_groups(width), width)
        self.qkv = nn.Linear(width, 3 * width)
        self.read = nn.Linear(tokens, 2 * width) if tokens else None
        self.out = zero(nn.Linear(width, width))
        self.heads = width // head

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        tokens: Float[Tensor, "b n t"] | None,
        bias: Float[Tensor, "b n"] | None,
    ) -> Float[Tensor, "b c h w"]:
        b, c, height, width = x.shape
        flat = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(flat).chunk(3, dim=-1)
        if self.read is not None and tokens is not None and bias is not None:
            text_k, text_v = self.read(tokens).chunk(2, dim=-1)
            k, v = torch.cat([k, text_k], dim=1), torch.cat([v, text_v], dim=1)
            bias = torch.cat([bias.new_zeros(b, height * width), bias], dim=1)
        mixed = self.out(attend(q, k, v, self.heads, bias))
        added: Tensor = x + mixed.transpose(1, 2).reshape(b, c, height, width)
        return added


def check_size(size: int, patch: int, resolutions: int) -> None:
    """Raise ValueError unless a U-Net over patches can halve `size` at each further resolution."""
    if patch < 1:
        raise ValueError(f"patch must be at least 1, got {patch}")
    cell = patch * 2 ** (resolutions - 1)
    if size < cell or size % cell:
        raise ValueError(f"size must be a multiple of {cell} (patch {patch}, {resolutions} resolutions), got {size}")
