"""Conditioners: each turns one input of a request into the arrays that the network takes.

This module has those for prompts (by the token table of the package), class labels, control images and the guidance
scale. A text or image encoder that is a separate network can be added as another class, registered in
`fewstep.models.components.KINDS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from fewstep.models.codecs import Codec
from fewstep.models.parts import BOUND
from fewstep.models.text import MAX_PROMPT, table


@runtime_checkable
class Conditioner(Protocol):
    """From one input of a request to named arrays whose first axis is the batch. The names are always the same for a
    conditioner, since exported networks rely on them."""

    input: ClassVar[str]
    """The input that it reads: "prompt", "label", "control", "guidance", or another name that callers use."""

    guided: ClassVar[bool]
    """Whether guidance strengthens it: the unconditional estimate of classifier-free guidance uses `null`."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the arrays that it returns."""
        ...

    def encode(self, values: Sequence[Any]) -> dict[str, Any]:
        """The arrays of a batch, from one value per sample; an empty value gives the same as `null`.

        Raises:
            ValueError: a value cannot be encoded.
        """
        ...

    def null(self, size: int) -> dict[str, Any]:
        """The arrays of a batch without this condition."""
        ...


@runtime_checkable
class TextConditioner(Conditioner, Protocol):
    """A conditioner of prompts."""

    @property
    def length(self) -> int:
        """The number of tokens kept of a prompt."""
        ...


@runtime_checkable
class UsesCodec(Protocol):
    """A conditioner that encodes images in the same way as the pixels."""

    def with_codec(self, codec: Codec) -> Conditioner:
        """A copy for a model with this codec."""
        ...


@dataclass(frozen=True)
class PromptTokens:
    """A prompt as the vectors of its tokens, looked up in the frozen table of the package (`fewstep.models.text`).

    Args:
        length: number of tokens kept of a prompt.
        table: SHA-256 of the table that the model was trained with; None until the model is written.
    """

    length: int
    table: str | None = None

    input: ClassVar[str] = "prompt"
    guided: ClassVar[bool] = True
    names: ClassVar[tuple[str, ...]] = ("text", "text_mask")

    def __post_init__(self) -> None:
        if not 1 <= self.length <= MAX_PROMPT:
            raise ValueError(f"length must be between 1 and {MAX_PROMPT}, got {self.length}")

    def encode(self, values: Sequence[str]) -> dict[str, Any]:
        """`text` float32 [b, length, width] and `text_mask` float32 [b, length]; "" is unconditional."""
        return table().encode(values, self.length)

    def null(self, size: int) -> dict[str, Any]:
        return self.encode([""] * size)


@dataclass(frozen=True)
class ClassLabel:
    """A class by its number; the number after the last stands for no class.

    Args:
        classes: number of classes.
    """

    classes: int

    input: ClassVar[str] = "label"
    guided: ClassVar[bool] = True
    names: ClassVar[tuple[str, ...]] = ("label",)

    def __post_init__(self) -> None:
        if self.classes < 1:
            raise ValueError(f"classes must be at least 1, got {self.classes}")

    def encode(self, values: Sequence[int | None]) -> dict[str, Any]:
        """`label` int64 [b]; None for no class."""
        return {"label": np.array([self._number(label) for label in values], dtype=np.int64)}

    def null(self, size: int) -> dict[str, Any]:
        return self.encode([None] * size)

    def _number(self, label: int | None) -> int:
        if label is None:
            return self.classes
        if not 0 <= label < self.classes:
            raise ValueError(f"a label must be between 0 and {self.classes - 1}, got {label}")
        return label


@dataclass(frozen=True)
class ControlImage:
    """An image given to the network together with the noise, encoded like the pixels. Guidance does not affect it.

    Args:
        pixels: shape [c, h, w] of the image.
        codec: codec of the model.
    """

    pixels: tuple[int, ...]
    codec: Codec = field(default=None, compare=False, repr=False, metadata=BOUND)  # type: ignore[assignment]

    input: ClassVar[str] = "control"
    guided: ClassVar[bool] = False
    names: ClassVar[tuple[str, ...]] = ("control", "control_mask")

    def with_codec(self, codec: Codec) -> ControlImage:
        """A copy for a model with this codec."""
        return replace(self, codec=codec)

    def encode(self, values: Sequence[Any]) -> dict[str, Any]:
        """`control` float32 [b, ...], of the shape of the data, and `control_mask` float32 [b], from images float32
        [c, h, w] in [0, 1]; None for no image."""
        mask = np.array([image is not None for image in values], dtype=np.float32)
        if not mask.any():
            return self.null(len(values))
        empty = np.zeros(self.pixels, dtype=np.float32)
        stacked = np.stack([empty if image is None else image for image in values]).astype(np.float32)
        return {"control": self.codec.encode(stacked), "control_mask": mask}

    def null(self, size: int) -> dict[str, Any]:
        return {"control": np.repeat(self._empty, size, axis=0), "control_mask": np.zeros(size, dtype=np.float32)}

    @cached_property
    def _empty(self) -> Any:
        """The data of one image of zeros [1, ...]; encoded only once, since most requests have no control image."""
        return self.codec.encode(np.zeros((1, *self.pixels), dtype=np.float32))


@dataclass(frozen=True)
class GuidanceScale:
    """The scale of guidance that is distilled into the network.

    Args:
        low, high: the range of scales that was distilled.
    """

    low: float
    high: float

    input: ClassVar[str] = "guidance"
    guided: ClassVar[bool] = False
    names: ClassVar[tuple[str, ...]] = ("guidance",)

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high < float("inf"):
            raise ValueError(f"guidance must be a range of scales, low then high, got {self.low} and {self.high}")

    def encode(self, values: Sequence[float]) -> dict[str, Any]:
        """`guidance` float32 [b]."""
        return {"guidance": np.array(values, dtype=np.float32)}

    def null(self, size: int) -> dict[str, Any]:
        return self.encode([self.low] * size)
