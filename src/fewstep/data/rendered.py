"""The stickers, rasterised once and cached: every artist's drawings in one memory-mapped array on disk.

`pictures.npy` is uint8 [pictures, side, side, 4], premultiplied RGBA; `pictures.json` holds the emoji and style of
each picture. The folder's name is a hash of everything that the pictures depend on.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fewstep.data.artists import ARTISTS, Artist, Drawing, drawings, rasterise
from fewstep.data.dataset import DataError
from fewstep.data.emoji import Glyph
from fewstep.data.packages import cache_folder, locate

MAKING = 1
"""Version of the rasterisation; increase it when the pictures change, so that older caches are not used."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rendered:
    """All rasterised pictures.

    Args:
        pictures: uint8 [pictures, side, side, 4], premultiplied RGBA.
        things: index of each picture's emoji among the glyphs.
        styles: index of each picture's artist in ARTISTS.
    """

    pictures: Any
    things: tuple[int, ...]
    styles: tuple[int, ...]


def render(glyphs: Sequence[Glyph], side: int, packages: Path | None = None) -> Rendered:
    """Every artist's pictures of these glyphs, from the cache or rendered now.

    Args:
        glyphs: the emoji.
        side: side in pixels.
        packages: a folder with the packages' archives; if None they are fetched.

    Raises:
        DataError: a package cannot be fetched or has the wrong content, or the folder cannot be written.
    """
    folder = cache_folder() / "stickers" / _fingerprint(glyphs, side)
    if packages is not None:  # check a given folder even if the pictures are cached
        _archives(packages)
    if not (folder / "pictures.json").is_file():
        try:
            _make(glyphs, side, packages, folder)
        except OSError as error:
            raise DataError(f"cannot keep the stickers in '{folder}': {error.strerror or error}") from error
    try:
        index = json.loads((folder / "pictures.json").read_text(encoding="utf-8"))
        pictures = np.load(folder / "pictures.npy", mmap_mode="r")
        if pictures.shape != (len(index["things"]), side, side, 4):
            raise ValueError(f"pictures.npy has shape {pictures.shape}")
        return Rendered(pictures, tuple(index["things"]), tuple(index["styles"]))
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise DataError(f"'{folder}' is damaged ({error}): delete it, and it will be made again") from error


def _fingerprint(glyphs: Sequence[Glyph], side: int) -> str:
    made_from = [MAKING, side, [glyph.text for glyph in glyphs], [str(artist.package) for artist in ARTISTS]]
    return f"{side}-{hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:16]}"


def _archives(packages: Path | None) -> dict[str, Path]:
    """The verified archive of each artist, by style."""
    return {artist.style: locate(artist.package, packages) for artist in ARTISTS}


def _make(glyphs: Sequence[Glyph], side: int, packages: Path | None, folder: Path) -> None:
    archives = _archives(packages)
    found = drawings(archives, [glyph.text for glyph in glyphs], [glyph.name for glyph in glyphs])
    order = [
        (thing, style, drawing)
        for style, artist in enumerate(ARTISTS)
        for thing, drawing in enumerate(found[artist.style])
        if drawing is not None
    ]
    if not order:
        raise DataError("the packages have none of the emoji that were asked for")
    scratch = folder.with_name(f".making-{folder.name}-{os.getpid()}")
    scratch.mkdir(parents=True)
    try:
        shape = (len(order), side, side, 4)
        pictures = np.lib.format.open_memmap(scratch / "pictures.npy", "w+", np.uint8, shape)

        def draw(place: int) -> None:
            thing, style, drawing = order[place]
            pictures[place] = _rasterised(drawing, side, ARTISTS[style], glyphs[thing])

        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            for done, _ in enumerate(pool.map(draw, range(len(order))), 1):
                if done % 500 == 0 or done == len(order):
                    log.info("%d of %d stickers drawn", done, len(order))
        pictures.flush()
        index = {"things": [thing for thing, _, _ in order], "styles": [style for _, style, _ in order]}
        (scratch / "pictures.json").write_text(json.dumps(index), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _rasterised(drawing: Drawing, side: int, artist: Artist, glyph: Glyph) -> Any:
    try:
        return rasterise(drawing, side)
    except DataError as error:
        raise DataError(f"'{glyph.name}' of {artist.package}: {error}") from error
