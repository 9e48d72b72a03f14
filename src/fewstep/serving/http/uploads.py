"""Pictures that clients send, as bytes or data URLs: decoded by Pillow alone, from an allow-list of formats."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from fewstep.pictures.decode import BadImage, decode
from fewstep.pictures.generated import with_record
from fewstep.serving.http.errors import ApiError, busy
from fewstep.serving.http.fetching import SECONDS, fetch
from fewstep.serving.settings import ServeSettings

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
_FETCHERS = ThreadPoolExecutor(8, "fewstep-fetch")
"""Slow sites hold up each other alone."""


class Pictures:
    """Decodes pictures, and bounds how many pixels of them are in memory at a time.

    Args:
        most_each: pixels of one.
        most: pixels of all that live; one alone is taken in any case.
    """

    def __init__(self, most_each: int, most: int) -> None:
        self._most_each, self._most, self._held = most_each, most, 0
        self._lock = threading.RLock()  # a picture may go, and call `_give`, at any moment, in `_take` too

    @property
    def held(self) -> int:
        """Pixels in memory."""
        return self._held

    def open(self, source: bytes | str, param: str) -> Image.Image:
        """A file, or the one in a data URL, as an upright RGB or RGBA picture, with its record if it has one.

        Raises:
            ApiError: 400 with `param`: it is none, or too large; 429: too many pixels are in memory already.
        """
        data = _in_data_url(source, param) if isinstance(source, str) else source
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
                width, height = opened.size
        except Exception:
            width = height = 0  # `decode` says why
        try:
            return self._kept((width, height), param, lambda: with_record(decode(data), data))
        except BadImage as error:
            raise ApiError(400, f"{param} is no image that can be read: {error}", param, "invalid_image") from None

    def raw(self, pixels: bytes | memoryview, size: tuple[int, int], param: str) -> Image.Image:
        """A picture of straight RGBA, row by row, 4 bytes a pixel.

        Raises:
            ApiError: 400 with `param`: it is too large; 429: too many pixels are in memory already.
        """
        return self._kept(size, param, lambda: Image.frombytes("RGBA", size, pixels))

    def _kept(self, size: tuple[int, int], param: str, made: Callable[[], Image.Image]) -> Image.Image:
        """A picture whose pixels count for as long as it lives."""
        width, height = size
        pixels = width * height
        if pixels > self._most_each:
            raise ApiError(400, f"{param} must have at most {self._most_each} pixels, got {width}x{height}", param)
        self._take(pixels)
        try:
            picture = made()
        except BaseException:
            self._give(pixels)
            raise
        weakref.finalize(picture, self._give, pixels)
        return picture

    def _take(self, pixels: int) -> None:
        with self._lock:
            if self._held and self._held + pixels > self._most:
                raise busy("the images of other requests take all the room there is: try again in 1 s", 1.0)
            self._held += pixels

    def _give(self, pixels: int) -> None:
        with self._lock:
            self._held -= pixels


async def named(url: str, param: str, settings: ServeSettings) -> bytes | str:
    """What a URL stands for: a data URL itself, or, where the settings allow it, the file behind it.

    Raises:
        ApiError: 400: the URL may not be fetched, or gives no file.
    """
    if url[:5].lower() == "data:":
        return url
    if not settings.fetch_images:
        wanted = f"{param} must be a data URL (data:image/png;base64,…); this server fetches no URLs"
        raise ApiError(400, wanted, param, "invalid_url")
    try:
        async with asyncio.timeout(SECONDS + 1):  # looking a name up can take longer than `fetch` would
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(_FETCHERS, fetch, url, param, settings.max_body_bytes)
    except TimeoutError:
        slow = f"{param} took more than {SECONDS:g} seconds to fetch"
        raise ApiError(400, slow, param, "invalid_url") from None


def _in_data_url(url: str, param: str) -> bytes:
    """The file in a data URL."""
    head, comma, text = url.partition(",")
    kind, *options = head[5:].lower().split(";")
    if not comma or "base64" not in options:
        said = f"{param} must be a data URL in base64 (data:image/png;base64,…), got {url[:60]!r}"
        raise ApiError(400, said, param, "invalid_url")
    if kind and not kind.startswith("image/"):
        raise ApiError(400, f"{param} must be a data URL of an image, got {kind[:60]!r}", param, "invalid_url")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(400, f"{param} holds no valid base64", param, "invalid_url") from None
