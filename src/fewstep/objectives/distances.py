"""Distances between two estimates, one number per sample.

Squared, its root per sample (ECT 2406.14548), pseudo-Huber over the whole vector (iCT 2310.14189 eq. 7), and a
hook for a perceptual one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from fewstep.core.arrays import ArrayT, namespace


class Distance(Protocol):
    """A function from two batches [b, ...] to distances [b], in float32 or better."""

    def __call__(self, a: ArrayT, b: ArrayT) -> ArrayT: ...


def _single(values: ArrayT) -> ArrayT:
    """Convert half precision to float32, which the sum of squares needs; other types are unchanged."""
    xp = namespace(values)
    return xp.astype(values, xp.float32) if xp.finfo(values.dtype).bits < 32 else values


def _sum_of_squares(a: ArrayT, b: ArrayT) -> ArrayT:
    xp = namespace(a)
    difference = _single(a) - _single(b)
    return xp.sum(xp.reshape(difference * difference, (a.shape[0], -1)), axis=1)


@dataclass(frozen=True)
class Squared:
    """‖a − b‖²."""

    def __call__(self, a: ArrayT, b: ArrayT) -> ArrayT:
        return _sum_of_squares(a, b)


@dataclass(frozen=True)
class Norm:
    """‖a − b‖₂, with a finite gradient at 0.

    Args:
        floor: added to the squared norm under the root, and subtracted after it.
    """

    floor: float = 1e-12

    def __call__(self, a: ArrayT, b: ArrayT) -> ArrayT:
        return namespace(a).sqrt(_sum_of_squares(a, b) + self.floor) - math.sqrt(self.floor)


@dataclass(frozen=True)
class PseudoHuber:
    """√(‖a − b‖² + c²) − c over the whole vector (2310.14189 eq. 7).

    Args:
        c: the constant; None for 0.00054·√dim, where dim is the number of values in a sample.
    """

    c: float | None = None

    def __post_init__(self) -> None:
        if self.c is not None and self.c <= 0:
            raise ValueError(f"c must be above 0, got {self.c}: use `Norm` for the norm itself")

    def __call__(self, a: ArrayT, b: ArrayT) -> ArrayT:
        c = 0.00054 * math.sqrt(math.prod(a.shape[1:])) if self.c is None else self.c
        return namespace(a).sqrt(_sum_of_squares(a, b) + c * c) - c


@dataclass(frozen=True)
class MeanPseudoHuber:
    """The mean of √((a − b)² + c²) − c over the values of a sample (2310.04378's code).

    Args:
        c: the constant.
    """

    c: float = 0.001

    def __post_init__(self) -> None:
        if not 0 < self.c < math.inf:
            raise ValueError(f"c must be above 0 and finite, got {self.c}")

    def __call__(self, a: ArrayT, b: ArrayT) -> ArrayT:
        xp = namespace(a)
        difference = _single(a) - _single(b)
        each = xp.sqrt(difference * difference + self.c * self.c) - self.c
        return xp.mean(xp.reshape(each, (a.shape[0], -1)), axis=1)


@dataclass(frozen=True)
class Perceptual:
    """A hook for perceptual distances: the squared distance of features, plus a share of that of the samples.

    Args:
        features: function from a batch [b, ...] to features [b, ...] (LPIPS, a recogniser's layers).
        pixels: the weight of ‖a − b‖².
    """

    features: Callable[[Any], Any]
    pixels: float = 0.0

    def __call__(self, a: ArrayT, b: ArrayT) -> ArrayT:
        distance: ArrayT = _sum_of_squares(self.features(a), self.features(b))
        return distance + self.pixels * _sum_of_squares(a, b) if self.pixels else distance


def inverse_gap(t: ArrayT, r: ArrayT) -> ArrayT:
    """1/(t − r), the weight of the distance between estimates at levels σ/α t > r (iCT, 2310.14189 §3.1)."""
    return 1 / (t - r)
