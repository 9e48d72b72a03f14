"""A folder of images, after the Hugging Face imagefolder convention: captions in metadata, or classes by folder."""

from __future__ import annotations

import csv
import json
import logging
import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fewstep.data.dataset import DataError, Example, Skipped
from fewstep.data.images import OTHER_SUFFIXES, SUFFIXES, Channels, Crop, Frame
from fewstep.data.pictures import Pictures, captions_in, one_of, report, texts, words

METADATA = ("metadata.jsonl", "metadata.csv")

log = logging.getLogger(__name__)


class ImageFolder:
    """The images under a folder, in the order of their paths.

    Captions come from `metadata.jsonl` or `metadata.csv` in any folder (rows of `file_name`, relative to it, and
    text, caption or prompt; several rows of one file are several captions), else from a `.txt` file beside an
    image. Where there is no metadata and every image lies in one of several folders, the folders' names are the
    classes, and as words the captions of images without a `.txt`. Hidden files are not looked at.

    An image that cannot be used is named in `skipped` and warned of once; `example` gives the next readable one
    in its place, always the same.

    Args:
        root: the folder.
        size: the side, or (height, width), in pixels.
        channels: "RGB", "RGBA" (premultiplied) or "L".
        flip: mirror left and right in half of the draws.
        crop: "center" or "random" cover the frame and cut what is over; "pad" shows the whole image.
        background: the RGB colour, 0 … 255, behind transparency where `channels` has no alpha.
        caption_column: the metadata column that holds the captions, if none of text, caption and prompt.
        cache_bytes: how many bytes of decoded pixels may be kept in memory.

    Raises:
        DataError: no such folder, no images in it, or metadata that cannot be read (file and line are named).
    """

    def __init__(
        self,
        root: str | Path,
        size: int | tuple[int, int],
        channels: Channels = "RGB",
        *,
        flip: bool = False,
        crop: Crop = "center",
        background: tuple[int, int, int] = (255, 255, 255),
        caption_column: str | None = None,
        cache_bytes: int = 2**28,
    ) -> None:
        self.root = Path(root)
        frame = Frame(size, channels, flip, crop, background)
        found = _scan(self.root)
        images = [name for name in found if Path(name).suffix.lower() in SUFFIXES]
        self.name = self.root.resolve().name
        self.shape = frame.shape
        self._paths = [found[name] for name in images]
        self._pictures = Pictures(len(images), images.__getitem__, self._paths.__getitem__, frame, cache_bytes)
        for name in found:
            if Path(name).suffix.lower() in OTHER_SUFFIXES:
                report(self.skipped, name, f"{Path(name).suffix} is not read: convert it to PNG, JPEG or WebP")
        rows = list(_rows(self.root, found))
        by_name = self._from_metadata(rows, set(images), caption_column) if rows else {}
        if not images:
            held = f", only files that cannot be used ({len(self.skipped)})" if len(self.skipped) else ""
            raise DataError(f"{self.root} holds no images ({', '.join(sorted(SUFFIXES))}){held}")
        folders = [Path(name).parent.name for name in images]
        classes = [] if rows or any("/" not in name for name in images) else sorted(set(folders))
        number = {folder: label for label, folder in enumerate(classes)} if len(classes) > 1 else {}
        self.classes = len(number)
        self._labels = [number.get(folder) for folder in folders]
        self._captions: list[tuple[str, ...]] = []
        for name, label, folder in zip(images, self._labels, folders, strict=True):
            captions = by_name.get(name) or self._beside(name, found)
            self._captions.append(captions or (() if label is None else texts(words(folder))))
        bare = sum(not captions for captions in self._captions)
        if 0 < bare < len(images):
            log.warning("%s: %d of %d images have no caption", self.name, bare, len(images))

    @property
    def skipped(self) -> Skipped:
        """What could not be used so far, by path relative to the folder, and why."""
        return self._pictures.skipped

    @property
    def captions(self) -> list[str]:
        """Every caption once, in the order of the images."""
        return list(dict.fromkeys(caption for captions in self._captions for caption in captions))

    def __len__(self) -> int:
        return len(self._paths)

    def example(self, index: int, rng: np.random.Generator) -> Example:
        """The image at `index`, or the next readable one, cropped, flipped and captioned by `rng`."""
        index, data = self._pictures(index, rng)
        return Example(data, one_of(self._captions[index], rng), self._labels[index])

    def _from_metadata(self, rows: list[_Row], images: set[str], column: str | None) -> dict[str, tuple[str, ...]]:
        """Captions by image name; rows that name no readable file are reported."""
        known = sorted({key for row in rows for key in row.values} - {"file_name"})
        if column is not None and column not in known:
            raise DataError(f"no column {column!r} in the metadata of {self.root}; it has: {', '.join(known)}")
        captions: dict[str, tuple[str, ...]] = {}
        for row in rows:
            if row.name in images:
                more = captions_in(row.values, column)
                captions[row.name] = tuple(dict.fromkeys(captions.get(row.name, ()) + more))
            elif row.name not in self.skipped.reasons:
                report(self.skipped, row.name, f"named in {row.place}, but no such image is in the folder")
        return captions

    def _beside(self, name: str, found: dict[str, Path]) -> tuple[str, ...]:
        path = found.get(str(Path(name).with_suffix(".txt").as_posix()))
        if path is None:
            return ()
        try:
            return texts(" ".join(path.read_text(encoding="utf-8-sig").split()))
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"the caption {path} cannot be read as UTF-8 text: {error}") from error


@dataclass(frozen=True)
class _Row:
    name: str  # of the image, relative to the root
    place: str  # where the row stands, for messages
    values: dict[str, Any]


def _scan(root: Path) -> dict[str, Path]:
    """Every visible file under `root` by its relative name (NFC, with /), sorted; links are followed once."""
    if not root.exists():
        raise DataError(f"there is no folder {root}")
    if not root.is_dir():
        raise DataError(f"{root} is not a folder")
    found: dict[str, Path] = {}
    seen: set[str] = set()
    for folder, inner, files in os.walk(root, followlinks=True):
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
    return dict(sorted(found.items()))


def _rows(root: Path, found: dict[str, Path]) -> Iterator[_Row]:
    """The rows of every metadata file."""
    for name, path in found.items():
        if path.name == "metadata.parquet":
            raise DataError(f"{name} is not read here: use the Hugging Face source, or write metadata.jsonl")
        if path.name not in METADATA:
            continue
        folder = Path(name).parent
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                lines = _json_lines(file, path) if path.suffix == ".jsonl" else _csv_lines(file, path)
                for line, values in lines:
                    file_name = values.get("file_name")
                    if not isinstance(file_name, str) or not file_name:
                        raise DataError(f"{path}, line {line}: no file_name")
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
            yield reader.line_num, {key: value for key, value in values.items() if isinstance(key, str)}
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not CSV: {error}") from error
