"""Files of very many parts are refused before a decoder spends seconds on them; real files are not."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from fewstep.pictures.decode import BadImage, decode
from fewstep.pictures.structure import MOST, TooManyParts, check_structure

MANY = 100_000


def written(kind: str, side: int = 16, **options: object) -> bytes:
    """A picture of noise, which no format can make small."""
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)  # type: ignore[arg-type]  # whatever the format takes
    return file.getvalue()


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(kind: bytes, data: bytes, last: bool) -> bytes:
    file = written("PNG")
    at = len(file) - 12 if last else 33
    return file[:at] + chunk(kind, data) * MANY + file[at:]


def gif(extension: bytes) -> bytes:
    file = written("GIF")
    at = 13 + 3 * 2 ** ((file[10] & 7) + 1)
    return file[:at] + extension + file[at:]


def tiff() -> bytes:
    tags = b"".join(struct.pack("<HHII", 1 + i, 1, 1, 65) for i in range(60_000))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 60_000) + tags + bytes(4)


BOMBS: dict[str, Callable[[], bytes]] = {
    "unknown chunks first": lambda: png(b"teSt", b"", last=False),
    "unknown chunks last": lambda: png(b"teSt", b"", last=True),
    "texts": lambda: png(b"tEXt", b"a\0b", last=False),
    "compressed texts": lambda: png(b"zTXt", b"a\0\0" + zlib.compress(b""), last=True),
    "empty pixels": lambda: png(b"IDAT", b"", last=False),
    "comments of a jpeg": lambda: written("JPEG")[:2] + b"\xff\xfe\x00\x02" * MANY + written("JPEG")[2:],
    "fill bytes": lambda: written("JPEG")[:2] + b"\xff" * MANY + written("JPEG")[2:],
    "bytes that are no marker": lambda: written("JPEG")[:2] + b"\x00" * MANY + written("JPEG")[2:],
    "markers without a length": lambda: written("JPEG")[:2] + b"\xff\x01" * MANY + written("JPEG")[2:],
    "comments of a gif": lambda: gif(b"!\xfe\x00" * MANY),
    "blocks of a comment": lambda: gif(b"!\xfe" + b"\x01a" * MANY + b"\0"),
    "bytes that are no block": lambda: gif(b"\x00" * MANY),
    "comments of a ppm": lambda: b"P6\n" + b"#\n" * MANY + written("PPM")[3:],
    "tags": tiff,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_file_of_very_many_parts_is_refused(name: str) -> None:
    data = BOMBS[name]()
    with pytest.raises(TooManyParts, match=rf"more than \d+ \w+ in a file of {len(data)} bytes"):
        check_structure(data)
    with pytest.raises(BadImage, match="more than"):
        decode(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
@pytest.mark.parametrize("side", [1, 16, 700])
def test_real_files_pass(kind: str, side: int) -> None:
    data = written(kind, side)
    check_structure(data)
    assert decode(data).size == (side, side)


def test_pieces_and_texts_as_programs_write_them_pass() -> None:
    texts = PngImagePlugin.PngInfo()
    for number in range(MOST // 2):
        texts.add_text(f"key {number}", "value", zip=number % 2 == 0)
    check_structure(written("PNG", 600, pnginfo=texts, compress_level=0))
    check_structure(written("JPEG", 600, progressive=True, comment=b"a" * 60_000, exif=bytes(60_000)))
    assert len(written("JPEG", 600, restart_marker_blocks=1)) > 100_000
    check_structure(written("JPEG", 600, restart_marker_blocks=1))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "PPM"])
def test_cut_files_are_left_to_their_decoder(kind: str) -> None:
    whole = written(kind)
    for length in range(min(len(whole), 200)):
        check_structure(whole[:length])
