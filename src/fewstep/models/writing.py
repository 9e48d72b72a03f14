"""Write a model's directory: all of it or nothing, its description last."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from fewstep.models.parts import ModelError
from fewstep.models.saved import CAPTIONS, DESCRIPTION, WEIGHTS, ModelSpec, SavedModel, read, sha256, text_table_hash


def write(
    spec: ModelSpec,
    weights: Mapping[str, Any],
    directory: Path,
    captions: Sequence[str] = (),
    other_words: Sequence[str] = (),
    complete: Callable[[Path], object] | None = None,
) -> SavedModel:
    """Save a model.

    Args:
        spec: its description; `files` and `text_table` are filled in.
        weights: the network's arrays, stored in the precision they have.
        directory: where; what stood there is replaced once the new model is whole.
        captions: what it was trained on, to tell what it knows.
        other_words: words it was trained on beside the captions.
        complete: called with the unfinished directory, to add the exported network and a recogniser.

    Returns:
        The model, read back.

    Raises:
        ModelError: something other than a model stands there, or the description could not be read back.
        ValueError: a number of the description is NaN.
    """
    _recover(directory)
    if directory.exists() and not (directory / DESCRIPTION).is_file() and not _is_empty(directory):
        raise ModelError(f"'{directory}' holds something that is no model: give another directory")
    scratch = directory.with_name(f".{directory.name}.{os.getpid()}.writing")  # another process may write there too
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        _fill(scratch, spec, weights, captions, other_words, complete)
        read(scratch)
        _replace(directory, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return read(directory)


def _is_empty(directory: Path) -> bool:
    return directory.is_dir() and not any(directory.iterdir())


def _fill(
    scratch: Path,
    spec: ModelSpec,
    weights: Mapping[str, Any],
    captions: Sequence[str],
    other_words: Sequence[str],
    complete: Callable[[Path], object] | None,
) -> None:
    save_file({name: np.ascontiguousarray(values) for name, values in weights.items()}, scratch / WEIGHTS)
    # one caption a line, none empty: an empty line ends them in the file
    lines = [line for line in (" ".join(caption.split()) for caption in captions) if line]
    if lines:
        text = "\n".join(lines) + "\n\n" + " ".join(sorted(set(other_words))) + "\n"
        (scratch / CAPTIONS).write_text(text, encoding="utf-8")
    if complete is not None:
        complete(scratch)
    files = {file.name: sha256(file) for file in sorted(scratch.iterdir())}
    text_table = text_table_hash() if spec.conditioning.text_length else None
    (scratch / DESCRIPTION).write_text(replace(spec, files=files, text_table=text_table).to_json(), encoding="utf-8")
    for file in scratch.iterdir():
        file.chmod(0o644)


def _aside(directory: Path) -> Path:
    """Where the old model stands while the new one takes its place."""
    return directory.with_name(f".{directory.name}.old")


def _recover(directory: Path) -> None:
    """Put back the old model of a writing that was stopped while it stood aside."""
    old = _aside(directory)
    if old.is_dir() and not directory.exists():
        old.rename(directory)


def _replace(directory: Path, scratch: Path) -> None:
    """Put the new model where the old one stood, which goes only once it is there."""
    old = _aside(directory)
    shutil.rmtree(old, ignore_errors=True)
    if directory.exists():
        directory.rename(old)
    try:
        scratch.rename(directory)
    except OSError:
        if old.exists():
            old.rename(directory)
        raise
    shutil.rmtree(old, ignore_errors=True)
