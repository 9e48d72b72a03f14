"""Conditioners: one thing that steers a model each, from what people give to the arrays that its network takes.

The token table of the package, class labels, a control image and the guidance scale are the ones here; an encoder of
text or images that is a network of its own joins as another class, registered in `fewstep.models.components.KINDS`.
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
    """From one input of a request to named arrays with the batch as their first axis: always the same names for one
    conditioner, which an exported network relies on."""

    input: ClassVar[str]
    """What it reads: "prompt", "label", "control", "guidance", or another name that callers give."""

    guided: ClassVar[bool]
    """Whether guidance strengthens it: the other estimate of classifier-free guidance is made with `null`."""

    @property
    def names(self) -> tuple[str, ...]:
        """The arrays that it gives."""
        ...

    def encode(self, values: Sequence[Any]) -> dict[str, Any]:
        """The arrays of a batch, one value a sample; a value that stands for nothing gives what `null` gives.

        Raises:
            ValueError: a value that cannot be encoded.
        """
        ...

    def null(self, size: int) -> dict[str, Any]:
        """The arrays of a batch of samples that are not steered."""
        ...


@runtime_checkable
class TextConditioner(Conditioner, Protocol):
    """A conditioner of prompts."""

    @property
    def length(self) -> int:
        """Tokens kept of a prompt."""
        ...


@runtime_checkable
class UsesCodec(Protocol):
    """A conditioner that encodes images as the pixels are encoded."""

    def with_codec(self, codec: Codec) -> Conditioner:
        """The same for a model with this codec."""
        ...


@dataclass(frozen=True)
class PromptTokens:
    """A prompt as the vectors of its tokens, looked up in the frozen table of the package (`fewstep.models.text`).

    Args:
        length: tokens kept of a prompt.
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
    """A class by its number; one number more stands for none.

    Args:
        classes: how many there are.
    """

    classes: int

    input: ClassVar[str] = "label"
    guided: ClassVar[bool] = True
    names: ClassVar[tuple[str, ...]] = ("label",)

    def __post_init__(self) -> None:
        if self.classes < 1:
            raise ValueError(f"classes must be at least 1, got {self.classes}")

    def encode(self, values: Sequence[int | None]) -> dict[str, Any]:
        """`label` int64 [b]; None is no class."""
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
    """An image beside the noise, encoded as the pixels are. Guidance leaves it as it is.

    Args:
        pixels: its shape [c, h, w].
        codec: of the model that it belongs to.
    """

    pixels: tuple[int, ...]
    codec: Codec = field(default=None, compare=False, repr=False, metadata=BOUND)  # type: ignore[assignment]

    input: ClassVar[str] = "control"
    guided: ClassVar[bool] = False
    names: ClassVar[tuple[str, ...]] = ("control", "control_mask")

    def with_codec(self, codec: Codec) -> ControlImage:
        """The same for a model with this codec."""
        return replace(self, codec=codec)

    def encode(self, values: Sequence[Any]) -> dict[str, Any]:
        """`control` float32 [b, ...] like the data and `control_mask` float32 [b], from images float32 [c, h, w] in
        [0, 1]; None is no image."""
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
        """The data of one image of zeros [1, ...], encoded once: most requests have no control image."""
        return self.codec.encode(np.zeros((1, *self.pixels), dtype=np.float32))


@dataclass(frozen=True)
class GuidanceScale:
    """The scale of a guidance that is distilled into the network.

    Args:
        low, high: the range that was distilled.
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
