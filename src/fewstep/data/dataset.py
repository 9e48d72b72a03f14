"""The interface of data sources: examples by index, and batches that depend only on (seed, step, rank).

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
        caption: a text that describes it; "" if the data has no captions.
        label: its class, or None.
        control: float32 [c, h, w] in [0, 1], an image that steers generation, or None.
    """

    data: Any
    caption: str = ""
    label: int | None = None
    control: Any = None


class Dataset(Protocol):
    """Examples by index.

    `shape` is the data shape of an example, `classes` the number of labels (0 without labels), and `captions` all
    captions that may be shown to users as known to the model ([] without captions).
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
        """The example at `index`, with augmentation drawn only from `rng`."""
        ...


class DataError(ValueError):
    """The data cannot be used: the message says which file or setting and what would be right."""


@dataclass
class Skipped:
    """The examples that could not be read, by name, with the reasons; thread-safe."""

    reasons: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, name: str, reason: str) -> bool:
        """Record one; returns True if it was not recorded before."""
        with self._lock:
            new = name not in self.reasons
            self.reasons[name] = reason
            return new

    def __len__(self) -> int:
        return len(self.reasons)


def indices(size: int, batch: int, seed: int, step: int, rank: int = 0, world: int = 1) -> list[int]:
    """The indices of a rank's examples at a step; each epoch is one permutation, cut into global batches.

    Args:
        size: examples in the data set.
        batch: examples per rank and step.
        seed: the run's seed.
        step: optimiser step (or micro-step), from 0.
        rank, world: index of this process, and the number of processes.
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
    """The examples of one step and rank, each augmented with its own counter-based random numbers."""
    chosen = []
    for offset, index in enumerate(indices(len(dataset), batch, seed, step, rank, world)):
        position = (step * world + rank) * batch + offset
        rng = np.random.Generator(np.random.Philox(derive("example", seed, position)))
        chosen.append(dataset.example(index, rng))
    return chosen


def prefetched(
    dataset: Dataset, batch: int, seed: int, first: int, last: int, rank: int = 0, world: int = 1, ahead: int = 2
) -> Iterator[list[Example]]:
    """The batches of steps first … last − 1 in order, prefetched by `ahead` in a background thread."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="fewstep-data") as pool:
        waiting: list[Future[list[Example]]] = []
        for step in range(first, last):
            waiting.append(pool.submit(examples, dataset, batch, seed, step, rank, world))
            if len(waiting) > ahead:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()
