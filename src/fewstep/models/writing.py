"""Write a model's directory, all of it or nothing, with the description last."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from fewstep.models.components import KINDS, TEXT, WEIGHTS, Component, Vocabulary
from fewstep.models.conditioners import PromptTokens
from fewstep.models.format2 import to_json
from fewstep.models.parts import ModelError
from fewstep.models.saved import DESCRIPTION, SavedModel, read, sha256, text_table_hash
from fewstep.models.spec import ModelSpec


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
        spec: the description; the files of its components and the token table of its prompts are filled in.
        weights: the network's arrays, stored in their own precision.
        directory: the directory; a model already there is replaced once the new one is complete.
        captions: the captions that it was trained on, which show what it knows; stored with its vocabulary.
        other_words: other words that it was trained on.
        complete: called with the unfinished directory to add files of components, such as the exported network; a
            file is named after its component, like network.onnx or judge.onnx.

    Returns:
        The model, read back.

    Raises:
        ModelError: the directory contains something other than a model, a file belongs to no component, or the
            description cannot be read back.
        ValueError: a number of the description is NaN.
    """
    return _whole(directory, lambda scratch: _fill(scratch, spec, weights, captions, other_words, complete))


def rewrite(saved: SavedModel, spec: ModelSpec, directory: Path) -> SavedModel:
    """Save a model with another description and unchanged files.

    Args:
        saved: the model, as it was read.
        spec: the new description, with the same components; their files are kept.
        directory: the model's own directory, in which only the description is replaced; or another directory, to
            which each file is copied. A model already there is replaced once the copy is complete.

    Returns:
        The model, read back.

    Raises:
        ModelError: the model was changed since it was read, or the directory contains something other than a model.
        ValueError: the description cannot be read back.
    """
    place = Path(os.path.realpath(directory))
    described = replace(
        spec,
        components={
            name: replace(component, files=saved.component(name).component.files)
            for name, component in spec.components.items()
        },
    )
    described.check()
    text = to_json(described)
    if read(saved.directory).hash != saved.hash:
        raise ModelError(f"'{saved.directory}' has changed since it was read")
    if _is_own(saved, place):
        _replace_description(place, text)
        return read(place)

    def copy(scratch: Path) -> None:
        for name in described.files:
            shutil.copyfile(saved.directory / name, scratch / name)
        (scratch / DESCRIPTION).write_text(text, encoding="utf-8")

    return _whole(place, copy)


def check_rewrite(saved: SavedModel, directory: Path) -> None:
    """Raise the errors of `rewrite` in advance, before long work whose result is to be stored in the directory.

    Raises:
        ModelError: the directory contains something other than a model.
        OSError: nothing can be written there.
    """
    place = Path(os.path.realpath(directory))
    written = place
    if not _is_own(saved, place):
        _check_place(directory)
        written = next(above for above in place.parents if above.exists())
    if not written.is_dir() or not _takes_files(written):
        raise PermissionError(f"cannot write '{directory}': '{written}' is not a writable directory")


def _takes_files(directory: Path) -> bool:
    """Whether a file can be created there; permissions do not tell on file systems like /proc."""
    if not os.access(directory, os.W_OK):
        return False
    try:
        with tempfile.TemporaryFile(dir=directory):
            return True
    except OSError:
        return False


def _is_own(saved: SavedModel, place: Path) -> bool:
    return place == Path(os.path.realpath(saved.directory))


def _replace_description(directory: Path, text: str) -> None:
    """Replace the old description by the new one in one step, so that one of them is always there."""
    scratch = directory / f".{DESCRIPTION}.{os.getpid()}.writing"
    try:
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(directory / DESCRIPTION)
    finally:
        scratch.unlink(missing_ok=True)


def _whole(directory: Path, fill: Callable[[Path], object]) -> SavedModel:
    """Write a model with `fill` into an empty neighbouring directory, read it there, and move it into place."""
    _recover(directory)
    _check_place(directory)
    scratch = directory.with_name(f".{directory.name}.{os.getpid()}.writing")  # another process may write there too
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        fill(scratch)
        read(scratch)
        _replace(directory, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return read(directory)


def _check_place(directory: Path) -> None:
    if directory.exists() and not (directory / DESCRIPTION).is_file() and not _is_empty(directory):
        raise ModelError(f"'{directory}' contains something other than a model: give another directory")


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
    arrays = {name: np.ascontiguousarray(values) for name, values in weights.items()}
    save_file(arrays, scratch / f"network{WEIGHTS}")
    named = dict(spec.components)
    # one caption per line, none of them empty, since an empty line ends the captions in the file
    lines = [line for line in (" ".join(caption.split()) for caption in captions) if line]
    if lines:
        named.setdefault("vocabulary", Component(Vocabulary()))
        text = "\n".join(lines) + "\n\n" + " ".join(sorted(set(other_words))) + "\n"
        (scratch / f"vocabulary{TEXT}").write_text(text, encoding="utf-8")
    if complete is not None:
        complete(scratch)
    described = replace(spec, components=_with_files(named, scratch))
    (scratch / DESCRIPTION).write_text(to_json(described), encoding="utf-8")
    for file in scratch.iterdir():
        file.chmod(0o644)


def _with_files(named: Mapping[str, Component], directory: Path) -> dict[str, Component]:
    """The components with the files of a directory, each of which is named after its component."""
    files: dict[str, dict[str, str]] = {name: {} for name in named}
    for file in sorted(directory.iterdir()):
        if file.stem not in named or file.suffix not in KINDS[named[file.stem].kind].files:
            raise ModelError(f"the file '{file.name}' belongs to none of the components {', '.join(sorted(named))}")
        files[file.stem][file.name] = sha256(file)
    return {name: replace(_with_table(component), files=files[name]) for name, component in named.items()}


def _with_table(component: Component) -> Component:
    """The component with the hash of this version's token table, if it is the conditioner of prompts."""
    if not isinstance(component.part, PromptTokens):
        return component
    return replace(component, part=replace(component.part, table=text_table_hash()))


def _aside(directory: Path) -> Path:
    """The path of the old model while the new one is moved into place."""
    return directory.with_name(f".{directory.name}.old")


def _recover(directory: Path) -> None:
    """Restore the old model if an earlier write was interrupted after moving it aside."""
    old = _aside(directory)
    if old.is_dir() and not directory.exists():
        old.rename(directory)


def _replace(directory: Path, scratch: Path) -> None:
    """Move the new model into place, and delete the old one only after that."""
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
