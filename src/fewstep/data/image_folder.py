"""A folder of images in the Hugging Face imagefolder layout: captions in metadata, or classes by folder."""

from __future__ import annotations

import csv
import json
import logging
import os
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fewstep.data.caption_files import CaptionFiles
from fewstep.data.dataset import DataError, Example, Skipped
from fewstep.data.reading import CAPTION_KEYS, Pictures, captions_in, one_of, report_all, texts, words
from fewstep.pictures.decode import OTHER_SUFFIXES, SUFFIXES
from fewstep.pictures.frame import Channels, Crop, Frame

METADATA = ("metadata.jsonl", "metadata.csv")

# Folder names of the splits in imagefolder.
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SPLIT_OF = {word: split for split, folders in SPLITS.items() for word in folders}

log = logging.getLogger(__name__)


class ImageFolder:
    """The images under a folder, in the order of their paths.

    Captions come from `metadata.jsonl` or `metadata.csv` in any folder (rows of `file_name`, relative to it, and
    text, caption or prompt; several rows of one file are several captions), else from `.txt`, `.caption` or `.json`
    files beside an image. If there is no metadata and every image is in one of several folders, the folder names are
    the classes and, as words, the captions of images without such a file. Hidden files are ignored; other files that
    may hold captions are named in a warning.

    If every image is under a folder named after a split (train, validation, test, and imagefolder's other names for
    them), only those of `split` are used: held-out images stay held out, and the split's name is not a class.

    An image that cannot be used is listed in `skipped` with one warning; `example` returns the next readable one in
    its place, always the same.

    Args:
        root: the folder.
        size: the side, or (height, width), in pixels.
        channels: "RGB", "RGBA" (premultiplied) or "L".
        split: the split to use, in a folder that has splits.
        flip: mirror images left to right in half of the draws.
        crop: "center" or "random" fill the frame and crop the rest; "pad" shows the whole image.
        background: RGB colour, 0 … 255, behind transparent pixels if `channels` has no alpha.
        caption_column: metadata column with the captions, if it is not text, caption or prompt.
        cache_bytes: most bytes of decoded pixels to keep in memory.

    Raises:
        DataError: the folder or split does not exist or has no images, or metadata cannot be read (the message names
            file and line).
    """

    def __init__(
        self,
        root: str | Path,
        size: int | tuple[int, int],
        channels: Channels = "RGB",
        *,
        split: str = "train",
        flip: bool = False,
        crop: Crop = "center",
        background: tuple[int, int, int] = (255, 255, 255),
        caption_column: str | None = None,
        cache_bytes: int = 2**28,
    ) -> None:
        self.root = Path(root)
        frame = Frame(size, channels, flip, crop, background)
        everything, unreadable = files_under(self.root)
        taken = _Split(self.root, everything, split)
        found = {name: path for name, path in everything.items() if taken.has(name)}
        images = [name for name in found if _is_image(name)]
        self.name = self.root.resolve().name
        self.shape = frame.shape
        self._paths = [found[name] for name in images]
        self._pictures = Pictures(len(images), images.__getitem__, self._paths.__getitem__, frame, cache_bytes)
        report_all(self.skipped, {name: why for name, why in unreadable.items() if taken.has(f"{name}/")}, self.name)
        report_all(self.skipped, _of_other_formats(found), self.name)
        rows = [row for row in _rows(found) if taken.has(row.name)]
        by_name = self._from_metadata(rows, set(images), caption_column)
        if not images:
            held = f", only files that cannot be used ({len(self.skipped)})" if len(self.skipped) else ""
            raise DataError(f"{self.root} holds no images ({', '.join(sorted(SUFFIXES))}){held}")
        folders = [Path(taken.inside(name)).parent.name for name in images]
        classes = [] if rows or not all(folders) else sorted(set(folders))
        number = {folder: label for label, folder in enumerate(classes)} if len(classes) > 1 else {}
        self.classes = len(number)
        self._labels = [number.get(folder) for folder in folders]
        self._captions: list[tuple[str, ...]] = []
        beside = CaptionFiles(found)
        for name, label, folder in zip(images, self._labels, folders, strict=True):
            captions = by_name.get(name) or beside.of(name)
            self._captions.append(captions or (() if label is None else texts(words(folder))))
        beside.warn(self.name, [name for name, path in found.items() if path.name in METADATA])
        bare = sum(not captions for captions in self._captions)
        if bare and rows and not any(by_name.values()):
            self._warn_of_columns(rows, caption_column)
        elif 0 < bare < len(images):
            log.warning("%s: %d of %d images have no caption", self.name, bare, len(images))

    @property
    def skipped(self) -> Skipped:
        """The files that could not be used so far, by path relative to the folder, with the reasons."""
        return self._pictures.skipped

    @property
    def captions(self) -> list[str]:
        """The distinct captions in the order of the images."""
        return list(dict.fromkeys(caption for captions in self._captions for caption in captions))

    def __len__(self) -> int:
        return len(self._paths)

    def sides(self, index: int) -> tuple[int, int] | None:
        """Width and height of an image, shrunk at most to the frame; None, with a warning, if it cannot be read."""
        return self._pictures.sides(index)

    def example(self, index: int, rng: np.random.Generator) -> Example:
        """The image at `index` or the next readable one; crop, flip and caption are drawn from `rng`."""
        index, data = self._pictures(index, rng)
        return Example(data, one_of(self._captions[index], rng), self._labels[index])

    def _from_metadata(self, rows: list[_Row], images: set[str], column: str | None) -> dict[str, tuple[str, ...]]:
        """Captions by image name; rows that name no readable file are reported."""
        known = sorted({key for row in rows for key in row.values} - {"file_name"})
        if column is not None and column not in known:
            raise DataError(
                f"no column {column!r} in the metadata of {self.root}; it has: {', '.join(known) or 'none'}"
            )
        captions: dict[str, tuple[str, ...]] = {}
        missing: dict[str, str] = {}
        for row in rows:
            if row.name in images:
                more = captions_in(row.values, column)
                captions[row.name] = tuple(dict.fromkeys(captions.get(row.name, ()) + more))
            elif row.name not in self.skipped.reasons:
                missing.setdefault(row.name, f"named in {row.place}, but no such image is in the folder")
        report_all(self.skipped, missing, self.name)
        return captions

    def _warn_of_columns(self, rows: list[_Row], column: str | None) -> None:
        log.warning(
            "%s: the metadata has no caption in %s; its columns are %s: name the right one in caption_column",
            self.name,
            ", ".join(CAPTION_KEYS) if column is None else column,
            ", ".join(sorted({key for row in rows for key in row.values})),
        )


@dataclass(frozen=True)
class _Row:
    name: str  # of the image, relative to the root
    place: str  # file and line of the row, for messages
    values: dict[str, Any]


class _Split:
    """The files of a folder that belong to a split; all of them if the folder has no splits.

    Raises:
        DataError: the folder has splits, but not this one.
    """

    def __init__(self, root: Path, found: Iterable[str], split: str) -> None:
        images = [name for name in found if _is_image(name) or _is_other_format(name)]
        divided = bool(images) and all(_split_of(name) for name in images)
        held = sorted({of for name in found if (of := _split_of(name))}) if divided else []
        self._wanted = _SPLIT_OF.get(split.lower(), split)
        self._divided = divided
        if divided and self._wanted not in held:
            raise DataError(f"{root} has no split {split!r}; it has: {', '.join(held)}")

    def has(self, name: str) -> bool:
        """Whether this file belongs to the split, or to no split."""
        return not self._divided or _split_of(name) in (None, self._wanted)

    def inside(self, name: str) -> str:
        """The file's name within its split."""
        return name.partition("/")[2] if self._divided else name


def _split_of(name: str) -> str | None:
    """The split that the first folder of a relative path names."""
    first, within, _ = name.partition("/")
    return _SPLIT_OF.get(first.lower()) if within else None


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES


def _is_other_format(name: str) -> bool:
    return Path(name).suffix.lower() in OTHER_SUFFIXES


def _of_other_formats(found: Iterable[str]) -> dict[str, str]:
    others = (name for name in found if _is_other_format(name))
    return {name: f"{Path(name).suffix} is not read: convert it to PNG, JPEG or WebP" for name in others}


def files_under(root: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """Every visible file under a folder by relative path (NFC, with /), sorted; links are followed once.

    Returns:
        The files, and the reasons why subfolders could not be read, by relative path.

    Raises:
        DataError: the folder does not exist or cannot be read.
    """
    if not root.exists():
        raise DataError(f"there is no folder {root}")
    if not root.is_dir():
        raise DataError(f"{root} is not a folder")
    found: dict[str, Path] = {}
    seen: set[str] = set()
    unreadable: dict[str, str] = {}

    def note(error: OSError) -> None:
        folder = Path(error.filename)
        if folder == root:
            raise DataError(f"{root} cannot be read: {error.strerror}") from error
        unreadable[folder.relative_to(root).as_posix()] = f"the folder cannot be read: {error.strerror}"

    for folder, inner, files in os.walk(root, onerror=note, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link back into the tree
            inner.clear()
            continue
        seen.add(real)
        inner[:] = sorted(name for name in inner if not name.startswith(".") and name != "__MACOSX")
        for file in files:
            if not file.startswith("."):
                path = Path(folder, file)
                found[unicodedata.normalize("NFC", path.relative_to(root).as_posix())] = path
    return dict(sorted(found.items())), unreadable


def _rows(found: dict[str, Path]) -> Iterator[_Row]:
    """The rows of every metadata file."""
    for name, path in found.items():
        if path.name == "metadata.parquet":
            raise DataError(f"{name} is not read here: open the folder with HuggingFace, or write metadata.jsonl")
        if path.name not in METADATA:
            continue
        folder = Path(name).parent
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                lines = _json_lines(file, path) if path.suffix == ".jsonl" else _csv_lines(file, path)
                for line, values in lines:
                    file_name = values.get("file_name")
                    if not isinstance(file_name, str) or not file_name:
                        raise DataError(f"{path}, line {line}: file_name is missing")
                    inside = os.path.normpath(folder / unicodedata.normalize("NFC", file_name))
                    yield _Row(Path(inside).as_posix(), f"{name}, line {line}", values)
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not UTF-8 text: {error}") from error


def _json_lines(file: Any, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, text in enumerate(file, start=1):
        if not text.strip():
            continue
        try:
            values = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise DataError(f"{path}, line {line}: not JSON: {error}") from error
        if not isinstance(values, dict):
            raise DataError(f"{path}, line {line}: must be an object with file_name, got {text.strip()[:60]}")
        yield line, values


def _csv_lines(file: Any, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(file)
    try:
        if "file_name" not in (reader.fieldnames or ()):
            raise DataError(f"{path}: its first line must name the columns, file_name among them")
        for values in reader:
            if any(field.strip() for field in values.pop(None, None) or ()):
                raise DataError(f"{path}, line {reader.line_num}: more fields than columns: quote a text with commas")
            yield reader.line_num, {key: value for key, value in values.items() if isinstance(key, str)}
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not CSV: {error}") from error
