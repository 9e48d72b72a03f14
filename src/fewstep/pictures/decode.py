"""From an image file to a Pillow image: decoding that trusts no file.

Orientation, colour profile, bit depth and transparency are handled here, in the same way for every source of images.
"""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from fewstep.pictures.structure import TooManyParts, check_structure

# The formats that a file may have, whatever its name: none that runs an interpreter (EPS), and no obscure ones.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
SUFFIXES = frozenset(
    [
        ".png",
        ".apng",
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".webp",
        ".gif",
        ".bmp",
        ".dib",
        ".tif",
        ".tiff",
        ".avif",
        ".ppm",
        ".pgm",
        ".pbm",
    ]
)
# Picture formats that are not supported: for a folder that contains them, a message says so.
OTHER_SUFFIXES = frozenset(
    [
        ".heic",
        ".heif",
        ".jxl",
        ".jp2",
        ".j2k",
        ".svg",
        ".psd",
        ".eps",
        ".ico",
        ".icns",
        ".tga",
        ".dds",
        ".exr",
        ".hdr",
        ".dng",
        ".cr2",
        ".cr3",
        ".nef",
        ".arw",
        ".raf",
    ]
)

MAX_PIXELS = 89_478_485  # a quarter of a gigabyte of 24-bit pixels, Pillow's own limit for decompression bombs
MAX_BYTES = 2**28  # size of one file held in memory

_USUAL_PROFILE = 65_536  # largest size, in bytes, of a colour profile that is cached for the next image
_ORIENTATION = 0x0112  # the EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BadImage(ValueError):
    """One image that cannot be read; the message is the reason, without the file's name."""


def decode(source: bytes | Path, reach: int | None = None) -> Image.Image:
    """The upright first frame of an image file as sRGB, mode RGB or RGBA.

    Args:
        source: the file's bytes or its path.
        reach: the final size in pixels; a JPEG may be decoded at a fraction of its size, but not below twice this.

    Raises:
        BadImage: the file is missing, broken, too large or not in an accepted format.
    """
    try:
        if (len(source) if isinstance(source, bytes) else source.stat().st_size) == 0:
            raise BadImage("the file is empty")
        if isinstance(source, bytes):
            check_structure(source)
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BadImage(f"{image.width} × {image.height} pixels, more than the {MAX_PIXELS} allowed")
            if reach is not None:
                image.draft(None, (2 * reach, 2 * reach))
            image.load()
            turn = _turn(image)
            upright = _srgb(image)
            return upright if turn is None else upright.transpose(turn)
    except (BadImage, MemoryError):
        raise
    except TooManyParts as error:
        raise BadImage(str(error)) from error
    except UnidentifiedImageError as error:
        raise BadImage(
            f"not an image of an accepted format ({', '.join(FORMATS)}), or broken at its start"
        ) from error
    except FileNotFoundError as error:
        raise BadImage("the file is missing") from error
    except Image.DecompressionBombError as error:
        raise BadImage(f"too large: {error}") from error
    except Exception as error:  # on hostile files, decoders raise OSError, SyntaxError, struct.error, KeyError …
        raise BadImage(f"{type(error).__name__}: {error}") from error


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken EXIF does not make the picture unreadable
        return None


def _srgb(image: Image.Image) -> Image.Image:
    """An image of any mode as RGB or RGBA with 8 bits, converted through its colour profile if it has one."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        image = _eight_bits(image)
    elif image.mode in ("I", "F"):
        raise BadImage(f"{image.format} of 32 bits a pixel has no known range: save it with 8 or 16 bits")
    transparent = image.has_transparency_data
    if not profile or image.mode not in ("RGB", "RGBA", "CMYK"):
        return image.convert("RGBA" if transparent else "RGB")
    rgba = image.convert("RGBA") if transparent else None
    plain = image.convert("RGB") if rgba is not None else image
    try:
        transform = (_transform if len(profile) <= _USUAL_PROFILE else _transform.__wrapped__)(profile, plain.mode)
        converted = plain.convert("RGB") if transform is None else ImageCms.applyTransform(plain, transform)
    except (ImageCms.PyCMSError, OSError, ValueError, ImportError):
        converted = None  # a broken profile, or Pillow without littleCMS
    converted = plain.convert("RGB") if converted is None else converted
    if rgba is not None:
        converted.putalpha(rgba.getchannel("A"))
    return converted


def _eight_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.uint32)
    grey = Image.fromarray(((values.clip(0, 65535) + 128) // 257).astype(np.uint8))
    key = image.info.get("transparency")
    if isinstance(key, int):  # the one grey value that means transparent
        grey.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return grey


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> Any:
    """The transform from a file's colour profile to sRGB; None if it is sRGB already."""
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if mode == "RGB" and "sRGB" in ImageCms.getProfileDescription(opened):
        return None
    return ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB")
