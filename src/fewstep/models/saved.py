"""A saved model: a directory with model.json and the files of its components.

model.json describes the whole model: each component with its kind, settings and files, the parameterisation of the
network, the levels for each number of steps, licence and lineage, and the SHA-256 of each file. So the SHA-256 of
model.json identifies the model. Nothing in a model is executed. Format 2 (`format2`) is read and written, format 1
(`format1`) only read.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from fewstep.models import format1, format2
from fewstep.models.components import GRAPH, KINDS, TEXT, WEIGHTS, Component
from fewstep.models.conditioners import PromptTokens
from fewstep.models.parts import ModelError
from fewstep.models.spec import ModelSpec
from fewstep.models.text import BUILT_IN as TEXT_TABLE
from fewstep.models.text import Captions, table

DESCRIPTION = "model.json"


@dataclass(frozen=True)
class SavedComponent:
    """One component of a model on disk.

    Args:
        directory: directory of the model.
        name: name of the component in the model.
        component: its description in model.json.
    """

    directory: Path
    name: str
    component: Component

    @property
    def part(self) -> Any:
        """Its settings."""
        return self.component.part

    @property
    def engine(self) -> str | None:
        """The engine that runs it, if different from the one chosen for the model."""
        return self.component.engine

    def file(self, ending: str) -> Path | None:
        """Its file with this ending, or None."""
        name = self.component.file(ending)
        return None if name is None else self.directory / name


@dataclass(frozen=True)
class SavedModel:
    """A model's directory, read and checked.

    Args:
        directory: the directory.
        spec: the description in model.json.
        hash: SHA-256 of model.json, which contains the hashes of all other files, and so identifies the model.
    """

    directory: Path
    spec: ModelSpec
    hash: str

    def component(self, name: str) -> SavedComponent:
        """A component by its name.

        Raises:
            ModelError: the model has no component of this name.
        """
        if name not in self.spec.components:
            known = ", ".join(sorted(self.spec.components))
            raise ModelError(f"the model '{self.spec.name}' has no component '{name}': it has {known}")
        return SavedComponent(self.directory, name, self.spec.components[name])

    @property
    def weights(self) -> Path:
        """The file with the network's weights."""
        weights = self.component("network").file(WEIGHTS)
        assert weights is not None  # `read` rejects a model without weights
        return weights

    @property
    def weights_hash(self) -> str:
        """SHA-256 of the network's weights."""
        return self.spec.files[self.weights.name]

    @property
    def exported(self) -> Path | None:
        """The network exported to ONNX, or None."""
        return self.component("network").file(GRAPH)

    @property
    def judge(self) -> Path | None:
        """The recogniser of what it draws, or None."""
        return self.component("judge").file(GRAPH) if "judge" in self.spec.components else None

    @cached_property
    def captions(self) -> Captions | None:
        """The captions that it was trained on; None for a model without text."""
        if "vocabulary" not in self.spec.components or not self.spec.conditioning.text_length:
            return None
        if (file := self.component("vocabulary").file(TEXT)) is None:
            return None
        captions, _, others = file.read_text(encoding="utf-8").partition("\n\n")
        return Captions(captions.splitlines(), others.split(), table())


def copied(saved: SavedModel, directory: Path) -> Path:
    """Copy a model's own files into a directory.

    Raises:
        FileExistsError: the directory is there and not empty.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise FileExistsError(errno.EEXIST, "it exists and is not empty: give a new directory", str(directory))
    directory.mkdir(parents=True, exist_ok=True)
    for name in (*saved.spec.files, DESCRIPTION):  # the description last: without it there is no model
        shutil.copyfile(saved.directory / name, directory / name)
    return directory


def read(directory: Path) -> SavedModel:
    """Read a model's directory and check every file against its hash.

    Raises:
        ModelError: a file is missing, damaged, not listed, a pickle, or has a newer format; the message names it.
    """
    file = directory / DESCRIPTION
    text = _text(directory)
    spec = _parse(text, file)
    if spec.components["network"].file(WEIGHTS) is None:
        raise ModelError(f"'{file}' names no weights ({WEIGHTS}) of the component 'network'")
    for name, digest in spec.files.items():
        _check(directory / name, digest)
    for name in _file_names(spec):
        if name not in spec.files and os.path.lexists(directory / name):
            raise ModelError(f"'{directory / name}' is not listed in '{file}', so it cannot be checked")
    for component in spec.components.values():
        _check_token_table(component.part, file)
    return SavedModel(directory, spec, hashlib.sha256(text).hexdigest())


def description(directory: Path) -> ModelSpec:
    """The description in a model.json, whether or not the files that it names exist.

    Raises:
        ModelError: there is no model.json, or it cannot be read.
    """
    return _parse(_text(directory), directory / DESCRIPTION)


def _text(directory: Path) -> bytes:
    if directory.is_file():
        raise ModelError(f"'{directory}' is a file, but a model is a directory{_pickle_hint(directory)}")
    if not (directory / DESCRIPTION).is_file():
        raise ModelError(f"no model in '{directory}': {DESCRIPTION} is missing{_inside(directory)}")
    return (directory / DESCRIPTION).read_bytes()


def _inside(directory: Path) -> str:
    """What the folder holds instead of a model: the models of a run, or pickles."""
    models = sorted(
        {file.parent for pattern in ("*", "models/*") for file in directory.glob(f"{pattern}/{DESCRIPTION}")}
    )
    if models:
        return f"; it holds the model{'s' if len(models) > 1 else ''} {', '.join(map(str, models))}"
    return _pickle_hint(directory)


def _parse(text: bytes, file: Path) -> ModelSpec:
    try:
        values = json.loads(text)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError(f"'{file}' is not JSON: {error}") from error
    if not isinstance(values, dict) or not isinstance(number := values.pop("format", None), int):
        raise ModelError(f"'{file}' is not a model description: it has no format number")
    if number > format2.FORMAT:
        raise ModelError(f"'{file}' has format {number}, this version reads up to {format2.FORMAT}: update fewstep")
    try:
        return _spec(values, format1 if number < format2.FORMAT else format2)
    except KeyError as error:
        raise ModelError(f"'{file}' cannot be read: {error} is missing") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise ModelError(f"'{file}' cannot be read: {error}") from error


def _spec(values: Mapping[str, Any], reader: Any) -> ModelSpec:
    if unknown := sorted(set(values) - reader.SETTINGS):
        raise ModelError(f"it has unknown settings: {', '.join(unknown)}")
    spec: ModelSpec = reader.from_values(values)
    spec.check()
    return spec


def _file_names(spec: ModelSpec) -> Iterator[str]:
    """The usual names of the files of these components, in either format."""
    for name, component in spec.components.items():
        yield from (f"{name}{ending}" for ending in KINDS[component.kind].files)
    yield from format1.FILES


def _check(file: Path, expected: str) -> None:
    if not file.is_file():
        raise ModelError(f"'{file}' is missing")
    found = sha256(file)
    if found != expected:
        raise ModelError(f"'{file}' is damaged or was changed: its SHA-256 is {found[:12]}…, not {expected[:12]}…")


def _check_token_table(part: Any, file: Path) -> None:
    if isinstance(part, PromptTokens) and part.table not in (None, text_table_hash()):
        raise ModelError(f"'{file}' was trained with another token table ({part.table[:12]}…): update fewstep")


def _pickle_hint(directory: Path) -> str:
    suffixes = (".pt", ".pth", ".pkl", ".ckpt", ".bin")
    pickles = [p.name for p in directory.glob("*") if p.suffix in suffixes] if directory.is_dir() else []
    if directory.is_file() and directory.suffix in suffixes:
        pickles = [directory.name]
    return f"; '{pickles[0]}' is a pickle, which fewstep does not load" if pickles else ""


def sha256(file: Path) -> str:
    """A file's SHA-256 in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@lru_cache(maxsize=1)
def text_table_hash() -> str:
    """SHA-256 of the token table in this version of the package."""
    return sha256(TEXT_TABLE / "table.safetensors")
