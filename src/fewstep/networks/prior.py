"""A picture from the prompt alone, which a network is given beside x."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class Prior(nn.Module):
    """The mean picture of a prompt and a class, of any shape that a linear layer can place.

    Convolutions and attention are slow to learn where a prompt's shapes go while x is noise: here each position has
    weights of its own.

    Args:
        text: length of the text summary, or 0 for no text.
        classes: number of classes, or 0; the label `classes` means none.
        size: length of the embedding of text and class, and channels at each position before the last layer.
        shape: of the picture [c, h, w].
    """

    def __init__(self, text: int, classes: int, size: tuple[int, int], shape: tuple[int, int, int]) -> None:
        super().__init__()
        (embedding, features), (channels, height, width) = size, shape
        self.text = nn.Linear(text, embedding) if text else None
        self.label = nn.Embedding(classes + 1, embedding) if classes else None
        self.draw = nn.Linear(embedding, features * height * width)
        self.out = nn.Conv2d(features, channels, 1)
        self.classes, self.place = classes, (features, height, width)

    def forward(
        self, batch: int, cond: Mapping[str, Tensor], summary: Float[Tensor, "b t"] | None
    ) -> Float[Tensor, "b c h w"]:
        """The picture for the text's summary and the condition `label` int64 [b]."""
        parameter = self.draw.weight
        embedding = torch.zeros(batch, parameter.shape[1], device=parameter.device, dtype=parameter.dtype)
        if self.text is not None and summary is not None:
            embedding = embedding + self.text(summary)
        if self.label is not None:
            none = torch.full((batch,), self.classes, dtype=torch.int64, device=parameter.device)
            embedding = embedding + self.label(cond.get("label", none))
        drawn = self.draw(F.silu(embedding)).reshape(batch, *self.place)
        picture: Tensor = self.out(F.silu(drawn))
        return picture
