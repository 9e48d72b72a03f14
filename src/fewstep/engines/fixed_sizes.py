"""A network for any batch size, made from networks compiled for fixed sizes, which run faster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from fewstep.core.arrays import Array, Condition
from fewstep.core.parameterisations import Network

SIZES = (1, 2, 4, 8, 16)  # each is a separate network in memory, and batches above 16 gain little


class FixedSizes:
    """Runs a batch at the smallest size that holds it, padded with its last sample. A batch is split into parts if it
    is larger than all sizes, or if a quarter or more would be padding.

    Args:
        build: builds the network for a size, when it is first needed.
        sizes: batch sizes in increasing order.
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
        """The start of each part and the size that it runs at; only the last part may be padded."""
        begin = 0
        while (left := count - begin) > 0:
            size = next((size for size in self.sizes if size >= left), self.sizes[-1])
            if left <= 0.75 * size:
                size = max(size for size in self.sizes if size <= left)
            yield begin, size
            begin += size

    def built(self, size: int) -> Network:
        """The network for a size."""
        if size not in self._built:
            self._built[size] = self._build(size)
        return self._built[size]


def _filled(values: Array, size: int) -> Any:
    """The values, padded to a size by repeating the last one."""
    missing = size - values.shape[0]
    return np.concatenate([values, np.repeat(np.asarray(values[-1:]), missing, axis=0)]) if missing else values
