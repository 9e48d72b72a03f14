"""A residual perceptron for points: the small network for 2-D experiments, with the same protocol as the U-Net."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from fewstep.core.randomness import shared_dropout
from fewstep.networks.embeddings import Embedding, zero
from fewstep.networks.inputs import NetworkInputs, NetworkSize


@dataclass(frozen=True)
class MLPConfig:
    """The shape of a perceptron.

    Args:
        dims: dimension of a point.
        width: width of the hidden layers.
        depth: number of residual blocks.
        embedding: length of the embedding of times, label and guidance scale.
        classes: number of classes, or 0.
        guidance: whether the guidance scale is an input (for a guidance-distilled student).
        dropout: dropout rate in the blocks, used only if the condition contains `dropout` keys.
    """

    dims: int = 2
    width: int = 128
    depth: int = 3
    embedding: int = 128
    classes: int = 0
    guidance: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("dims", "width", "depth", "embedding"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @classmethod
    def fitted(cls, inputs: NetworkInputs, size: NetworkSize) -> MLPConfig:
        """The perceptron for these inputs.

        Raises:
            ValueError: x is not a point, or the inputs include text or a control image.
        """
        if len(inputs.shape) != 1:
            raise ValueError(f"the network 'mlp' is for points [d], got data of shape {list(inputs.shape)}")
        if inputs.text or inputs.control:
            raise ValueError("the network 'mlp' takes neither text nor control images")
        return cls(
            dims=inputs.shape[0],
            width=size.widths[0],
            depth=size.depths[0],
            embedding=size.embedding,
            classes=inputs.classes,
            guidance=inputs.guidance,
        )


class MLP(nn.Module):
    """The residual perceptron. Input and output are [b, dims]."""

    def __init__(self, config: MLPConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = nn.Linear(config.dims, config.width)
        self.embedding = Embedding(config.embedding, config.classes, config.guidance)
        self.blocks = nn.ModuleList(
            PointBlock(config.width, config.embedding, layer, config.dropout) for layer in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width)
        self.head = zero(nn.Linear(config.width, config.dims))

    def forward(
        self,
        x: Float[Tensor, "b d"],
        time_at: Float[Tensor, "b"],
        time_to: Float[Tensor, "b"],
        cond: Mapping[str, Tensor],
    ) -> Float[Tensor, "b d"]:
        """Run the raw network.

        It reads the conditions `label` int64 [b], `guidance` [b] and `dropout` int64 keys [b]; each may be absent.
        """
        embedding = self.embedding(time_at, time_to, cond, None)
        h = self.stem(x)
        for block in self.blocks:
            h = block(h, embedding, cond.get("dropout"))
        out: Tensor = self.head(F.silu(self.norm(h)))
        return out


class PointBlock(nn.Module):
    """A residual block, modulated by the embedding."""

    def __init__(self, width: int, embedding: int, layer: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = nn.Linear(width, width)
        self.modulate = nn.Linear(embedding, 2 * width)
        self.second = zero(nn.Linear(width, width))
        self.layer, self.dropout = layer, dropout

    def forward(
        self, x: Float[Tensor, "b w"], embedding: Float[Tensor, "b e"], keys: Int[Tensor, "b"] | None
    ) -> Float[Tensor, "b w"]:
        scale, shift = self.modulate(embedding).chunk(2, dim=1)
        h = F.silu(self.first(self.norm(x)) * (1 + scale) + shift)
        if keys is not None and self.dropout:
            h = shared_dropout(h, keys, self.layer, self.dropout)
        out: Tensor = x + self.second(h)
        return out
