"""Editing one image: what may change, how much, and how the answer is laid back onto it.

`fewstep.editing` does the mathematics; this is pictures: any size and mode in, known pixels out to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from fewstep.generation.errors import RequestError
from fewstep.generation.images import from_image, to_pixels
from fewstep.models.saved import ModelSpec

OPAQUE = 128
"""From this alpha of a mask, or below this grey of one that is opaque, a pixel is kept."""

MAX_FIT = 8

MOST_BEYOND = 2.0
"""How far outpainting goes beyond a border, in shares of the image."""

MOST_SIDE = 8192
"""Pixels of a side of an image with its margins."""


@dataclass(frozen=True)
class Edit:
    """An image to go out from, instead of from noise alone.

    Args:
        image: Pillow's, of any size and mode. A model of another shape sees all of it, with a margin.
        mask: which pixels may change, of the image's size: the transparent ones (as OpenAI's API has it), or, of a
            mask that is transparent nowhere, the white ones. The others come back unchanged. None: all may change.
        strength: how much is left open, above 0 to 1: the image is noised so far along the way to pure noise. None:
            1 with a mask (what stood there is not looked at), 0.5 without.
        fit: how often the noise is corrected before each jump, so that what is drawn fits what the mask keeps: 0 to
            8, two evaluations of the network each. None: with the sampler `consistency`, all noise fresh and a start
            from noise alone 4 for outpainting and 1 where nothing else says what to draw (no prompt and no label);
            else 0.
        inner: of outpainting, the image without its margins, which the record names (`Edit.beyond`).
    """

    image: Image.Image
    mask: Image.Image | None = None
    strength: float | None = None
    fit: int | None = None
    inner: Image.Image | None = None

    def __post_init__(self) -> None:
        for name, value in (("image", self.image), ("mask", self.mask)):
            if not isinstance(value, Image.Image) and (value is not None or name == "image"):
                raise RequestError(name, f"{name} must be a Pillow image, got a {type(value).__name__}")
        if self.mask is not None and self.mask.size != self.image.size:
            (w, h), (width, height) = self.mask.size, self.image.size
            raise RequestError("mask", f"mask must have the image's size {width}x{height}, got {w}x{h}")
        if self.mask is not None and self._open.getbbox() is None:
            raise RequestError("mask", "mask leaves nothing open: what may change must be transparent, or white")
        strength = self.strength
        if strength is not None and (isinstance(strength, bool) or not 0 < strength <= 1):
            raise RequestError("strength", f"strength must be above 0 and at most 1, got {strength}")
        fit = self.fit
        if fit is not None and (isinstance(fit, bool) or not isinstance(fit, int) or not 0 <= fit <= MAX_FIT):
            raise RequestError("fit", f"fit must be a whole number between 0 and {MAX_FIT}, got {fit}")
        if fit and self.mask is None:
            raise RequestError("fit", "fit needs a mask: without one nothing is kept that could be fitted")

    @classmethod
    def beyond(
        cls,
        image: Image.Image,
        *,
        left: float = 0.0,
        top: float = 0.0,
        right: float = 0.0,
        bottom: float = 0.0,
        fit: int | None = None,
    ) -> Edit:
        """Outpainting: what lies beyond an image's borders may be drawn, the image is kept.

        Args:
            image: Pillow's, of any size and mode.
            left, top, right, bottom: how far beyond, in shares of the image's width or height, 0 to 2.
            fit: as above.

        Raises:
            RequestError: a share is out of range, or all are 0.
        """
        shares = {"left": left, "top": top, "right": right, "bottom": bottom}
        for name, share in shares.items():
            if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= MOST_BEYOND:
                raise RequestError(name, f"{name} must be between 0 and {MOST_BEYOND:g}, got {share}")
        if not isinstance(image, Image.Image):
            raise RequestError("image", f"image must be a Pillow image, got a {type(image).__name__}")
        width, height = image.size
        at = round(left * width), round(top * height)
        size = at[0] + width + round(right * width), at[1] + height + round(bottom * height)
        if size == image.size:
            raise RequestError(
                "left", "left, top, right and bottom leave nothing to draw: one must be a pixel or more"
            )
        if max(size) > MOST_SIDE:
            raise RequestError(
                "image", f"image with its margins must have sides of at most {MOST_SIDE}, got {size[0]}x{size[1]}"
            )
        canvas, mask = Image.new("RGBA", size), Image.new("L", size, "white")
        canvas.paste(image.convert("RGBA"), at)
        mask.paste("black", (*at, at[0] + width, at[1] + height))
        return cls(canvas, mask, fit=fit, inner=image)

    def chosen_fit(self, sampler: str, gamma: float | None, is_told: bool) -> int:
        """`fit`, or what it is if left open.

        Args:
            sampler, gamma: of the request. Only where all noise is fresh do jumps go on from the estimate alone: kept
                noise would be that from before the correction.
            is_told: whether a prompt or label says what to draw.

        Raises:
            RequestError: corrections where they cannot be.
        """
        can_fit = sampler == "consistency" and gamma == 1
        if self.fit and not can_fit:
            with_gamma = "" if gamma is None else f" with gamma {gamma:g}"
            raise RequestError(
                "fit", f"fit needs the sampler 'consistency' with gamma 1, got '{sampler}'{with_gamma}"
            )
        if self.fit is not None:
            return self.fit
        if self.mask is None or self.chosen_strength < 1 or not can_fit:
            return 0
        return 4 if self.inner is not None else int(not is_told)

    @property
    def name(self) -> str:
        """What the record calls it."""
        if self.inner is not None:
            return "outpaint"
        return "inpaint" if self.mask is not None else "restart"

    @property
    def chosen_strength(self) -> float:
        """`strength`, or what it is if left open."""
        return float(self.strength if self.strength is not None else 1.0 if self.mask is not None else 0.5)

    def data(self, spec: ModelSpec) -> Any:
        """The image as a model's data, float32 [1, ...].

        Without a mask a drawing on paper loses its paper, as a control image does; with one it stays as it is.
        """
        pixels = (from_image if self.mask is None else to_pixels)(self.image, spec.pixels, spec.pixel_format)
        return spec.conditioning.codec.encode(pixels[None])

    def free(self, spec: ModelSpec) -> Any | None:
        """Ω in the model's data, float32 [1, ...]: 1 where any pixel beneath may change; None without a mask."""
        if self.mask is None:
            return None
        _, height, width = spec.pixels
        left, top, right, bottom = fitted(self.image.size, (width, height))
        cells = np.zeros((height, width), dtype=np.float32)
        shrunk = self._open.resize((right - left, bottom - top), Image.Resampling.BOX)
        cells[top:bottom, left:right] = np.asarray(shrunk) > 0
        pixels = np.broadcast_to(cells, (1, *spec.pixels))
        return spec.conditioning.codec.mask(pixels)

    @cached_property
    def _open(self) -> Image.Image:
        """255 where a pixel may change, 0 elsewhere."""
        assert self.mask is not None
        alpha = self.mask.convert("RGBA").getchannel("A")
        if np.asarray(alpha).min() < OPAQUE:
            return alpha.point(lambda value: 255 * (value < OPAQUE))
        return self.mask.convert("L").point(lambda grey: 255 * (grey >= OPAQUE))

    @property
    def own_size(self) -> tuple[int, int] | None:
        """The answer's (width, height) where it is left open: the image's own where some of it is kept, else None."""
        return None if self.mask is None else self.image.size

    @property
    def layout(self) -> Layout:
        """What is needed of the pictures when the model's is there."""
        if self.mask is None:
            return Layout(self.image.size)
        return Layout(self.image.size, self.image, self._open)


@dataclass(frozen=True)
class Layout:
    """How the model's picture is laid back onto an edited image.

    Args:
        shape: the image's (width, height).
        image: of which the closed pixels are kept; None keeps nothing.
        free: 255 where a pixel may change, 0 elsewhere, of the image's size; None without an image.
    """

    shape: tuple[int, int]
    image: Image.Image | None = None
    free: Image.Image | None = None

    def laid_back(self, drawn: Image.Image, size: tuple[int, int]) -> Image.Image:
        """The model's picture at `size`, what the mask keeps taken from the image, exactly at the image's own size.

        At the model's own size the margin stays; at any other it is cut off.
        """
        native = drawn.size
        if size != native:
            drawn = drawn.resize(size, Image.Resampling.LANCZOS, box=fitted(self.shape, native))
        if self.image is None or self.free is None:
            return drawn
        place = fitted(self.shape, size) if size == native else (0, 0, *size)
        within = (place[2] - place[0], place[3] - place[1])
        kept, free = self.image.convert(drawn.mode), self.free
        if within != self.shape:
            kept = kept.resize(within, Image.Resampling.LANCZOS)
            free = free.resize(within, Image.Resampling.BOX).point(lambda share: 255 * (share > 0))
        whole = drawn.copy()
        whole.paste(Image.composite(drawn.crop(place), kept, free), place[:2])
        return whole


def fitted(size: tuple[int, int], frame: tuple[int, int]) -> tuple[int, int, int, int]:
    """Where all of an image of `size` stands in a frame, as a box: left, top, right, bottom."""
    scale = min(frame[0] / size[0], frame[1] / size[1])
    width, height = (max(1, round(side * scale)) for side in size)
    left, top = (frame[0] - width) // 2, (frame[1] - height) // 2
    return left, top, left + width, top + height
