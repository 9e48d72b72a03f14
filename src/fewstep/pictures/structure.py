"""A look at an image file's structure before it is decoded: decoders spend a fixed time on each of its parts, however
empty, so that a small file of many parts keeps them busy for seconds."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator

MOST = 2000
"""Most parts of a file, besides one for each kilobyte: encoders write pixels in pieces of some kilobytes."""

BYTES_PER_PART = 1024


class TooManyParts(ValueError):
    """A file has so many parts that reading it would take long."""


def check_structure(data: bytes) -> None:
    """Refuse a file of too many parts; a file of another format, or a broken one, is left to its decoder.

    Raises:
        TooManyParts: the message says of which.
    """
    for name, starts, parts in _KINDS:
        if data.startswith(starts):
            most = MOST + len(data) // BYTES_PER_PART
            for count, _ in enumerate(parts(data)):
                if count >= most:
                    raise TooManyParts(f"more than {most} {name} in a file of {len(data)} bytes")
            return


def _png_chunks(data: bytes) -> Iterator[int]:
    """Where each chunk of a PNG begins."""
    at = 8
    while at + 8 <= len(data):
        yield at
        at += 12 + int(struct.unpack_from(">I", data, at)[0])


_FILL = re.compile(rb"\xff+")
_ALONE = frozenset([0x01, *range(0xD0, 0xD9)])  # markers without a length
_SCAN = 0xDA


def _jpeg_markers(data: bytes) -> Iterator[int]:
    """Where each marker of a JPEG before its pixels begins, and each byte that fills up before one."""
    at = 2
    while at + 4 <= len(data):
        found = _FILL.match(data, at)
        if found is None:  # not a marker: a decoder looks for one byte by byte
            yield at
            at += 1
            continue
        yield from range(at, found.end())
        if found.end() + 3 > len(data) or data[found.end()] == _SCAN:
            return
        kind, at = data[found.end()], found.end() + 1
        if kind not in _ALONE:
            at += int(struct.unpack_from(">H", data, at)[0])


_IMAGE, _EXTENSION = 0x2C, 0x21


def _gif_blocks(data: bytes) -> Iterator[int]:
    """Where each block of a GIF before its first picture begins."""
    if len(data) < 13:
        return
    at = 13 + (3 * 2 ** ((data[10] & 7) + 1) if data[10] & 0x80 else 0)
    while at + 2 < len(data) and data[at] != _IMAGE:
        yield at
        if data[at] != _EXTENSION:  # not a block: a decoder looks for one byte by byte
            at += 1
            continue
        at += 2
        while at < len(data) and data[at] != 0:
            yield at
            at += 1 + data[at]
        at += 1


def _ppm_comments(data: bytes) -> Iterator[int]:
    """Where each comment in the head of a PPM begins."""
    at = data.find(b"#", 0, 200)
    while at >= 0:
        yield at
        end = data.find(b"\n", at)
        at = data.find(b"#", end, end + 100) if end >= 0 else -1


def _tiff_tags(data: bytes) -> Iterator[int]:
    """The places of the tags of a TIFF's first picture."""
    order = "<" if data[:2] == b"II" else ">"
    if len(data) < 8:
        return
    (at,) = struct.unpack_from(f"{order}I", data, 4)
    if at + 2 <= len(data):
        yield from range(struct.unpack_from(f"{order}H", data, at)[0])


_KINDS: tuple[tuple[str, bytes | tuple[bytes, ...], Callable[[bytes], Iterator[int]]], ...] = (
    ("chunks", b"\x89PNG\r\n\x1a\n", _png_chunks),
    ("markers", b"\xff\xd8", _jpeg_markers),
    ("blocks", (b"GIF87a", b"GIF89a"), _gif_blocks),
    ("comments", tuple(f"P{kind}".encode() for kind in "1234567Ff"), _ppm_comments),
    ("tags", (b"II*\0", b"MM\0*"), _tiff_tags),
)
