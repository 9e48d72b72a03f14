"""What every data source gives: examples by index, and batches that depend on (seed, step, rank) alone.

A batch is re-derived from counters, never from an iterator's hidden position, so resuming needs no replay.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from fewstep.core.randomness import derive


@dataclass(frozen=True)
class Example:
    """One training sample.

    Args:
        data: float32; an image is [c, h, w] in [0, 1] (RGBA premultiplied), a point [d].
        caption: what it shows; "" where the data has no captions.
        label: its class, or None.
        control: float32 [c, h, w] in [0, 1], an image that steers generation, or None.
    """

    data: Any
    caption: str = ""
    label: int | None = None
    control: Any = None


class Dataset(Protocol):
    """Examples by index.

    `shape` is an example's data shape, `classes` how many labels there are (0 without labels), and `captions`
    all the captions that a user may be shown as known ([] without captions).
    """

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def classes(self) -> int: ...

    @property
    def captions(self) -> list[str]: ...

    def __len__(self) -> int: ...

    def example(self, index: int, rng: np.random.Generator) -> Example:
        """The example at `index`, its augmentation drawn from `rng` alone."""
        ...


class DataError(ValueError):
    """The data cannot be used: the message says which file or setting and what would be right."""


@dataclass
class Skipped:
    """Which examples could not be read, by name, and why; safe to fill from several threads."""

    reasons: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, name: str, reason: str) -> bool:
        """Note one; True if it was not noted before."""
        with self._lock:
            new = name not in self.reasons
            self.reasons[name] = reason
            return new

    def __len__(self) -> int:
        return len(self.reasons)


def indices(size: int, batch: int, seed: int, step: int, rank: int = 0, world: int = 1) -> list[int]:
    """Which examples a rank sees at a step: each epoch is one permutation, cut into global batches.

    Args:
        size: examples in the data set.
        batch: examples a rank takes a step.
        seed: the run's seed.
        step: optimiser step (or micro-step), 0 first.
        rank, world: this process among all.
    """
    start = (step * world + rank) * batch
    chosen = []
    for position in range(start, start + batch):
        epoch, place = divmod(position, size)
        chosen.append(int(_permutation(size, seed, epoch)[place]))
    return chosen


_permutations: dict[tuple[int, int, int], Any] = {}


def _permutation(size: int, seed: int, epoch: int) -> Any:
    key = (size, seed, epoch)
    if key not in _permutations:
        if len(_permutations) > 8:
            _permutations.clear()
        _permutations[key] = np.random.Generator(np.random.Philox(derive("epoch", seed, epoch))).permutation(size)
    return _permutations[key]


def examples(dataset: Dataset, batch: int, seed: int, step: int, rank: int = 0, world: int = 1) -> list[Example]:
    """The examples of one step and rank, each augmented by its own counter."""
    chosen = []
    for offset, index in enumerate(indices(len(dataset), batch, seed, step, rank, world)):
        position = (step * world + rank) * batch + offset
        rng = np.random.Generator(np.random.Philox(derive("example", seed, position)))
        chosen.append(dataset.example(index, rng))
    return chosen


def prefetched(
    dataset: Dataset, batch: int, seed: int, first: int, last: int, rank: int = 0, world: int = 1, ahead: int = 2
) -> Iterator[list[Example]]:
    """The batches of steps first … last − 1 in order, made `ahead` of their use in a background thread."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="fewstep-data") as pool:
        waiting: list[Future[list[Example]]] = []
        for step in range(first, last):
            waiting.append(pool.submit(examples, dataset, batch, seed, step, rank, world))
            if len(waiting) > ahead:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()
