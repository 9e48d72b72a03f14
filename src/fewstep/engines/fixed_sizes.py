"""A network of any batch size out of ones compiled for fixed sizes, which compilers make faster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fewstep.core.arrays import Array, Condition
from fewstep.core.parameterisations import Network

SIZES = (1, 2, 4, 8, 16)  # each is a network of its own in memory, and more than 16 at a time gain little


class FixedSizes:
    """Runs a batch at the smallest size that holds it, padded by its last sample; in parts where it is larger than
    all sizes, or where a quarter or more would be padding.

    Args:
        build: a size's network, built when it is first needed and kept.
        sizes: rising batch sizes.
    """

    def __init__(self, build: Callable[[int], Network], sizes: Sequence[int] = SIZES) -> None:
        self._build, self.sizes = build, tuple(sizes)
        self._built: dict[int, Network] = {}

    def __call__(self, x: Array, time_at: Array, time_to: Array, cond: Condition) -> Any:
        count = int(x.shape[0])
        size = next((size for size in self.sizes if size >= count), self.sizes[-1])
        if not count > 0.75 * size or count > size:
            size = max(size for size in self.sizes if size <= count)
        if size < count:
            parts = slice(0, size), slice(size, count)
            return np.concatenate(
                [
                    self(x[p], time_at[p], time_to[p], {name: values[p] for name, values in cond.items()})
                    for p in parts
                ]
            )
        run = self.built(size)
        if size == count:
            return run(x, time_at, time_to, cond)
        padded = {name: _padded(values, size) for name, values in cond.items()}
        times = _padded(time_at, size), _padded(time_to, size)
        return run(_padded(x, size), *times, padded)[:count]

    def built(self, size: int) -> Network:
        """The network of a size."""
        if size not in self._built:
            self._built[size] = self._build(size)
        return self._built[size]


def _padded(values: Array, size: int) -> Any:
    return np.concatenate([values, np.repeat(values[-1:], size - values.shape[0], axis=0)])
