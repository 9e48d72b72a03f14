"""A network of any batch size out of ones compiled for fixed sizes, which compilers make faster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
        outputs = []
        for begin, size in self._parts(int(x.shape[0])):
            part = slice(begin, begin + size)
            named = {name: _filled(values[part], size) for name, values in cond.items()}
            filled = [_filled(values[part], size) for values in (x, time_at, time_to)]
            outputs.append(self.built(size)(filled[0], filled[1], filled[2], named))
        return (outputs[0] if len(outputs) == 1 else np.concatenate(outputs))[: x.shape[0]]

    def _parts(self, count: int) -> Iterator[tuple[int, int]]:
        """Where each part begins and the size it runs at; only the last may be padded."""
        begin = 0
        while (left := count - begin) > 0:
            size = next((size for size in self.sizes if size >= left), self.sizes[-1])
            if left <= 0.75 * size:
                size = max(size for size in self.sizes if size <= left)
            yield begin, size
            begin += size

    def built(self, size: int) -> Network:
        """The network of a size."""
        if size not in self._built:
            self._built[size] = self._build(size)
        return self._built[size]


def _filled(values: Array, size: int) -> Any:
    """The values, the last one repeated up to a size."""
    missing = size - values.shape[0]
    return np.concatenate([values, np.repeat(np.asarray(values[-1:]), missing, axis=0)]) if missing else values
