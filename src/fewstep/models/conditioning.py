"""Conditioning: prompts, labels and sketches become the named arrays that a network takes.

Training and generation call the same functions, so a model is conditioned as it was trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fewstep.models.codecs import Codec, Identity
from fewstep.models.conditioners import (
    ClassLabel,
    Conditioner,
    ControlImage,
    GuidanceScale,
    PromptTokens,
    TextConditioner,
    UsesCodec,
)

ORDER = ("prompt", "label", "control", "guidance")
"""The order of conditioners by name, and so of an exported network's inputs; all others come after these."""


@dataclass(frozen=True)
class Conditioning:
    """The conditioners of a model, and the codec of its images.

    Args:
        codec: the codec between pixels and data, which also encodes control images.
        conditioners: conditioners by name.

    Raises:
        ValueError: two conditioners return an array of the same name.
    """

    codec: Codec
    conditioners: Mapping[str, Conditioner] = field(default_factory=dict)

    def __post_init__(self) -> None:
        order = sorted(self.conditioners, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
        with_codec = {
            name: part.with_codec(self.codec) if isinstance(part := self.conditioners[name], UsesCodec) else part
            for name in order
        }
        object.__setattr__(self, "conditioners", with_codec)
        names = [name for part in with_codec.values() for name in part.names]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two conditioners return the array {', '.join(twice)}")

    def encode(self, size: int, **inputs: Sequence[Any] | None) -> dict[str, Any]:
        """The named NumPy arrays of a batch.

        Args:
            size: size of the batch.
            inputs: values for each sample, by the input that conditioners read (`prompt`, `label`, `control`,
                `guidance`); a conditioner whose input is None or missing returns its null. Inputs that no conditioner
                reads are ignored, since data sets can have more inputs than a model takes.

        Raises:
            ValueError: an input has another number of values, or a value that cannot be encoded.
        """
        arrays: dict[str, Any] = {}
        for part in self.conditioners.values():
            values = inputs.get(part.input)
            if values is None:
                arrays.update(part.null(size))
                continue
            if len(values) != size:
                raise ValueError(f"{part.input} must have a value for each of {size} samples, got {len(values)}")
            arrays.update(part.encode(values))
        return arrays

    def null(self, size: int) -> dict[str, Any]:
        """The arrays of a batch without any condition."""
        return self.encode(size)

    def unguided(self, size: int) -> dict[str, Any]:
        """The arrays that classifier-free guidance replaces in its unconditional estimate: the nulls of those
        conditioners that it strengthens."""
        arrays: dict[str, Any] = {}
        for part in self.conditioners.values():
            if part.guided:
                arrays.update(part.null(size))
        return arrays

    def without(self, *inputs: str) -> Conditioning:
        """A copy without the conditioners that read these inputs."""
        kept = {name: part for name, part in self.conditioners.items() if part.input not in inputs}
        return replace(self, conditioners=kept)

    def having(self, **conditioners: Conditioner) -> Conditioning:
        """A copy with these conditioners added."""
        return replace(self, conditioners={**self.conditioners, **conditioners})

    def encoded(self, shape: Sequence[int]) -> Conditioning:
        """A copy whose pixels and control images are data [*shape] of the codec already."""
        parts = {
            name: ControlImage(tuple(shape)) if isinstance(part, ControlImage) else part
            for name, part in self.conditioners.items()
        }
        return Conditioning(Identity(), parts)

    def takes(self, input: str) -> bool:
        """Whether a conditioner reads this input."""
        return any(part.input == input for part in self.conditioners.values())

    @property
    def text_length(self) -> int:
        """The number of tokens kept of a prompt; 0 for a model without text."""
        parts = self.conditioners.values()
        return max((part.length for part in parts if isinstance(part, TextConditioner)), default=0)

    @property
    def classes(self) -> int:
        """The number of classes; 0 for a model without classes."""
        parts = self.conditioners.values()
        return max((part.classes for part in parts if isinstance(part, ClassLabel)), default=0)

    @property
    def control(self) -> bool:
        """Whether a control image is an input."""
        return self.takes("control")

    @property
    def guidance(self) -> tuple[float, float] | None:
        """The range of guidance scales distilled into the network; None if guidance is applied outside it."""
        parts = self.conditioners.values()
        return next(((part.low, part.high) for part in parts if isinstance(part, GuidanceScale)), None)


def conditioners(
    text_length: int = 0,
    classes: int = 0,
    control: Sequence[int] | None = None,
    guidance: tuple[float, float] | None = None,
) -> dict[str, Conditioner]:
    """The usual conditioners by their usual names.

    Args:
        text_length: number of tokens kept of a prompt; 0 for no text.
        classes: number of classes; 0 for none.
        control: shape [c, h, w] of control images; None for none.
        guidance: range of guidance scales distilled into the network; None if guidance is applied outside it.
    """
    usual: dict[str, Conditioner | None] = {
        "prompt": PromptTokens(text_length) if text_length else None,
        "label": ClassLabel(classes) if classes else None,
        "control": None if control is None else ControlImage(tuple(control)),
        "guidance": None if guidance is None else GuidanceScale(*guidance),
    }
    return {name: part for name, part in usual.items() if part is not None}


def between(first: Mapping[str, Any], second: Mapping[str, Any], positions: Sequence[float]) -> dict[str, Any]:
    """Interpolate between the named arrays of two batches that differ in their text.

    Token vectors are mixed position by position. The shorter text is repeated up to the length of the longer one,
    which means the same to attention and changes the picture little; zeros instead would act as further words.

    Args:
        first, second: arrays returned by `Conditioning.encode`, as long as positions.
        positions: position of each sample, from 0 to 1: 0 gives `first` and 1 gives `second`, both bit for bit.
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
    """Each text, repeated up to the full length, float32 [b, length, width]."""
    text = condition["text"]
    counts = np.maximum(condition["text_mask"].sum(axis=1).astype(int), 1)
    return np.stack([row[np.arange(len(row)) % count] for row, count in zip(text, counts, strict=True)])
