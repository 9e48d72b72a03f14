"""From an image file to pixels: decoding that trusts no file, then framing to one size.

Orientation, colour profile, bit depth and transparency are settled here, for every source of images alike.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError

from fewstep.data.dataset import DataError

Channels = Literal["RGB", "RGBA", "L"]
Crop = Literal["center", "random", "pad"]

# What a file may be, whatever its name says: no format that runs an interpreter (EPS) or that few encoders test.
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
# Pictures to a person but not to us: a folder that holds them is told so.
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

MAX_PIXELS = 89_478_485  # a quarter of a gigabyte as 24-bit pixels, Pillow's own measure of a decompression bomb
MAX_BYTES = 2**28  # of one file held in memory
MAX_ASPECT = 16  # of what a random crop moves in; a longer strip is cut about its middle first

_USUAL_PROFILE = 65_536  # bytes of a colour profile that is kept for the next image
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


class BadImage(DataError):
    """One image that cannot be read; the message is the reason, without the file's name."""


@dataclass(frozen=True)
class Frame:
    """How every image is brought to one size.

    Args:
        size: the side, or (height, width), in pixels.
        channels: "RGB", "RGBA" (premultiplied) or "L".
        flip: mirror left and right in half of the draws.
        crop: "center" or "random" cover the frame and cut what is over; "pad" shows all of the image and fills
            the rest with the background (RGBA: transparent).
        background: the RGB colour, 0 … 255, behind transparency where `channels` has no alpha.

    Raises:
        DataError: a value outside of the above.
    """

    size: int | tuple[int, int]
    channels: Channels = "RGB"
    flip: bool = False
    crop: Crop = "center"
    background: tuple[int, int, int] = (255, 255, 255)

    def __post_init__(self) -> None:
        if any(side < 1 for side in (self.height, self.width)):
            raise DataError(f"size must be at least 1 pixel, got {self.size}")
        if self.channels not in get_args(Channels):
            raise DataError(f"channels must be one of {', '.join(get_args(Channels))}, got {self.channels!r}")
        if self.crop not in get_args(Crop):
            raise DataError(f"crop must be one of {', '.join(get_args(Crop))}, got {self.crop!r}")
        if len(self.background) != 3 or any(not 0 <= value <= 255 for value in self.background):
            raise DataError(f"background must be three numbers between 0 and 255, got {self.background}")

    @property
    def height(self) -> int:
        return self.size if isinstance(self.size, int) else self.size[0]

    @property
    def width(self) -> int:
        return self.size if isinstance(self.size, int) else self.size[1]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of what `draw` gives: (c, h, w)."""
        return (len(self.channels), self.height, self.width)

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """The part without chance: an RGB or RGBA image to uint8 [h', w', c], at least as large as the frame."""
        box, size = self._place(image.width, image.height)
        if image.mode == "RGBA":
            image = image.convert("RGBa")  # premultiplied: a transparent pixel's colour must not bleed
        image = image.resize(size, Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)
        pixels: NDArray[np.uint8] = np.asarray(image)
        if self.crop == "pad":
            pixels = self._padded(pixels)
        return np.ascontiguousarray(self._coloured(pixels))

    def draw(self, pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float32]:
        """Prepared pixels to an example's data, float32 [c, h, w] in [0, 1]; crop and flip are drawn from `rng`."""
        if self.crop == "random":
            top = int(rng.integers(pixels.shape[0] - self.height + 1))
            left = int(rng.integers(pixels.shape[1] - self.width + 1))
            pixels = pixels[top : top + self.height, left : left + self.width]
        if self.flip and rng.random() < 0.5:
            pixels = pixels[:, ::-1]
        return np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32) / np.float32(255)

    def _place(self, width: int, height: int) -> tuple[tuple[float, float, float, float], tuple[int, int]]:
        """Which box of a width × height image is used, and the (width, height) it is resized to."""
        if self.crop == "pad":
            scale = min(self.width / width, self.height / height)
            fitted = (max(1, round(width * scale)), max(1, round(height * scale)))
            return (0.0, 0.0, float(width), float(height)), fitted
        scale = max(self.width / width, self.height / height)
        room = MAX_ASPECT if self.crop == "random" else 1
        wide = min(max(self.width, round(width * scale)), self.width * room)
        high = min(max(self.height, round(height * scale)), self.height * room)
        used_w, used_h = min(float(width), wide / scale), min(float(height), high / scale)
        left, top = (width - used_w) / 2, (height - used_h) / 2
        return (left, top, left + used_w, top + used_h), (wide, high)

    def _padded(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        high, wide, channels = pixels.shape
        fill = np.array(self.background, dtype=np.uint8)
        if channels == 3 and self.channels == "RGBA":  # the margin is transparent even round an opaque image
            pixels = np.concatenate([pixels, np.full((high, wide, 1), 255, np.uint8)], axis=2)
        if pixels.shape[2] == 4:
            fill = np.zeros(4, dtype=np.uint8)
        padded = np.empty((self.height, self.width, pixels.shape[2]), dtype=np.uint8)
        padded[:] = fill
        top, left = (self.height - high) // 2, (self.width - wide) // 2
        padded[top : top + high, left : left + wide] = pixels
        return padded

    def _coloured(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """RGB or premultiplied RGBA [h, w, 3 | 4] to this frame's channels."""
        alpha = pixels[..., 3:] if pixels.shape[2] == 4 else np.full_like(pixels[..., :1], 255)
        colour = np.minimum(pixels[..., :3], alpha)  # resampling may overshoot what premultiplied colour allows
        if self.channels == "RGBA":
            return np.concatenate([colour, alpha], axis=2)
        behind = (255 - alpha.astype(np.uint16)) * np.array(self.background, dtype=np.uint16)
        flat = (colour + (behind + 127) // 255).clip(0, 255).astype(np.uint8)
        if self.channels == "RGB":
            return flat
        return np.asarray(Image.fromarray(flat).convert("L"))[..., None]


def decode(source: bytes | Path, reach: int | None = None) -> Image.Image:
    """The upright first frame of an image file as sRGB, mode RGB or RGBA.

    Args:
        source: the file's bytes or its path.
        reach: the size in pixels that is wanted in the end; a JPEG may be decoded at a fraction of its size, but
            not below twice this.

    Raises:
        BadImage: the file is missing, broken, too large or of no accepted format.
    """
    try:
        if (len(source) if isinstance(source, bytes) else source.stat().st_size) == 0:
            raise BadImage("the file is empty")
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
    except UnidentifiedImageError as error:
        raise BadImage(
            f"not an image of an accepted format ({', '.join(FORMATS)}), or broken at its start"
        ) from error
    except FileNotFoundError as error:
        raise BadImage("the file is missing") from error
    except Image.DecompressionBombError as error:
        raise BadImage(f"too large: {error}") from error
    except Exception as error:  # decoders of hostile files raise OSError, SyntaxError, struct.error, KeyError …
        raise BadImage(f"{type(error).__name__}: {error}") from error


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken EXIF does not make the picture unreadable
        return None


def _srgb(image: Image.Image) -> Image.Image:
    """Any mode a file may have to RGB or RGBA, 8 bits, through its colour profile where it has one."""
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
    if isinstance(key, int):  # one value of grey that means transparent
        grey.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return grey


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> Any:
    """From a file's colour profile to sRGB; None where it is sRGB already."""
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if mode == "RGB" and "sRGB" in ImageCms.getProfileDescription(opened):
        return None
    return ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB")
