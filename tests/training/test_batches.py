"""Batches from a data set: prompts dropped by a sample's number, the same however a batch is divided."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from fewstep.data.dataset import Example
from fewstep.models.codecs import SpaceToDepth
from fewstep.models.conditioning import Conditioning, conditioners
from fewstep.training.batches import DatasetBatches


@dataclass(frozen=True)
class Squares:
    """Image i has the colour i/50 and the label i mod 3; every second one has a control image."""

    name: str = "squares"
    shape: tuple[int, ...] = (3, 4, 4)
    classes: int = 3

    @property
    def captions(self) -> list[str]:
        return ["square"]

    def __len__(self) -> int:
        return 50

    def example(self, index: int, rng: np.random.Generator) -> Example:
        data = np.full(self.shape, index / 50, dtype=np.float32)
        return Example(data, "square", index % 3, data if index % 2 else None)


def _source(drop: float = 0.3, seed: int = 0) -> DatasetBatches:
    codec = SpaceToDepth(2, (0.0,) * 3, (0.5,) * 3)
    return DatasetBatches(Squares(), Conditioning(codec, conditioners(4, 3, control=(3, 4, 4))), seed, drop)


def _rows(batches: Any) -> dict[str, torch.Tensor]:
    listed = list(batches)
    rows = {"data": torch.cat([batch.data for batch in listed])}
    return rows | {name: torch.cat([batch.cond[name] for batch in listed]) for name in listed[0].cond}


def test_a_global_batch_is_the_same_however_it_is_divided() -> None:
    whole = _rows(_source().stream(0, 3, 8, 0, 1))
    micro = _rows(_source().stream(0, 6, 4, 0, 1))
    ranks = [list(_source().stream(0, 3, 4, rank, 2)) for rank in range(2)]
    shared = _rows(batch for pair in zip(*ranks, strict=True) for batch in pair)
    resumed = _rows([*_source().stream(0, 1, 8, 0, 1), *_source().stream(1, 3, 8, 0, 1)])
    for other in (micro, shared, resumed):
        for name, values in whole.items():
            assert torch.equal(other[name], values), name
    assert not torch.equal(_rows(_source(seed=1).stream(0, 3, 8, 0, 1))["data"], whole["data"])


def test_the_asked_share_loses_its_prompt_and_label_together() -> None:
    rows = _rows(_source(0.3).stream(0, 50, 8, 0, 1))
    no_label, no_text = rows["label"] == 3, rows["text_mask"].sum(dim=1) == 0
    assert torch.equal(no_label, no_text)
    assert abs(float(no_label.float().mean()) - 0.3) < 0.07
    assert not bool((_rows(_source(0.0).stream(0, 5, 8, 0, 1))["label"] == 3).any())
    assert bool((_rows(_source(1.0).stream(0, 5, 8, 0, 1))["label"] == 3).all())


def test_every_batch_has_the_same_names_and_float32_data_of_the_codecs_shape() -> None:
    for batch in _source().stream(0, 4, 2, 0, 1):
        assert set(batch.cond) == {"text", "text_mask", "label", "control", "control_mask"}
        assert batch.data.shape == (2, 12, 2, 2)
        assert batch.data.dtype == torch.float32
        present = batch.cond["control_mask"].bool()
        torch.testing.assert_close(batch.cond["control"][present], batch.data[present])


def test_worker_processes_make_the_same_batches_in_order() -> None:
    one = list(_source().stream(2, 8, 8, 1, 2))
    workers = list(replace(_source(), workers=2).stream(2, 8, 8, 1, 2))
    assert len(one) == len(workers)
    for mine, theirs in zip(one, workers, strict=True):
        assert torch.equal(mine.data, theirs.data)
        assert all(torch.equal(values, theirs.cond[name]) for name, values in mine.cond.items())
