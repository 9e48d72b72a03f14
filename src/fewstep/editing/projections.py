"""Known parts of a picture as orthogonal projections: the grey of its pixels, or the means of its blocks.

2303.01469 alg. 4, where A is an orthogonal transform whose first rows are measured: the grey of every pixel for
colourisation, the mean of every block for super-resolution. If P is the projection on those rows, the algorithm
replaces the estimate by D + P·(data − D), so only P is needed and A is never built.

**In which space P is orthogonal.** A codec scales each channel, so what is orthogonal in pixels is not orthogonal in
data. The *known* set is the same in both: all data with these greys, or these means. P is orthogonal in the *data*:
noise is white there, so the nearest start found by `Fitted` is the most likely one, and its residual
r = P·(known − f(x)) is its own projection, so that the gradient of ‖r‖²/2 is −Jᵀ·r, as Craig's method requires. (A
projection orthogonal in pixels would be oblique in the data, with the gradient Jᵀ·Pᵀ·r.) Also, all channels have the
same deviation in the data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from array_api_compat import device

from fewstep.core.arrays import Array, ArrayT, like, namespace
from fewstep.core.levels import Level
from fewstep.models.codecs import PixelCodec


class Projection(Protocol):
    """P: linear, symmetric, P·P = P."""

    def __call__(self, values: ArrayT) -> ArrayT:
        """Project data [b, ...]."""
        ...


LUMA = (0.299, 0.587, 0.114)
"""The weights of red, green and blue in a pixel's grey (ITU-R BT.601), as in Pillow's mode L."""


@dataclass(frozen=True)
class Projected:
    """A projection of the data is known: D ← D + P·(data − D).

    Args:
        data: any data [b, ...] or [1, ...] that agree with what is known.
        project: P.
    """

    data: Array
    project: Projection

    def gap(self, estimate: ArrayT) -> ArrayT:
        """P·(data − estimate) [b, ...]."""
        known = namespace(estimate).astype(like(self.data, estimate), estimate.dtype)
        return self.project(known - estimate)

    def __call__(self, estimate: ArrayT, at: Level) -> ArrayT:
        return estimate + self.gap(estimate)


@dataclass(frozen=True)
class Grey:
    """The projection on the grey of every pixel, and on the whole of the channels after the colours (alpha).

    The grey is Σ w·pixel = Σ (w/gain)·data + a constant, so the data's direction is w/gain at length 1.

    Args:
        codec: the codec between pixels [b, c, h, w] and data.
        weights: w, the weights of the first channels.
    """

    codec: PixelCodec
    weights: tuple[float, ...] = LUMA

    def __call__(self, values: ArrayT) -> ArrayT:
        xp, pixels = namespace(values), self.codec.unmask(values)
        colours = len(self.weights)
        slopes = [w / gain for w, gain in zip(self.weights, self.codec.gains(pixels.shape[1]), strict=False)]
        unit = [slope / math.hypot(*slopes) for slope in slopes]
        along: ArrayT = xp.reshape(xp.asarray(unit, dtype=pixels.dtype, device=device(pixels)), (colours, 1, 1))
        grey = along * xp.sum(along * pixels[:, :colours], axis=1, keepdims=True)
        return self.codec.mask(xp.concat([grey, pixels[:, colours:]], axis=1))


@dataclass(frozen=True)
class BlockMeans:
    """The projection on the mean of each `factor` × `factor` block of pixels, for each channel separately.

    All pixels of a channel have the same gain, so this is the same in pixels and in data.

    Args:
        codec: the codec between pixels [b, c, h, w] and data; h and w must be multiples of factor.
        factor: side of a block.
    """

    codec: PixelCodec
    factor: int

    def __call__(self, values: ArrayT) -> ArrayT:
        pixels = self.codec.unmask(values)
        return self.codec.mask(enlarged(block_means(pixels, self.factor), self.factor))


def block_means(pixels: ArrayT, factor: int) -> ArrayT:
    """The mean of each factor × factor block: [b, c, h, w] to [b, c, h/factor, w/factor]."""
    b, c, h, w = pixels.shape
    xp = namespace(pixels)
    return xp.mean(xp.reshape(pixels, (b, c, h // factor, factor, w // factor, factor)), axis=(3, 5))


def enlarged(pixels: ArrayT, factor: int) -> ArrayT:
    """Each pixel as a block: [b, c, h, w] to [b, c, h·factor, w·factor]."""
    b, c, h, w = pixels.shape
    xp = namespace(pixels)
    cells = xp.broadcast_to(pixels[:, :, :, None, :, None], (b, c, h, factor, w, factor))
    return xp.reshape(cells, (b, c, h * factor, w * factor))
