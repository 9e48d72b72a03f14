"""How a model's inputs are made from what people have: prompts, labels and sketches become named arrays.

Training and generation call the same function, so a model is asked the way it was taught.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from fewstep.models.codecs import Codec, SpaceToDepth
from fewstep.models.text import MAX_PROMPT, table


@dataclass(frozen=True)
class Conditioning:
    """What steers a model, and the codec of its pixels.

    Args:
        codec: between pixels and data.
        text_length: tokens kept of a prompt, or 0 for a model without text.
        classes: how many labels, or 0.
        control: whether a control image is an input.
        guidance: the range of guidance scales that was distilled into the model, or None if guidance is applied
            outside, by two evaluations.
    """

    codec: Codec = field(default_factory=SpaceToDepth)
    text_length: int = 0
    classes: int = 0
    control: bool = False
    guidance: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.text_length <= MAX_PROMPT:
            raise ValueError(f"text_length must be between 0 and {MAX_PROMPT}, got {self.text_length}")
        if self.classes < 0:
            raise ValueError(f"classes must be at least 0, got {self.classes}")
        if self.guidance is not None and not 0 <= self.guidance[0] <= self.guidance[1]:
            raise ValueError(f"guidance must be a range of scales, low then high, got {self.guidance}")

    def arrays(
        self,
        prompts: Sequence[str],
        labels: Sequence[int | None] | None = None,
        controls: Sequence[Any] | None = None,
        pixels: Sequence[int] | None = None,
        guidance: float | None = None,
    ) -> dict[str, Any]:
        """The named arrays of a batch, NumPy.

        Args:
            prompts: one a sample; gives the batch's size. Empty means unconditional.
            labels: a class each, None for none.
            controls: a control image float32 [c, h, w] in [0, 1] each, None for none.
            pixels: an image's shape [c, h, w], needed for a model with control images.
            guidance: the scale, for a model that takes it as input.

        Returns:
            Some of `text`, `text_mask`, `label`, `control`, `control_mask`, `guidance`: always the same names for
            one model, which an exported network relies on.
        """
        size = len(prompts)
        arrays: dict[str, Any] = {}
        if self.text_length:
            arrays.update(table().encode(prompts, self.text_length))
        if self.classes:
            chosen = labels if labels is not None else [None] * size
            arrays["label"] = np.array([self._label(label) for label in chosen], dtype=np.int64)
        if self.control:
            if pixels is None:
                raise ValueError("a model with control images needs the shape of its pixels")
            arrays.update(self._controls(controls if controls is not None else [None] * size, pixels))
        if self.guidance is not None and guidance is not None:
            arrays["guidance"] = np.full(size, guidance, dtype=np.float32)
        return arrays

    def _label(self, label: int | None) -> int:
        if label is None:
            return self.classes
        if not 0 <= label < self.classes:
            raise ValueError(f"a label must be between 0 and {self.classes - 1}, got {label}")
        return label

    def _controls(self, controls: Sequence[Any], pixels: Sequence[int]) -> dict[str, Any]:
        mask = np.array([control is not None for control in controls], dtype=np.float32)
        if not mask.any():
            return {"control": np.repeat(self._blank(tuple(pixels)), len(controls), axis=0), "control_mask": mask}
        empty = np.zeros(tuple(pixels), dtype=np.float32)
        stacked = np.stack([empty if control is None else control for control in controls]).astype(np.float32)
        return {"control": self.codec.encode(stacked), "control_mask": mask}

    @cached_property
    def _blanks(self) -> dict[tuple[int, ...], Any]:
        return {}

    def _blank(self, pixels: tuple[int, ...]) -> Any:
        """The data of one image of zeros, float32 [1, ...], encoded once: most requests have no control image."""
        if pixels not in self._blanks:
            self._blanks[pixels] = self.codec.encode(np.zeros((1, *pixels), dtype=np.float32))
        return self._blanks[pixels]


def between(first: Mapping[str, Any], second: Mapping[str, Any], positions: Sequence[float]) -> dict[str, Any]:
    """Named arrays on the way from one batch's to another's, that differ in their text.

    Token vectors are mixed place by place. The shorter text is repeated up to the length of the longer one, which
    says the same to attention and changes the picture little; zeros in its place would be words of their own.

    Args:
        first, second: of `Conditioning.arrays`, as long as positions.
        positions: of each sample, 0 to 1: 0 is `first` and 1 `second`, both to the bit.
    """
    longer = np.maximum(first["text_mask"], second["text_mask"])
    t = np.asarray(positions, dtype=np.float32)[:, None, None]
    mixed = (1 - t) * _repeated(first) + t * _repeated(second)
    arrays = {"text": mixed * longer[..., None], "text_mask": longer}
    for name, values in arrays.items():
        place = t.reshape(-1, *[1] * (values.ndim - 1))
        arrays[name] = np.where(place == 0, first[name], np.where(place == 1, second[name], values))
    return {**first, **arrays}


def _repeated(condition: Mapping[str, Any]) -> Any:
    """Each text over and over, float32 [b, length, width]."""
    text = condition["text"]
    counts = np.maximum(condition["text_mask"].sum(axis=1).astype(int), 1)
    return np.stack([row[np.arange(len(row)) % count] for row, count in zip(text, counts, strict=True)])
