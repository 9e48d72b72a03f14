"""Judges, which say what a picture shows: the recogniser of emoji, a small network run by ONNX Runtime."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fewstep.engines.errors import EngineError
from fewstep.engines.onnx import open_session
from fewstep.models.saved import SavedModel
from fewstep.pictures.pixels import Pixels

PART = 256  # pictures judged at once


@dataclass(frozen=True)
class Verdict:
    """A judge's verdict on b pictures.

    Args:
        features: float32 [b, d], for distances between sets of pictures.
        names: what each picture shows.
        words: by kind ("colour", "style"), each picture's word, "" for none.
    """

    features: NDArray[np.float32]
    names: tuple[str, ...]
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    confidence: NDArray[np.float32] | None = None


class PictureJudge(Protocol):
    """A function from pixels [b, c, h, w] in [0, 1] to a verdict."""

    def __call__(self, pixels: Pixels) -> Verdict: ...


class RecogniserError(ValueError):
    """A recogniser cannot be used: the message names the file and says what is wrong."""


class Recogniser:
    """The judge of emoji, from a recogniser.onnx.

    Args:
        file: the recogniser.onnx, as written by `fewstep train recogniser`.
        threads: threads per operation; None for one per core.

    Raises:
        RecogniserError: the file is missing or is not a recogniser.
    """

    def __init__(self, file: Path, threads: int | None = None) -> None:
        if not file.is_file():
            raise RecogniserError(
                f"there is no recogniser '{file}': give one, or train it with 'fewstep train recogniser --out DIR'"
            )
        try:
            self._session = open_session(file, threads)
        except EngineError as error:
            raise RecogniserError(str(error)) from error
        notes = self._session.get_modelmeta().custom_metadata_map
        if missing := sorted({"names", "colours", "styles"} - set(notes)):
            raise RecogniserError(f"'{file}' is not a recogniser: its metadata lacks {', '.join(missing)}")
        self.names = _words(notes["names"])
        self._kinds = {"colour": _words(notes["colours"]), "style": _words(notes["styles"])}
        self._shape = tuple(self._session.get_inputs()[0].shape[1:])

    @property
    def shape(self) -> tuple[int, ...]:
        """A picture's shape [4, h, w]."""
        return self._shape

    def __call__(self, pixels: Pixels) -> Verdict:
        """Judge premultiplied RGBA pictures [b, 4, h, w]; values outside [0, 1] count as the nearest inside."""
        if tuple(pixels.shape[1:]) != self._shape:
            raise RecogniserError(
                f"this recogniser judges pictures of shape {self._shape}, got {tuple(pixels.shape[1:])}"
            )
        values = np.ascontiguousarray(pixels, dtype=np.float32)
        parts = [self._session.run(None, {"pixels": values[i : i + PART]}) for i in range(0, len(values), PART)]
        features, names, colours, styles = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        words = {
            kind: tuple(("", *self._kinds[kind])[i] for i in logits.argmax(axis=1))
            for kind, logits in (("colour", colours), ("style", styles))
        }
        shares = np.exp(names - names.max(axis=1, keepdims=True))
        confidence = 1 / shares.sum(axis=1)  # the largest share is e⁰
        return Verdict(features, tuple(self.names[i] for i in names.argmax(axis=1)), words, confidence)


def judge_of(saved: SavedModel, threads: int | None = None) -> Recogniser:
    """The judge in a model's directory.

    Raises:
        RecogniserError: there is none.
    """
    if saved.judge is None:
        raise RecogniserError(
            f"the model '{saved.spec.name}' has no recogniser: give one, or train it with "
            "'fewstep train recogniser --out DIR'"
        )
    return Recogniser(saved.judge, threads)


def _words(text: str) -> tuple[str, ...]:
    return tuple(str(word) for word in json.loads(text))
