"""Batches of encoded, captioned images, for networks whose conditions another library encodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from fewstep.core.randomness import derive
from fewstep.data.dataset import indices
from fewstep.data.encoded import EncodedImages, Size
from fewstep.objectives.objective import Batch

Encode = Callable[[Sequence[str], Size], Mapping[str, Tensor]]
"""Conditions of prompts for images of a size, each with the batch first."""


@dataclass(frozen=True)
class EncodedBatches:
    """A `BatchSource`: each batch is from one bucket of the images.

    Args:
        images: the encoded images.
        encode: encodes captions.
        seed: seed of the order.
        drop: the share of captions that are replaced by an empty one.
    """

    images: EncodedImages
    encode: Encode = field(compare=False, repr=False)
    seed: int = 0
    drop: float = 0.0

    def stream(self, first: int, last: int, batch: int, rank: int, world: int) -> Iterator[Batch]:
        for step in range(first, last):
            bucket = self.images.bucket_at(self.seed, step)
            chosen = indices(len(self.images.captions[bucket]), batch, derive(self.seed, bucket), step, rank, world)
            rows = [self.images.example(bucket, index) for index in chosen]
            start = (step * world + rank) * batch
            captions = ["" if self._drops(start + i) else row.caption for i, row in enumerate(rows)]
            data = torch.from_numpy(np.stack([row.data for row in rows]))
            yield Batch(data, dict(self.encode(captions, self.images.sizes[bucket])))

    def _drops(self, position: int) -> bool:
        return derive("drop", self.seed, position) / 2**63 < self.drop
