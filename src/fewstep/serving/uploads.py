"""Pictures that clients send, as bytes or data URLs: decoded by Pillow alone, from an allow-list of formats."""

from __future__ import annotations

import base64
import binascii
import io
import re

from PIL import Image

from fewstep.data.images import BadImage, decode
from fewstep.serving.errors import ApiError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
_DATA_URL = re.compile(r"data:(?:image/[\w.+-]+)?;base64,", re.IGNORECASE)


def picture(data: bytes, param: str, most_pixels: int) -> Image.Image:
    """An upload as an upright RGB or RGBA picture.

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
        return decode(data)
    except BadImage as error:
        raise ApiError(400, f"{param} is no image that can be read: {error}", param, "invalid_image") from None


def from_data_url(url: str, param: str, most_pixels: int) -> Image.Image:
    """The picture in a data URL.

    Raises:
        ApiError: 400: it is no base64 data URL, or no picture.
    """
    prefix = _DATA_URL.match(url)
    if prefix is None:
        raise ApiError(400, f"{param} must be a data URL (data:image/png;base64,…)", param)
    try:
        data = base64.b64decode(url[prefix.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(400, f"{param} holds no valid base64", param) from None
    return picture(data, param, most_pixels)
