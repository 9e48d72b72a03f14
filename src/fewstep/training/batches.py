"""From data sets to batches of tensors: encode pixels, read captions, drop some of them for guidance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader

from fewstep.core.randomness import derive
from fewstep.data.dataset import Dataset, Example, examples, prefetched
from fewstep.models.conditioning import Conditioning
from fewstep.objectives.objective import Batch


class BatchSource(Protocol):
    """The source of training batches; it can start at any step, so that resuming replays nothing."""

    def stream(self, first: int, last: int, batch: int, rank: int, world: int) -> Iterator[Batch]:
        """The batches of one rank for micro-steps first … last − 1, as CPU tensors."""
        ...


@dataclass(frozen=True)
class DatasetBatches:
    """A data set's batches.

    Args:
        dataset: the examples.
        conditioning: how captions, labels and control images become arrays, and pixels become data.
        seed: seed of order, augmentation and condition dropout.
        drop: the share of samples whose prompt and label are left out, so that guidance has an unconditional
            estimate.
        workers: processes that make batches ahead of their use; 0 for one thread, which is enough to train on a CPU.
            The batches do not depend on their number.
        encoded: whether the examples are already encoded by the codec, not pixels.
    """

    dataset: Dataset
    conditioning: Conditioning
    seed: int = 0
    drop: float = 0.1
    workers: int = field(default=0, compare=False)
    encoded: bool = False

    def stream(self, first: int, last: int, batch: int, rank: int, world: int) -> Iterator[Batch]:
        if self.workers:
            steps = _Steps(self, batch, rank, world)
            order: Any = range(first, last)
            len(self.dataset)  # makes a data set that renders its pictures once do so before the processes fork
            yield from DataLoader(steps, batch_size=None, sampler=order, num_workers=self.workers, prefetch_factor=4)
            return
        for step, rows in enumerate(prefetched(self.dataset, batch, self.seed, first, last, rank, world), first):
            yield self.batch(rows, (step * world + rank) * batch)

    def batch(self, rows: list[Example], position: int) -> Batch:
        """Stack examples; `position` counts samples since the run began and decides which conditions are dropped."""
        drawn = np.array([derive("drop", self.seed, position + i) for i in range(len(rows))], dtype=np.float64)
        dropped = (drawn / 2**63 < self.drop).tolist()
        pixels = np.stack([row.data for row in rows])
        conditioning = self.conditioning.without("guidance")
        if self.encoded:
            conditioning = conditioning.encoded(pixels.shape[1:])
        cond = conditioning.encode(
            len(rows),
            prompt=["" if out else row.caption for row, out in zip(rows, dropped, strict=True)],
            label=[None if out else row.label for row, out in zip(rows, dropped, strict=True)],
            control=[row.control for row in rows],
        )
        data = conditioning.codec.encode(pixels)
        return Batch(torch.from_numpy(data), tensors(cond))


@dataclass(frozen=True)
class _Steps(torch.utils.data.Dataset[Batch]):
    """The batch of each micro-step, for worker processes to make."""

    source: DatasetBatches
    size: int
    rank: int
    world: int

    def __getitem__(self, step: int) -> Batch:
        source = self.source
        rows = examples(source.dataset, self.size, source.seed, step, self.rank, self.world)
        return source.batch(rows, (step * self.world + self.rank) * self.size)


def tensors(arrays: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """NumPy arrays as CPU tensors that share their memory."""
    return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in arrays.items()}
