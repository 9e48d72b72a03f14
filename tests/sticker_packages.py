"""Small packages of drawings in the form that npm's registry has them: no network, no npm."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from fewstep.data import artists, rendered, stickers
from fewstep.data.artists import ARTISTS, Artist
from fewstep.data.packages import Package

COLOURS = ("#e02020", "#20a040", "#2040e0", "#e0c020", "#a020c0", "#20b0b0", "#806040")
THINGS = {"red-apple": "1f34e", "rocket": "1f680", "grinning-face": "1f600"}


def archive(folder: Path, package: Package, files: Mapping[str, bytes]) -> Package:
    """Write an archive with these files, and the package whose hash it has."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / package.archive
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    digest = hashlib.sha512(path.read_bytes()).digest()
    return replace(package, sha512=base64.b64encode(digest).decode())


def icons(colour: str, names: bool = True) -> dict[str, bytes]:
    """A package of Iconify's with a disc, a rectangle and a mirrored triangle."""
    drawn = {
        "red-apple": {"body": f'<circle cx="16" cy="16" r="14" fill="{colour}"/>'},
        "rocket": {"body": f'<rect x="4" y="10" width="10" height="20" fill="{colour}"/>'},
        "face-to-the-left": {"body": f'<path d="M2 2L30 16L2 30Z" fill="{colour}"/>'},
    }
    aliases = {"grinning-face": {"parent": "face-to-the-left", "hFlip": True}}
    held = {"prefix": "test", "icons": drawn, "aliases": aliases, "width": 32, "height": 32}
    files = {"package/icons.json": json.dumps(held).encode()}
    if names:
        files["package/chars.json"] = json.dumps({code: name for name, code in THINGS.items()}).encode()
    return files


def pictures(colour: str) -> dict[str, bytes]:
    """A package of WebP pictures named by code points."""
    written = io.BytesIO()
    disc = Image.new("RGBA", (64, 64))
    disc.paste(Image.new("RGBA", (40, 40), colour), (20, 4))
    disc.save(written, "WEBP", lossless=True)
    return {f"package/assets/{code}.webp": written.getvalue() for code in THINGS.values()}


def packages(folder: Path) -> tuple[Artist, ...]:
    """Every artist's package with three drawings in a colour of their own, and the artists pinned to them."""
    made = []
    for artist, colour in zip(ARTISTS, COLOURS, strict=True):
        files = pictures(colour) if artist.kind == "webp" else icons(colour, names=artist.style != "classic")
        made.append(replace(artist, package=archive(folder, artist.package, files)))
    return tuple(made)


def pin(monkeypatch: pytest.MonkeyPatch, pinned: tuple[Artist, ...], cache: Path) -> None:
    """Have the library use these artists, and keep what it makes in `cache`."""
    for module in (artists, rendered, stickers):
        monkeypatch.setattr(module, "ARTISTS", pinned)
    monkeypatch.setenv("FEWSTEP_CACHE", str(cache))
