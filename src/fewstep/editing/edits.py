"""Editing one image: what may change, how much, and how the result is merged with it.

The other modules of `fewstep.editing` do the mathematics; this one handles pictures of any size and mode, and returns
kept pixels bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from fewstep.editing import BlockMeans, Grey, Known, Measurement, Projected, level_of
from fewstep.editing.errors import RequestError
from fewstep.editing.fields import FIT, MARGINS, MASK, NOISE, STRENGTH, Choice, Field, Picture
from fewstep.editing.layouts import Averaged, Coloured, Layout, Plain, fitted
from fewstep.editing.masks import open_data, pixel_codec
from fewstep.editing.prepared import Prepared, StartImage
from fewstep.editing.projections import LUMA, block_means, enlarged
from fewstep.models.spec import ModelSpec
from fewstep.pictures.pixels import from_image, noise_of, to_pixels

OPAQUE = 128
"""A pixel is kept at this alpha of a mask or above, or below this grey value of an opaque mask."""

MAX_SIDE = 8192
"""Largest side of an image with its margins, in pixels."""

IMAGE = Picture(name="image", help="The image to edit.", operation="edit")


@dataclass(frozen=True)
class Edit:
    """An image to start from, instead of noise alone. Other edits are made by `Edit.beyond`, `.colorize`,
    `.super_resolve` and `.denoise`.

    Args:
        image: a Pillow image of any size and mode. A model with another aspect ratio sees all of it, with a margin.
        mask: which pixels may change, at the image's size: the transparent ones (as in OpenAI's API) or, in a mask
            without transparency, the white ones. The others are returned unchanged. None: all may change.
        strength: how much may change, above 0 to 1: how far towards pure noise the image is noised. None: 1 with a
            mask (what was there is ignored), 0.5 without.
        fit: number of noise corrections before each jump, so that the drawn part fits what the mask keeps: 0 to 8,
            at two network evaluations each. None: with the sampler `consistency`, fresh noise in every step and a
            start from pure noise, 4 for outpainting and 1 if nothing else says what to draw (no prompt and no
            label); else 0.

    Raises:
        RequestError: an argument is out of bounds, or the mask does not match the image.
    """

    image: Image.Image
    mask: Image.Image | None = None
    strength: float | None = None
    fit: int | None = None

    takes: ClassVar[tuple[Field, ...]] = (MASK, STRENGTH, FIT)
    """The options that a client may give for this edit."""

    steps: ClassVar[int | None] = None
    """Default number of steps, if not the model's."""

    def __post_init__(self) -> None:
        for taken in (IMAGE, *self.takes):
            value = getattr(self, taken.name)
            if value is not None or taken is IMAGE:
                object.__setattr__(self, taken.name, taken.check(value))
        if self.mask is not None and self.mask.size != self.image.size:
            (w, h), (width, height) = self.mask.size, self.image.size
            raise RequestError("mask", f"mask must have the image's size {width}x{height}, got {w}x{h}")
        if self.mask is not None and self._open.getbbox() is None:
            raise RequestError("mask", "mask must leave something to change: transparent or white pixels")
        if self.fit and not self.keeps:
            raise RequestError("fit", "fit needs a mask: without one, nothing is kept that the result could fit")

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
        """Outpainting: draw beyond the borders of an image, which is kept.

        Args:
            image: a Pillow image of any size and mode.
            left, top, right, bottom: how far to draw beyond each border, as a share of the width or height, 0 to 2.
            fit: as above.

        Raises:
            RequestError: a share is out of range, or all are 0.
        """
        given = {"left": left, "top": top, "right": right, "bottom": bottom}
        left, top, right, bottom = (side.check(given[side.name]) for side in MARGINS)
        IMAGE.check(image)
        width, height = image.size
        at = round(left * width), round(top * height)
        size = at[0] + width + round(right * width), at[1] + height + round(bottom * height)
        if size == image.size:
            raise RequestError(
                "left", "left, top, right and bottom leave nothing to draw: one must be at least a pixel"
            )
        if max(size) > MAX_SIDE:
            raise RequestError(
                "image", f"image with its margins must have sides of at most {MAX_SIDE}, got {size[0]}x{size[1]}"
            )
        canvas, mask = Image.new("RGBA", size), Image.new("L", size, "white")
        canvas.paste(image.convert("RGBA"), at)
        mask.paste("black", (*at, at[0] + width, at[1] + height))
        return OutpaintEdit(canvas, mask, fit=fit, inner=image)

    @classmethod
    def colorize(cls, image: Image.Image, *, strength: float | None = None, fit: int | None = None) -> Edit:
        """Colourise a grey image: every pixel keeps its grey and its transparency.

        Args:
            image: a Pillow image of any size and mode; a coloured one is converted to grey.
            strength, fit: as above. By default strength is 1, and fit is 4 without a prompt or label, else 0.

        Raises:
            RequestError: as above; on planning, if the model draws no colours.
        """
        return ColorizeEdit(image, strength=strength, fit=fit)

    @classmethod
    def super_resolve(cls, image: Image.Image, *, strength: float | None = None, fit: int | None = None) -> Edit:
        """Enlarge a small image to the model's size: the mean of each block of pixels is the image's pixel there.

        Args:
            image: a Pillow image of any mode, at most half as wide and high as the model's images.
            strength, fit: as above. By default strength is 1, and fit is 4 without a prompt or label, else 1.

        Raises:
            RequestError: as above; on planning, if the image is too large for the model.
        """
        return SuperResolveEdit(image, strength=strength, fit=fit)

    @classmethod
    def denoise(cls, image: Image.Image, *, noise: float | None = None) -> Edit:
        """Remove the noise from an image: sampling starts from it at its own noise level, with no noise added.

        Args:
            image: a Pillow image of any size and mode.
            noise: standard deviation of the noise at the model's size, for pixels in [0, 1]: above 0 to 1. None
                estimates it (`fewstep.pictures.pixels.noise_of`).

        Raises:
            RequestError: noise is out of range; on planning, if the estimate finds none.
        """
        return DenoiseEdit(image, noise=noise)

    @classmethod
    def named(cls, name: str | None, image: Image.Image, mask: Image.Image | None = None, **choices: Any) -> Edit:
        """The edit that a client requests by name.

        Args:
            name: "colorize", "super-resolve", "denoise", or None for `Edit` itself.
            image, mask: image and mask of the edit.
            choices: strength, fit, noise; None counts as left out.

        Raises:
            RequestError: there is no such edit, or it does not take an option.
        """
        kind = Edit if name is None else _BY_NAME[EDIT_NAME.check(name) or ""]
        given = {key: value for key, value in {"mask": mask, **choices}.items() if value is not None}
        for key in given.keys() - {taken.name for taken in kind.takes}:
            called = "an edit other than 'denoise'" if name is None else f"the edit '{name}'"
            raise RequestError(key, f"{called} takes no {key}: leave it out")
        return kind(image, **given)

    @property
    def source(self) -> Image.Image:
        """The image that the record refers to."""
        return self.image

    @property
    def keeps(self) -> bool:
        """Whether part of the image is kept, which the result could fit."""
        return self.mask is not None

    def _usual_fit(self, is_prompted: bool) -> int:
        """The default of `fit`, where corrections are possible."""
        return 0 if self.mask is None else int(not is_prompted)

    def chosen_fit(self, sampler: str, gamma: float | None, is_prompted: bool) -> int:
        """`fit`, or its default.

        Args:
            sampler, gamma: sampler and gamma of the request. Corrections need fresh noise in every step, since jumps
                then depend only on the estimate; kept noise would be that from before the correction.
            is_prompted: whether a prompt or label says what to draw.

        Raises:
            RequestError: corrections are not possible with this sampler.
        """
        can_fit = sampler == "consistency" and gamma == 1
        if self.fit and not can_fit:
            with_gamma = "" if gamma is None else f" with gamma {gamma:g}"
            raise RequestError(
                "fit", f"fit needs the sampler 'consistency' with gamma 1, got '{sampler}'{with_gamma}"
            )
        if self.fit is not None:
            return self.fit
        return self._usual_fit(is_prompted) if can_fit and self.chosen_strength == 1 else 0

    @property
    def name(self) -> str:
        """The name of the edit in records."""
        return "inpaint" if self.mask is not None else "restart"

    @property
    def chosen_strength(self) -> float:
        """`strength`, or its default."""
        return (1.0 if self.keeps else 0.5) if self.strength is None else float(self.strength)

    def prepared(self, spec: ModelSpec) -> Prepared:
        """The edit in a model's data space.

        Raises:
            RequestError: the model does not support this edit of this image.
        """
        data, strength = self.data(spec), self.chosen_strength
        start = StartImage(data, level_of(strength, spec.sigma_max)) if strength < 1 else None
        settings = {"edit": self.name, "strength": strength}
        return Prepared(self.known(data, spec), start, settings, self.layout(data, spec))

    def data(self, spec: ModelSpec) -> Any:
        """The image as a model's data, float32 [1, ...].

        Without a mask, the paper of a drawing becomes transparent, as in control images; with one it is kept.
        """
        pixels = (from_image if self.mask is None else to_pixels)(self.image, spec.pixels, spec.pixel_format)
        return spec.codec.encode(pixels[None])

    def known(self, data: Any, spec: ModelSpec) -> Measurement | None:
        """The part of the data [1, ...] that is kept: with a mask, where no pixel below may change; or None."""
        if self.mask is None:
            return None
        _, height, width = spec.pixels
        left, top, right, bottom = fitted(self.image.size, (width, height))
        cells = np.zeros((height, width), dtype=np.float32)
        shrunk = self._open.resize((right - left, bottom - top), Image.Resampling.BOX)
        cells[top:bottom, left:right] = np.asarray(shrunk) > 0
        return Known(data, open_data(cells, spec.codec, spec.pixels))

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
        """The default (width, height) of the result: the image's own if part of it is kept, else None."""
        return None if self.mask is None else self.image.size

    def layout(self, data: Any, spec: ModelSpec) -> Layout:
        """The layout, which turns the model's picture into the result."""
        return Plain(self.image.size) if self.mask is None else Plain(self.image.size, self.image, self._open)


@dataclass(frozen=True)
class OutpaintEdit(Edit):
    """The edit of `Edit.beyond`: the image includes its margins, and the mask lets them change.

    Args:
        inner: the image without its margins.
    """

    inner: Image.Image = field(kw_only=True)

    name: ClassVar[str] = "outpaint"

    def _usual_fit(self, is_prompted: bool) -> int:
        return 4

    @property
    def source(self) -> Image.Image:
        return self.inner


@dataclass(frozen=True)
class ColorizeEdit(Edit):
    """`Edit.colorize`."""

    name: ClassVar[str] = "colorize"
    takes: ClassVar[tuple[Field, ...]] = (STRENGTH, FIT)
    keeps: ClassVar[bool] = True

    def _usual_fit(self, is_prompted: bool) -> int:
        return 0 if is_prompted else 4

    def data(self, spec: ModelSpec) -> Any:
        """The data of the image in grey: its colours are ignored."""
        pixels = from_image(self.image, spec.pixels, spec.pixel_format)
        if spec.pixel_format == "grey":
            raise RequestError("edit", "the model draws only grey images: colorize needs one that draws colours")
        pixels[:3] = np.tensordot(np.array(LUMA, dtype=np.float32), pixels[:3], axes=1)
        return spec.codec.encode(pixels[None])

    def known(self, data: Any, spec: ModelSpec) -> Measurement:
        return Projected(data, Grey(pixel_codec(spec.codec, self.name)))

    @property
    def own_size(self) -> tuple[int, int]:
        return self.image.size

    def layout(self, data: Any, spec: ModelSpec) -> Layout:
        return Coloured(self.image)


@dataclass(frozen=True)
class SuperResolveEdit(Edit):
    """`Edit.super_resolve`."""

    name: ClassVar[str] = "super-resolve"
    takes: ClassVar[tuple[Field, ...]] = (STRENGTH, FIT)
    keeps: ClassVar[bool] = True

    def _usual_fit(self, is_prompted: bool) -> int:
        return 1 if is_prompted else 4

    def factor(self, spec: ModelSpec) -> int:
        """The upscaling factor: the largest whole number for which all of the image fits the model's size."""
        (width, height), (_, high, wide) = self.image.size, spec.pixels
        factors = range(2, math.gcd(high, wide) + 1)
        found = [k for k in factors if high % k == wide % k == 0 and width * k <= wide and height * k <= high]
        if not found:
            most = f"{wide // 2}x{high // 2}, half of what the model '{spec.name}' draws"
            raise RequestError("image", f"image must be at most {most}, to be enlarged, got {width}x{height}")
        return found[-1]

    def data(self, spec: ModelSpec) -> Any:
        """The data of the image with each pixel enlarged to a block."""
        factor = self.factor(spec)
        channels, high, wide = spec.pixels
        pixels = from_image(self.image, (channels, high // factor, wide // factor), spec.pixel_format)
        return spec.codec.encode(enlarged(pixels[None], factor))

    def known(self, data: Any, spec: ModelSpec) -> Measurement:
        return Projected(data, BlockMeans(pixel_codec(spec.codec, self.name), self.factor(spec)))

    def layout(self, data: Any, spec: ModelSpec) -> Layout:
        (pixels,) = block_means(spec.codec.decode(data), self.factor(spec))
        return Averaged(self.image.size, pixels, spec.pixel_format)


@dataclass(frozen=True)
class DenoiseEdit(Edit):
    """`Edit.denoise`."""

    noise: float | None = None
    name: ClassVar[str] = "denoise"
    takes: ClassVar[tuple[Field, ...]] = (NOISE,)
    steps: ClassVar[int | None] = 1

    def prepared(self, spec: ModelSpec) -> Prepared:
        """The edit in the data space, where white pixel noise is white in each channel; for channels with different
        gains the root mean square is used."""
        pixels = from_image(self.image, spec.pixels, spec.pixel_format)
        noise = noise_of(pixels) if self.noise is None else float(self.noise)
        if noise <= 0:
            raise RequestError("noise", "noise could not be estimated, the image seems to have none: give its level")
        codec = pixel_codec(spec.codec, self.name)
        gain = math.sqrt(sum(gain**2 for gain in codec.gains(len(pixels))) / len(pixels))
        start = StartImage(codec.encode(pixels[None]), noise * gain, fresh=False)
        settings = {"edit": self.name, "noise": round(noise, 6)}
        return Prepared(None, start, settings, self.layout(start.data, spec))


_BY_NAME: Mapping[str, type[Edit]] = {
    ColorizeEdit.name: ColorizeEdit,
    SuperResolveEdit.name: SuperResolveEdit,
    DenoiseEdit.name: DenoiseEdit,
}

_EVERY_KIND: tuple[type[Edit], ...] = (Edit, *_BY_NAME.values())
EDIT_CHOICES = sorted({taken.name for kind in _EVERY_KIND for taken in kind.takes} - {MASK.name})
"""The fields that edits take besides their images."""

EDIT_NAME = Choice(
    name="edit",
    help="An edit other than redrawing: colourise a grey image, enlarge a small one, or remove noise.",
    choices=_BY_NAME.keys(),
    operation="edit",
)
