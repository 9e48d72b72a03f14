"""Images that clients send: decoded only by Pillow, from an allow-list of formats, with a limit on pixels."""

from __future__ import annotations

import base64
import binascii
import io
import weakref
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

from PIL import Image

from fewstep.pictures.decode import BadImage, decode
from fewstep.pictures.generated import with_record
from fewstep.pictures.structure import check_structure
from fewstep.serving.engine.errors import InputError
from fewstep.serving.engine.room import Room

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")


class ImageDecoder:
    """Decodes images, and limits the number of pixels in memory at a time.

    Args:
        max_pixels: most pixels of one image.
        max_held_pixels: most pixels of all images in memory; a single image is always admitted.
    """

    def __init__(self, max_pixels: int, max_held_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._room = Room(max_held_pixels, "the images of other requests take up all the memory for images")

    @property
    def held(self) -> int:
        """Number of pixels in memory."""
        return self._room.held

    def open(self, source: bytes | str, field: str) -> Image.Image:
        """Decode a file or data URL to an upright RGB or RGBA image, with its record if it has one.

        Raises:
            InputError: it is not a readable image, or it is too large.
            Busy: too many pixels are already in memory.
        """
        data = in_data_url(source, field) if isinstance(source, str) else source
        try:
            check_structure(data)
            with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
                size = opened.size
        except Exception:
            size = (0, 0)  # `decode` says why
        try:
            return self._admitted(size, field, lambda: with_record(decode(data), data))
        except BadImage as error:
            raise InputError(field, f"{field} is not an image that can be read: {error}", "invalid_image") from None

    def from_pixels(self, pixels: bytes | memoryview, size: tuple[int, int], field: str) -> Image.Image:
        """An image from straight RGBA, row by row, 4 bytes per pixel.

        Raises:
            InputError: it is too large.
            Busy: too many pixels are already in memory.
        """
        return self._admitted(size, field, lambda: Image.frombytes("RGBA", size, pixels))

    def _admitted(self, size: tuple[int, int], field: str, make: Callable[[], Image.Image]) -> Image.Image:
        """An image whose pixels are counted until it is freed."""
        width, height = size
        pixels = width * height
        if pixels > self._max_pixels:
            wrong = f"{field} must have at most {self._max_pixels} pixels, got {width}x{height}"
            raise InputError(field, wrong, "too_large")
        self._room.take(pixels)
        try:
            image = make()
        except BaseException:
            self._room.give_back(pixels)
            raise
        weakref.finalize(image, self._room.give_back, pixels)
        return image


def as_data_url(text: str) -> str:
    """A file in base64 as a data URL; a data URL is left as it is."""
    return text if text.lstrip()[:5].lower() == "data:" else f"data:application/octet-stream;base64,{text}"


def in_data_url(url: str, field: str) -> bytes:
    """The file in a data URL: base64 in either alphabet, with or without padding and white space. Its media type does
    not matter, since the file shows what it is."""
    head, comma, text = url.partition(",")
    if not comma or "base64" not in map(str.strip, head.lower().split(";")):
        said = f"{field} must be a data URL in base64 (data:image/png;base64,…), got {url[:60]!r}"
        raise InputError(field, said, "invalid_url")
    try:
        encoded = text.encode("ascii")
        if b"%" in encoded:
            encoded = unquote_to_bytes(encoded)
        encoded = encoded.translate(_URL_SAFE, _WHITE_SPACE)
        return base64.b64decode(encoded + b"=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise InputError(field, f"{field} is not valid base64", "invalid_url") from None


_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_WHITE_SPACE = b" \t\r\n\f\v"
