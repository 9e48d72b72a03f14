"""Pictures that clients send, as bytes or data URLs: decoded by Pillow alone, from an allow-list of formats."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import re
from typing import Any

from PIL import Image

from fewstep.data.images import BadImage, decode
from fewstep.generation.images import with_record
from fewstep.serving.errors import ApiError
from fewstep.serving.fetching import SECONDS, fetch
from fewstep.serving.settings import ServeSettings

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
_DATA_URL = re.compile(r"data:(?:image/[\w.+-]+)?;base64,", re.IGNORECASE)


def picture(data: bytes, param: str, most_pixels: int) -> Image.Image:
    """An upload as an upright RGB or RGBA picture, with its record if it has one.

    Raises:
        ApiError: 400 with `param`: it is none, or too large.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
            width, height = opened.size
    except Exception:
        width = height = 0  # `decode` says why
    if width * height > most_pixels:
        raise ApiError(400, f"{param} must have at most {most_pixels} pixels, got {width}x{height}", param)
    try:
        return with_record(decode(data), data)
    except BadImage as error:
        raise ApiError(400, f"{param} is no image that can be read: {error}", param, "invalid_image") from None


async def from_url(url: Any, param: str, settings: ServeSettings) -> bytes:
    """The file that a URL stands for: in a data URL, or, where the settings allow it, fetched.

    Raises:
        ApiError: 400: the URL is none, may not be fetched, or gives no file.
    """
    if not isinstance(url, str):
        raise ApiError(400, f"{param} must be a URL, got {url!r:.80}", param, "invalid_url")
    prefix = _DATA_URL.match(url)
    if prefix is None and url[:5].lower() != "data:" and settings.fetch_images:
        try:
            async with asyncio.timeout(
                SECONDS + 1
            ):  # `fetch` looks at the time between reads, and a read can be slow
                return await asyncio.to_thread(fetch, url, param, settings.most_bytes)
        except TimeoutError:
            slow = f"{param} took more than {SECONDS:g} seconds to fetch"
            raise ApiError(400, slow, param, "invalid_url") from None
    if prefix is None:
        why = "" if settings.fetch_images else "; this server fetches no URLs"
        raise ApiError(400, f"{param} must be a data URL (data:image/png;base64,…){why}", param, "invalid_url")
    try:
        return base64.b64decode(url[prefix.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(400, f"{param} holds no valid base64", param, "invalid_url") from None
