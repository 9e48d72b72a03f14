"""Write an image with the record of how it was made as PNG, JPEG or WebP, and read the record back."""

import hashlib
import io
import os
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO

from PIL import Image, ImageColor, ImageFile, ImageOps, PngImagePlugin

from fewstep.pictures import a1111, xmp
from fewstep.pictures.files import write_whole
from fewstep.pictures.plain import ProvenanceError
from fewstep.pictures.record import Record

_FORMATS = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP"}
_OPAQUE_MODES = {"PNG": ("1", "L", "P", "RGB", "I;16"), "JPEG": ("L", "RGB"), "WEBP": ("RGB",)}
_CHUNK = "fewstep"
_XMP_CHUNK = "XML:com.adobe.xmp"
_OURS = ("pnginfo", "exif", "xmp", "extra", "comment")
# Pillow's defaults halve the colour resolution of a JPEG, which is visible in small images.
_DEFAULTS: Mapping[str, Mapping[str, object]] = {
    "PNG": {},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True, "exact": True, "method": 0},  # a tenth larger than by slow methods, as fast as PNG
}


def save(
    image: Image.Image,
    target: str | os.PathLike[str] | IO[bytes],
    record: Record | None = None,
    format: str | None = None,
    *,
    background: str = "white",
    **options: object,
) -> None:
    """Write `image` and its `record` to a path, all of it or nothing, or to a binary file object.

    Unless given, the format is that of the suffix of the path or of the open file's name; the other arguments are
    those of `encode`. Raises OSError if the path cannot be written; an existing file is then left unchanged.
    """
    if isinstance(target, str | os.PathLike):
        path = Path(target)
        data = encode(image, format or _suffix(path), record, background=background, **options)
        write_whole(path, data, "the image")
        return
    target.write(encode(image, format or _named(target), record, background=background, **options))


def encode(
    image: Image.Image,
    format: str,
    record: Record | None = None,
    *,
    background: str = "white",
    **options: object,
) -> bytes:
    """The bytes of `image` in `format` (png, jpeg or webp), with `record` in them or no metadata at all.

    JPEG has no transparency: the image is placed on `background`, a colour such as 'white' or '#ffcc00', which the
    record then names.
    WebP is lossless unless a `quality` is given.
    `options` go to Pillow's encoder (quality, lossless, compress_level, …). Nothing from `image.info` is
    written, not even a colour profile: pass `icc_profile` to keep one.
    """
    kind = _kind(format)
    if taken := [name for name in _OURS if name in options]:
        raise ProvenanceError(f"{', '.join(taken)} must not be given: the record decides the metadata")
    if kind == "JPEG" and record is not None and record.background == "transparent":
        record = replace(record, background=background)  # what the file shows
    metadata = {} if record is None else _metadata(kind, record)
    defaults = {} if kind == "WEBP" and "quality" in options else _DEFAULTS[kind]
    buffer = io.BytesIO()
    # Pillow's own method, since the `save` of a derived class may call this very function
    Image.Image.save(_prepared(image, kind, background), buffer, kind, **{**defaults, **options, **metadata})
    return buffer.getvalue()


def read_record(source: str | os.PathLike[str] | IO[bytes] | bytes | bytearray | memoryview) -> Record | None:
    """The record in a PNG, JPEG or WebP image, given as a path, a binary file object or bytes.

    Returns None if the image has none. Raises ProvenanceError if the record cannot be read, or if `source` is not
    such an image, and OSError if the path cannot be opened.
    """
    where = str(source) if isinstance(source, str | os.PathLike) else "the image"
    try:
        file = io.BytesIO(source) if isinstance(source, bytes | bytearray | memoryview) else source
        with Image.open(file, formats=("PNG", "JPEG", "WEBP")) as image:
            found = _found(image)
        return None if found is None else Record.from_json(found)
    except ProvenanceError as error:
        raise ProvenanceError(f"{where}: {error}") from error
    except (ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise ProvenanceError(f"{where} is a damaged image: {error}") from error
    except OSError as error:
        if error.errno is not None:  # from the file system; Pillow's own errors have no number
            raise
        raise ProvenanceError(f"{where} is not a whole PNG, JPEG or WebP image: {error}") from error


def image_hash(image: Image.Image) -> str:
    """The hash of the pixels and size of `image`, whatever its file: it identifies a parent without a record."""
    pixels = image.convert("RGBA")
    content = f"{pixels.width}x{pixels.height};".encode() + pixels.tobytes()
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _kind(format: str) -> str:
    try:
        return _FORMATS[format.lower().removeprefix(".")]
    except KeyError:
        raise ProvenanceError(f"format must be png, jpeg or webp, got {format!r}") from None


def _suffix(path: Path) -> str:
    if path.suffix.lower().removeprefix(".") not in _FORMATS:
        raise ProvenanceError(f"the file name must end in .png, .jpg, .jpeg or .webp, got {path.name!r}")
    return path.suffix


def _named(file: IO[bytes]) -> str:
    """The suffix of an open file's name, which gives its format, as in Pillow."""
    name = getattr(file, "name", None)  # a number for a file opened by its descriptor
    suffix = Path(os.fsdecode(name)).suffix if isinstance(name, str | bytes | os.PathLike) else ""
    if suffix.lower().removeprefix(".") not in _FORMATS:
        raise ProvenanceError("format must be given to write to a file object without such a name: png, jpeg or webp")
    return suffix


def _metadata(kind: str, record: Record) -> dict[str, object]:
    """The encoder options that carry the record."""
    if kind == "PNG":
        chunks = PngImagePlugin.PngInfo()
        chunks.add_text("parameters", a1111.parameters(record))  # becomes iTXt if Latin-1 is not enough
        chunks.add_text(_CHUNK, record.to_json())
        chunks.add_itxt(_XMP_CHUNK, xmp.packet(record, full=False).decode())
        return {"pnginfo": chunks}
    if kind == "JPEG":
        return {"exif": a1111.exif(record), "extra": xmp.jpeg_segments(record)}
    return {"exif": a1111.exif(record), "xmp": xmp.packet(record, full=True)}


def _prepared(image: Image.Image, kind: str, background: str) -> Image.Image:
    """A copy that is upright, in a mode that the format supports, and without the metadata that it was read with."""
    plain = ImageOps.exif_transpose(image)
    if plain.has_transparency_data:
        plain = plain.convert("RGBA")
        if kind == "JPEG":
            plain = Image.alpha_composite(_sheet(plain.size, background), plain).convert("RGB")
    elif plain.mode not in _OPAQUE_MODES[kind]:
        plain = plain.convert("RGB")
    plain.info = {}
    return plain


def _sheet(size: tuple[int, int], background: str) -> Image.Image:
    try:
        red, green, blue = ImageColor.getrgb(background)[:3]
    except ValueError:
        raise ProvenanceError(
            f"background must be a colour such as 'white' or '#ffcc00' to flatten onto, got {background!r}"
        ) from None
    return Image.new("RGBA", size, (red, green, blue, 255))


def _found(image: Image.Image) -> str | None:
    """The record's JSON, from its place in this format."""
    if image.format == "PNG":
        if _CHUNK not in image.info and _follows(image):
            image.load()  # other tools move text after the pixels
        found = image.info.get(_CHUNK)
        return found if isinstance(found, str) else None
    if image.format == "WEBP":
        packet = image.info.get("xmp")
        return xmp.record_in_packet(packet) if isinstance(packet, bytes) else None
    return xmp.record_in_segments(data for marker, data in getattr(image, "applist", ()) if marker == "APP1")


def _follows(image: Image.Image) -> bool:
    """Whether the rest of a PNG file contains the name of our chunk; only then are its pixels worth decoding."""
    assert isinstance(image, ImageFile.ImageFile)
    assert image.fp is not None  # it was just opened
    place = image.fp.tell()
    named = _CHUNK.encode() in image.fp.read()
    image.fp.seek(place)
    return named
