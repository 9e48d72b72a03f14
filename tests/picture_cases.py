"""Pictures to read: good ones of every odd kind, and bad ones."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from fewstep.data.dataset import Dataset, Example


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def gradient(width: int = 24, height: int = 16, turn: int = 0) -> Image.Image:
    """An RGB image with no symmetry; `turn` makes different ones."""
    y, x = np.mgrid[:height, :width]
    red, green = x * 255 // max(1, width - 1), y * 255 // max(1, height - 1)
    return Image.fromarray(np.stack([red, green, np.full_like(red, turn * 40 % 256)], axis=2).astype(np.uint8))


def huge_header() -> bytes:
    """A PNG of a few bytes that says it is 60 000 × 60 000."""

    def chunk(kind: bytes, held: bytes) -> bytes:
        return struct.pack(">I", len(held)) + kind + held + struct.pack(">I", zlib.crc32(kind + held))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    packed = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def noisy_png() -> bytes:
    return encoded(Image.fromarray(rng(9).integers(0, 256, (64, 64, 3)).astype(np.uint8)))


BAD = {
    "truncated.png": noisy_png()[:3000],
    "truncated.jpg": encoded(gradient(200, 200), "JPEG")[:1500],
    "empty.png": b"",
    "text.png": b"this is not a picture\n",
    "huge.png": huge_header(),
    "header-only.png": noisy_png()[:40],
    "flipped-bytes.png": noisy_png()[:200] + bytes(200) + noisy_png()[400:],
    "postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
    "float.tiff": encoded(Image.new("F", (4, 4), 0.5), "TIFF"),
}


def same(one: Example, other: Example) -> bool:
    return (one.caption, one.label) == (other.caption, other.label) and np.array_equal(one.data, other.data)


def all_of(dataset: Dataset) -> list[Example]:
    return [dataset.example(index, rng(index)) for index in range(len(dataset))]


def six_in(folder: Path) -> Path:
    """The folder, made, with six good images, 0.png … 5.png, each of its own colour."""
    folder.mkdir()
    for number in range(6):
        gradient(turn=number).save(folder / f"{number}.png")
    return folder
