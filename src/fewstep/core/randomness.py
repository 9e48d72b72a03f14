"""Randomness that depends on counters alone.

Sampling noise comes from NumPy's Philox keyed by the image's own seed, so an image does not depend on its
batch, device, engine or a restart. Dropout masks are integer hashes of (sample key, layer, position), the same
bits in NumPy and torch on any device, so two branches that share keys share masks.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from array_api_compat import device

from fewstep.core.arrays import Array, ArrayT, like, namespace

MAX_SEED = 2**63 - 1


def check_seed(seed: int) -> None:
    """Raise ValueError unless `seed` is a whole number from 0 to 2⁶³ − 1."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed must be a whole number between 0 and {MAX_SEED}, got {seed}")


def noise(seed: int, shape: Sequence[int], draw: int = 0) -> Any:
    """Standard normal noise of one image: float32 NumPy of `shape`, fixed by (seed, draw).

    Args:
        seed: the image's seed, 0 … 2⁶³ − 1.
        shape: the image's shape, without a batch axis.
        draw: which of the image's draws: 0 for the start, then one for each re-noising.
    """
    return _noises((seed,), shape, draw)[0, ...]


_ANY_KEY, _START = np.zeros(2, dtype=np.uint64), np.zeros(4, dtype=np.uint64)
_FRESH = np.random.Philox(key=_ANY_KEY).state


def _noises(seeds: Sequence[int], shape: Sequence[int], draw: int) -> Any:
    """The noise of several images, float32 NumPy [len(seeds), *shape]. One generator is keyed anew for each image:
    making a generator takes longer than filling a small image."""
    bits = np.random.Philox(key=_ANY_KEY)
    generator = np.random.Generator(bits)
    noises = np.empty((len(seeds), math.prod(shape)), dtype=np.float32)
    for row, seed in zip(noises, seeds, strict=True):
        check_seed(seed)
        key = np.array([seed, draw], dtype=np.uint64)
        bits.state = {**_FRESH, "state": {"counter": _START, "key": key}}
        generator.standard_normal(dtype=np.float32, out=row)
    return noises.reshape(len(seeds), *shape)


class Noise:
    """The noise of a batch of images, each by its own seed, as arrays like a reference.

    Args:
        seeds: one seed an image.
        shape: an image's shape.
        reference: an array whose namespace and device the noise takes; NumPy if None.
    """

    def __init__(self, seeds: Sequence[int], shape: Sequence[int], reference: Array | None = None) -> None:
        self.seeds = tuple(int(seed) for seed in seeds)
        self.shape = tuple(shape)
        self._reference = reference

    def __call__(self, draw: int) -> Array:
        """Draw number `draw` of each image: float32 [b, *shape]."""
        stacked = _noises(self.seeds, self.shape, draw)
        return stacked if self._reference is None else like(stacked, self._reference)


class NoiseBetween:
    """Noise on the way from one seed's to another's, draw by draw: at 0 and 1 it is theirs to the bit.

    The way is spherical (Shoemake 1985; 2303.01469 §6): sin((1 − t)·ψ)/sin ψ·first + sin(t·ψ)/sin ψ·second with ψ the
    angle between them, so that it keeps the length that noise has.

    Args:
        first, second: the seeds.
        positions: t of each image, 0 to 1.
        shape: an image's shape.
    """

    def __init__(self, first: int, second: int, positions: Sequence[float], shape: Sequence[int]) -> None:
        self.seeds, self.positions, self.shape = (int(first), int(second)), tuple(positions), tuple(shape)

    def __call__(self, draw: int) -> Any:
        """Draw number `draw` of each image: float32 NumPy [len(positions), *shape]."""
        first, second = (noise(seed, self.shape, draw) for seed in self.seeds)
        wide = [values.astype(np.float64) for values in (first, second)]
        cosine = float((wide[0] * wide[1]).sum()) / math.sqrt(math.prod(float((v * v).sum()) for v in wide))
        angle = math.acos(min(1.0, max(-1.0, cosine)))

        def share(t: float) -> Any:  # sin(t·ψ)/sin ψ, which is t for equal noise
            return np.float32(t * np.sinc(t * angle / math.pi) / np.sinc(angle / math.pi))

        return np.stack([share(1 - t) * first + share(t) * second for t in self.positions])


def derive(*parts: int | str) -> int:
    """A seed in [0, 2⁶³) from any counters and names: the first 63 bits of their SHA-256."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


_MASK = 0xFFFFFFFF


def _mix(h: ArrayT) -> ArrayT:
    """A 32-bit finaliser (the two-multiply form of 'lowbias32') on int64 that stays below 2³²."""
    h = h ^ (h >> 16)
    h = (h * 0x21F0AAAD) & _MASK
    h = h ^ (h >> 15)
    h = (h * 0x735A2D97) & _MASK
    return h ^ (h >> 15)


def keep_mask(keys: Array, layer: int, shape: Sequence[int], rate: float) -> Array:
    """Which activations dropout keeps: the same for equal (key, layer), in NumPy and torch alike.

    Args:
        keys: int64 [b], one key a sample, 0 ≤ key < 2³².
        layer: the number of the dropout layer in its network.
        shape: one sample's activation shape.
        rate: the share to drop, in [0, 1).

    Returns:
        bool [b, *shape].
    """
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"a dropout rate must be at least 0 and below 1, got {rate}")
    xp = namespace(keys)
    base = _mix((keys + _MASK // 3 * (layer + 1)) & _MASK)
    position = xp.arange(math.prod(shape), dtype=xp.int64, device=device(keys))
    bits = _mix((base[:, None] ^ _mix(position)[None, :]) & _MASK)
    return xp.reshape(bits >= int(rate * 2**32), (keys.shape[0], *shape))


def shared_dropout(x: ArrayT, keys: Array, layer: int, rate: float) -> ArrayT:
    """Dropout whose mask is a function of (key, layer) alone; x [b, ...], the kept values scaled by 1/(1 − rate)."""
    if rate == 0.0:
        return x
    xp = namespace(x)
    keep = keep_mask(keys, layer, x.shape[1:], rate)
    return xp.where(keep, x / (1.0 - rate), xp.zeros_like(x))
