"""The inputs of a network besides x: two times, a guidance scale, a class and a text. All are added up to one
embedding; text is also available as tokens to attend to."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


def zero(module: nn.Module) -> nn.Module:
    """Set a module's parameters to zero, so that it adds nothing until it learns to."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class Waves(nn.Module):
    """Sines and cosines of a number with frequencies 1 … `fastest`, low enough that time derivatives stay small."""

    frequencies: Tensor

    def __init__(self, width: int, fastest: float = 32.0) -> None:
        super().__init__()
        steps = torch.linspace(0.0, math.log(fastest), width // 2)
        self.register_buffer("frequencies", steps.exp(), persistent=False)

    def forward(self, value: Float[Tensor, "b"]) -> Float[Tensor, "b w"]:
        angles = value[:, None] * self.frequencies[None, :].to(value.dtype)
        return torch.cat([angles.cos(), angles.sin()], dim=1)


class Embedding(nn.Module):
    """One vector per sample from both times and the optional guidance scale, class and text summary.

    The target time enters through a zero-initialised function of the difference of both times' waves, so the weights
    of a denoiser, which has never seen a target time, can initialise any student.

    Args:
        width: length of the vector.
        classes: number of classes, or 0; the label `classes` means none.
        guidance: whether the guidance scale is an input.
        text: length of the text summary, or 0.
    """

    def __init__(self, width: int, classes: int = 0, guidance: bool = False, text: int = 0) -> None:
        super().__init__()
        self.waves = Waves(64)
        self.at = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.to_target = zero(nn.Linear(64, width, bias=False))
        self.label = nn.Embedding(classes + 1, width) if classes else None
        self.classes = classes
        self.guidance = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width)) if guidance else None
        if self.guidance is not None:
            zero(self.guidance[2])
        self.text = nn.Linear(text, width) if text else None

    def forward(
        self,
        time_at: Float[Tensor, "b"],
        time_to: Float[Tensor, "b"],
        cond: Mapping[str, Tensor],
        summary: Float[Tensor, "b t"] | None,
    ) -> Float[Tensor, "b w"]:
        at = self.waves(time_at)
        embedding = self.at(at) + self.to_target(self.waves(time_to) - at)
        if self.label is not None:
            label = cond.get("label")
            none = torch.full_like(time_at, self.classes, dtype=torch.int64)
            embedding = embedding + self.label(none if label is None else label)
        if self.guidance is not None and "guidance" in cond:
            # the effect of a guidance scale depends on its ratio to others; waves of ln w are well spread for w from
            # 1 to 16, and w = 0 (no prompt at all) must stay finite
            scale = cond["guidance"].to(time_at.dtype).clamp(min=0.01)
            embedding = embedding + self.guidance(self.waves(scale.log()))
        if self.text is not None and summary is not None:
            embedding = embedding + self.text(summary)
        return F.silu(embedding)


class TextEncoder(nn.Module):
    """A small transformer over frozen token vectors; words keep their order.

    A learned token comes first, which makes the empty prompt valid. The summary is the mean of all tokens: a learned
    token alone would see nothing of the text until attention has been learned.

    Args:
        vectors: length of a token's vector.
        length: maximum number of tokens of a prompt.
        width: width of the transformer.
        layers: number of layers.
        heads: number of attention heads.
    """

    def __init__(self, vectors: int, length: int, width: int = 192, layers: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.project = nn.Linear(vectors, width)
        self.position = nn.Parameter(torch.randn(length + 1, width) * 0.02)
        self.first = nn.Parameter(torch.randn(width) * 0.02)
        self.layers = nn.ModuleList(TransformerLayer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def read(self, x: Tensor, cond: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """`forward` on the conditions `text` and `text_mask`, or on the empty prompt where there are none, in x's
        precision."""
        text, mask = cond.get("text"), cond.get("text_mask")
        if text is None or mask is None:
            length = self.position.shape[0] - 1
            text = x.new_zeros(x.shape[0], length, self.project.in_features)
            mask = x.new_zeros(x.shape[0], length)
        encoded: tuple[Tensor, Tensor, Tensor] = self(text.to(x.dtype), mask.to(x.dtype))
        return encoded

    def forward(
        self, text: Float[Tensor, "b n v"], mask: Float[Tensor, "b n"]
    ) -> tuple[Float[Tensor, "b n+1 w"], Float[Tensor, "b n+1"], Float[Tensor, "b w"]]:
        """The encoded tokens, with the learned one first, their additive attention bias, and the summary."""
        tokens = self.project(text)
        first = self.first.to(tokens.dtype).expand(tokens.shape[0], 1, -1)
        tokens = torch.cat([first, tokens], dim=1) + self.position.to(tokens.dtype)
        bias = torch.cat([torch.zeros_like(mask[:, :1]), (mask - 1.0) * 1e4], dim=1)
        for layer in self.layers:
            tokens = layer(tokens, bias)
        encoded: Tensor = self.norm(tokens)
        there = torch.cat([torch.ones_like(mask[:, :1]), mask], dim=1)[:, :, None].to(encoded.dtype)
        summary: Tensor = (encoded * there).sum(dim=1) / there.sum(dim=1)
        return encoded, bias, summary


class TransformerLayer(nn.Module):
    """Attention and a two-layer perceptron, each preceded by a norm and added to its input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = zero(nn.Linear(width, width))
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), zero(nn.Linear(4 * width, width)))
        self.heads = heads

    def forward(self, tokens: Float[Tensor, "b n w"], bias: Float[Tensor, "b n"]) -> Float[Tensor, "b n w"]:
        q, k, v = self.qkv(self.norm1(tokens)).chunk(3, dim=-1)
        tokens = tokens + self.out(attend(q, k, v, self.heads, bias))
        out: Tensor = tokens + self.mlp(self.norm2(tokens))
        return out


def attend(
    q: Float[Tensor, "b n w"],
    k: Float[Tensor, "b m w"],
    v: Float[Tensor, "b m w"],
    heads: int,
    bias: Float[Tensor, "b m"] | None = None,
) -> Float[Tensor, "b n w"]:
    """Multi-head attention of q over k and v; `bias` is added to every query's scores.

    It is written out so that forward-mode derivatives work; for the few hundred tokens here it also trains faster on
    a CPU than the fused kernel.
    """
    b, n, w = q.shape
    q, k, v = (t.reshape(b, t.shape[1], heads, w // heads).transpose(1, 2) for t in (q, k, v))
    scores = (q @ k.transpose(-1, -2)) * (w // heads) ** -0.5
    if bias is not None:
        scores = scores + bias[:, None, None, :].to(scores.dtype)
    mixed: Tensor = scores.softmax(dim=-1) @ v
    return mixed.transpose(1, 2).reshape(b, n, w)
