"""Captions in files beside the images of a folder, and the text files of a folder that nothing reads."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from fewstep.data.dataset import DataError
from fewstep.data.reading import captions_in, texts

ENDINGS = (".txt", ".caption", ".json")
"""Endings, in either case, of the files beside an image that are read: `a.txt` or `a.png.txt` for `a.png`."""

TEXTUAL = {*ENDINGS, ".csv", ".tsv", ".jsonl", ".ndjson", ".xml", ".yaml", ".yml", ".xlsx", ".parquet"}
"""Endings of files that may hold captions."""

_ABOUT = re.compile(r"readme|licen[cs]e|copying|notice|attribution|credits|changelog|requirements", re.IGNORECASE)
_NAMED = 3  # files in a warning

log = logging.getLogger(__name__)


class CaptionFiles:
    """The caption files of a folder.

    Args:
        found: every file of the folder by relative path.
    """

    def __init__(self, found: Mapping[str, Path]) -> None:
        self._files = {name: path for name, path in found.items() if PurePosixPath(name).suffix.lower() in TEXTUAL}
        self._captions_in: dict[str, tuple[str, ...]] = {}
        self._by_stem: dict[str, list[str]] = {}
        for name in self._files:
            if (path := PurePosixPath(name)).suffix.lower() in ENDINGS:
                self._by_stem.setdefault(str(path.with_suffix("")), []).append(name)

    def of(self, image: str) -> tuple[str, ...]:
        """The captions in the files beside an image.

        Raises:
            DataError: one of them is not UTF-8 text.
        """
        captions: tuple[str, ...] = ()
        for stem in (str(PurePosixPath(image).with_suffix("")), image):
            for name in self._by_stem.get(stem, ()):
                captions += self._captions(name)
        return tuple(dict.fromkeys(captions))

    def _captions(self, name: str) -> tuple[str, ...]:
        if name not in self._captions_in:
            self._captions_in[name] = self._read(self._files[name])
        return self._captions_in[name]

    @staticmethod
    def _read(path: Path) -> tuple[str, ...]:
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"the caption {path} cannot be read as UTF-8 text: {error}") from error
        if path.suffix.lower() != ".json":
            return texts(" ".join(text.split()))
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            return ()  # other programs' files: named in the warning
        return captions_in(values) if isinstance(values, dict) else ()

    def warn(self, source: str, read: Iterable[str]) -> None:
        """Warn once about the text files that were not read.

        Args:
            source: name of the folder.
            read: names of those that something else has read.
        """
        used = {
            name for name, captions in self._captions_in.items() if captions or not name.lower().endswith(".json")
        }
        about = {name for name in self._files if _ABOUT.match(PurePosixPath(name).stem)}
        unread = sorted(self._files.keys() - used - about - set(read))
        if unread:
            more = f" and {len(unread) - _NAMED} more" if len(unread) > _NAMED else ""
            log.warning(
                "%s: not read: %s%s; captions come from metadata.jsonl, metadata.csv and %s files beside an image",
                source, ", ".join(unread[:_NAMED]), more, ", ".join(ENDINGS),
            )  # fmt: skip
