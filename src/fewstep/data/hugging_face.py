"""Hugging Face data sets, from the hub or from disk, with their columns found by type."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fewstep.data.dataset import DataError, Example, Skipped
from fewstep.data.reading import CAPTION_KEYS, Pictures, one_of, texts, words
from fewstep.pictures.decode import MAX_BYTES, BadImage
from fewstep.pictures.frame import Channels, Crop, Frame

# Text columns that say where a picture is from, not what it shows.
NOT_CAPTIONS = frozenset(["id", "key", "name", "url", "path", "file_name", "filename", "image_id", "md5", "sha256"])
FILE_KINDS = {".parquet": "parquet", ".arrow": "arrow", ".json": "json", ".jsonl": "json", ".csv": "csv"}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Columns:
    """The columns of a data set that are used; None if there is none."""

    image: str
    caption: str | None
    label: str | None


class HuggingFace:
    """A Hugging Face data set; `columns` holds the columns in use.

    The image column is found by its type, a caption by its name (text, caption, prompt) or as the only column of
    text, a label as the ClassLabel column. Without captions the class names are used instead. Images are decoded
    here, not by `datasets`, so that the same limits apply as to files; those that cannot be read are listed in
    `skipped`, and `example` returns the next readable one in their place, always the same.

    Args:
        name_or_path: a name on the hub; or a folder of images, a folder written by `save_to_disk`, a folder of
            Parquet files, or one .parquet, .arrow, .jsonl or .csv file.
        split: the split in the syntax of `datasets` ("train", "train[:1000]"; for `save_to_disk` its name).
        size: the side, or (height, width), in pixels.
        channels: "RGB", "RGBA" (premultiplied) or "L".
        image_column, caption_column, label_column: the columns to use; "" means none for captions and labels.
        config: the name of a configuration (a subset) of a hub data set.
        revision: a commit, tag or branch of a hub data set.
        flip: mirror images left to right in half of the draws.
        crop: "center" or "random" fill the frame and crop the rest; "pad" shows the whole image.
        background: RGB colour, 0 … 255, behind transparent pixels if `channels` has no alpha.
        cache_bytes: most bytes of decoded pixels to keep in memory.

    Raises:
        DataError: the data set, split or column does not exist, the choice of columns is ambiguous, or `datasets` is
            not installed.
    """

    def __init__(
        self,
        name_or_path: str | Path,
        split: str = "train",
        *,
        size: int | tuple[int, int],
        channels: Channels = "RGB",
        image_column: str | None = None,
        caption_column: str | None = None,
        label_column: str | None = None,
        config: str | None = None,
        revision: str | None = None,
        flip: bool = False,
        crop: Crop = "center",
        background: tuple[int, int, int] = (255, 255, 255),
        cache_bytes: int = 2**28,
    ) -> None:
        frame = Frame(size, channels, flip, crop, background)
        rows = load(name_or_path, split, config, revision)
        if len(rows) == 0:
            raise DataError(f"the split {split!r} of {name_or_path} is empty")
        self.columns = find_columns(rows.features, image_column, caption_column, label_column)
        log.info("%s: %s", name_or_path, self.columns)
        path = Path(name_or_path)
        self.name = path.stem if path.exists() else str(name_or_path)
        self.shape = frame.shape
        self._images = _undecoded(rows, self.columns.image)
        self._folder = path if path.is_dir() else path.parent
        self._captions = _captions(rows, self.columns.caption)
        self._labels, self._classes = _labels(rows, self.columns.label)
        highest = max((label for label in self._labels if label is not None), default=-1)
        self.classes = max(highest + 1, len(self._classes))
        self._pictures = Pictures(len(rows), lambda i: f"{self.name}/{split}[{i}]", self._file, frame, cache_bytes)

    @property
    def skipped(self) -> Skipped:
        """The images that could not be read so far, as name/split[row], with the reasons."""
        return self._pictures.skipped

    @property
    def captions(self) -> list[str]:
        """The distinct captions in the order of the rows, or the class names if there are no captions."""
        if self.columns.caption is None:
            return [words(name) for name in self._classes]
        return list(dict.fromkeys(caption for captions in self._captions for caption in captions))

    def __len__(self) -> int:
        return len(self._images)

    def sides(self, index: int) -> tuple[int, int] | None:
        """Width and height of an image, shrunk at most to the frame; None, with a warning, if it cannot be read."""
        return self._pictures.sides(index)

    def example(self, index: int, rng: np.random.Generator) -> Example:
        """The image at `index` or the next readable one; crop, flip and caption are drawn from `rng`."""
        index, data = self._pictures(index, rng)
        label = self._labels[index] if self._labels else None
        if self._captions:
            return Example(data, one_of(self._captions[index], rng), label)
        caption = "" if label is None or not self._classes else words(self._classes[label])
        return Example(data, caption, label)

    def _file(self, index: int) -> bytes | Path:
        value = self._images[index][self.columns.image]
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, str) and value:
            return self._folder / value  # an absolute path stays as it is
        if not isinstance(value, bytes) or not value:
            raise BadImage("the row holds no image")
        if len(value) > MAX_BYTES:
            raise BadImage(f"has {len(value)} bytes, more than the {MAX_BYTES} allowed")
        return value


def load(name_or_path: str | Path, split: str, config: str | None = None, revision: str | None = None) -> Any:
    """Load one split as a `datasets.Dataset`.

    Raises:
        DataError: it does not exist, or `datasets` cannot read it or is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise DataError("Hugging Face data sets need the datasets package: pip install 'fewstep[train]'") from error
    path = Path(name_or_path)
    if not path.exists() and (path.suffix in FILE_KINDS or not _HUB_NAME.fullmatch(str(name_or_path))):
        raise DataError(f"there is no folder or file '{path}'")
    try:
        if (path / "dataset_dict.json").exists() or (path / "state.json").exists():
            return _saved(datasets.load_from_disk(str(path)), path, split)
        if path.is_file():
            if path.suffix.lower() not in FILE_KINDS:
                raise DataError(f"{path} must be a folder or one of {', '.join(FILE_KINDS)}")
            return datasets.load_dataset(
                FILE_KINDS[path.suffix.lower()], data_files={"train": str(path)}, split=split
            )
        return datasets.load_dataset(str(name_or_path), config, split=split, revision=revision)
    except DataError:
        raise
    except Exception as error:  # datasets raises its own errors, the hub's, Arrow's and the network's
        if not path.exists():
            missing = (
                f"there is no folder or file '{path}', and no Hugging Face data set of that name could be loaded"
            )
            raise DataError(f"{missing} (split {split!r}): {_cause(error)}") from error
        raise DataError(f"the split {split!r} of {name_or_path} cannot be loaded: {_cause(error)}") from error


_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)


def _cause(error: BaseException) -> BaseException:
    """The root cause of a chain of errors, since "an error occurred while generating" helps nobody."""
    return error if error.__cause__ is None else _cause(error.__cause__)


def _saved(saved: Any, path: Path, split: str) -> Any:
    if hasattr(saved, "keys"):
        if split not in saved:
            raise DataError(f"{path} has no split {split!r}; it has: {', '.join(saved)}")
        return saved[split]
    if saved.split is not None and str(saved.split) != split:
        raise DataError(f"{path} holds the split {str(saved.split)!r}, got split={split!r}")
    return saved


def find_columns(
    features: Any, image: str | None = None, caption: str | None = None, label: str | None = None
) -> Columns:
    """Choose the columns by their types where they are not given ("" means none for caption and label).

    Raises:
        DataError: a column does not exist, there is no image column, or there are several candidates; the message
            lists the columns.
    """
    for given in (image, caption, label):
        if given and given not in features:
            raise DataError(f"no column {given!r}; {_listed(features)}")
    if not image:
        found = [name for name in features if _kind(features[name]) == "Image"]
        found = found or [name for name in features if _holds_files(features[name])]
        image = _only(found, "image", ("image",), features)
        if image is None:
            raise DataError(f"no column holds images: give image_column=…; {_listed(features)}")
    if caption is None:
        told = [name for name in features if name in CAPTION_KEYS and _holds_text(features[name])]
        other = [
            name for name in features if _holds_text(features[name]) and name != image and not _names_files(name)
        ]
        caption = min(told, key=CAPTION_KEYS.index) if told else _only(other, "caption", (), features)
    if label is None:
        found = [name for name in features if _kind(features[name]) == "ClassLabel"]
        label = _only(found, "label", ("label", "labels"), features)
    return Columns(image, caption or None, label or None)


def _only(found: list[str], role: str, preferred: tuple[str, ...], features: Any) -> str | None:
    for name in preferred:
        if name in found:
            return name
    if len(found) > 1:
        none = "" if role == "image" else f", or {role}_column='' for none"
        raise DataError(f"{', '.join(found)} may each be the {role}: give {role}_column=…{none}; {_listed(features)}")
    return found[0] if found else None


def _kind(feature: Any) -> str:
    return type(feature).__name__


def _listed(features: Any) -> str:
    kinds = (f"{name} ({getattr(feature, 'dtype', _kind(feature))})" for name, feature in features.items())
    return f"the columns are: {', '.join(kinds)}"


def _holds_text(feature: Any) -> bool:
    """Whether a feature is a string or a list of strings."""
    if isinstance(feature, list):
        return len(feature) == 1 and _holds_text(feature[0])
    inner = getattr(feature, "feature", None)
    return _holds_text(inner) if inner is not None else getattr(feature, "dtype", "") in ("string", "large_string")


def _holds_files(feature: Any) -> bool:
    """Whether a feature is bytes, or a struct of bytes and path, as in Parquet files not written by `datasets`."""
    if isinstance(feature, dict):
        return "bytes" in feature and _holds_files(feature["bytes"])
    return getattr(feature, "dtype", "") in ("binary", "large_binary")


def _names_files(name: str) -> bool:
    return name.startswith("__") or name.lower() in NOT_CAPTIONS


def _undecoded(rows: Any, column: str) -> Any:
    """The image column only, as undecoded files."""
    import datasets

    images = rows.select_columns([column])
    if _kind(rows.features[column]) == "Image":
        images = images.cast_column(column, datasets.Image(decode=False))
    return images.with_format(None)


def _values(rows: Any, column: str) -> list[Any]:
    return list(rows.select_columns([column]).with_format(None)[:][column])


def _captions(rows: Any, column: str | None) -> list[tuple[str, ...]]:
    return [] if column is None else [texts(value) for value in _values(rows, column)]


def _labels(rows: Any, column: str | None) -> tuple[list[int | None], list[str]]:
    """The label of every row, and the class names if there are any."""
    if column is None:
        return [], []
    values = _values(rows, column)
    names = getattr(rows.features[column], "names", None)
    if names is not None:
        return [_known(value) for value in values], list(names)
    if all(value is None or isinstance(value, str) for value in values):
        names = sorted({value for value in values if value is not None})
        number = {name: label for label, name in enumerate(names)}
        return [None if value is None else number[value] for value in values], names
    if all(value is None or (isinstance(value, int) and not isinstance(value, bool)) for value in values):
        return [_known(value) for value in values], []
    raise DataError(f"the label column {column!r} must hold classes, whole numbers or text")


def _known(label: int | None) -> int | None:
    return None if label is None or label < 0 else label
