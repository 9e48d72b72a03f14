"""Framing: bring every image to one size and one set of channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Channels = Literal["RGB", "RGBA", "L"]
Crop = Literal["center", "random", "pad"]

MAX_ASPECT = 16  # largest aspect ratio that a random crop moves in; a longer strip is first cut around its middle


MAX_SIDE = 8192
"""Largest side of a frame, in pixels."""


@dataclass(frozen=True)
class Frame:
    """How every image is brought to one size.

    Args:
        size: the side, or (height, width), in pixels.
        channels: "RGB", "RGBA" (premultiplied) or "L".
        flip: mirror left and right in half of the draws.
        crop: "center" and "random" cover the frame and cut off the rest; "pad" shows the whole image and fills the
            margins with the background (RGBA: transparent).
        background: the RGB colour, 0 … 255, behind transparency if `channels` has no alpha.

    Raises:
        ValueError: a value is outside these ranges.
    """

    size: int | tuple[int, int]
    channels: Channels = "RGB"
    flip: bool = False
    crop: Crop = "center"
    background: tuple[int, int, int] = (255, 255, 255)

    def __post_init__(self) -> None:
        if not all(1 <= side <= MAX_SIDE for side in (self.height, self.width)):
            raise ValueError(f"size must be between 1 and {MAX_SIDE} pixels, got {self.size}")
        if self.channels not in get_args(Channels):
            raise ValueError(f"channels must be one of {', '.join(get_args(Channels))}, got {self.channels!r}")
        if self.crop not in get_args(Crop):
            raise ValueError(f"crop must be one of {', '.join(get_args(Crop))}, got {self.crop!r}")
        if len(self.background) != 3 or any(not 0 <= value <= 255 for value in self.background):
            raise ValueError(f"background must be three numbers between 0 and 255, got {self.background}")

    @property
    def height(self) -> int:
        return self.size if isinstance(self.size, int) else self.size[0]

    @property
    def width(self) -> int:
        return self.size if isinstance(self.size, int) else self.size[1]

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (c, h, w) of the arrays that `draw` returns."""
        return (len(self.channels), self.height, self.width)

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """The deterministic part: an RGB or RGBA image to uint8 [h', w', c], at least as large as the frame."""
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
        """The box of a width × height image that is used, and the (width, height) that it is resized to."""
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
        if channels == 3 and self.channels == "RGBA":  # the margin is transparent even around an opaque image
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
        colour = np.minimum(pixels[..., :3], alpha)  # resampling may overshoot the range of premultiplied colour
        if self.channels == "RGBA":
            return np.concatenate([colour, alpha], axis=2)
        behind = (255 - alpha.astype(np.uint16)) * np.array(self.background, dtype=np.uint16)
        flat = (colour + (behind + 127) // 255).clip(0, 255).astype(np.uint8)
        if self.channels == "RGB":
            return flat
        return np.asarray(Image.fromarray(flat).convert("L"))[..., None]
