"""Guidance that a student learns: which scale it is told, and who learns without a condition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from fewstep.core.levels import CLEAN, from_ratio
from fewstep.core.parameterisations import Targets
from fewstep.objectives.learned_guidance import LearnedGuidance, taught

SIZE = 20_000
NULL = {"label": torch.tensor([9])}


class TorchRng:
    """Numbers between 0 and 1."""

    def __init__(self) -> None:
        self._rng = torch.Generator().manual_seed(0)

    def normal(self, shape: Any) -> Any:
        raise AssertionError("scales are drawn evenly")

    def uniform(self, shape: Any) -> Any:
        return torch.rand(tuple(shape), generator=self._rng, dtype=torch.float64)


def batch() -> dict[str, torch.Tensor]:
    return {"label": torch.arange(SIZE) % 3, "control": torch.ones(SIZE, 2)}


def test_scales_are_even_between_their_ends_and_the_condition_stays() -> None:
    drawn = LearnedGuidance(1.0, 4.0, NULL).draw(batch(), TorchRng(), SIZE)
    # the Kolmogorov–Smirnov distance of 20 000 right draws exceeds 0.0138 once in a thousand
    assert stats.kstest(drawn["guidance"], stats.uniform(1, 3).cdf).statistic < 0.0138
    assert all(torch.equal(drawn[name], values) for name, values in batch().items())
    assert set(LearnedGuidance(2.5, 2.5, NULL).draw(batch(), TorchRng(), SIZE)["guidance"].tolist()) == {2.5}


def test_a_share_learns_at_scale_1_without_what_null_takes_away() -> None:
    drawn = LearnedGuidance(2.0, 4.0, NULL, unconditional=0.2).draw(batch(), TorchRng(), SIZE)
    alone = drawn["label"] == 9
    assert alone.double().mean() == pytest.approx(0.2, abs=0.015)
    assert (drawn["guidance"][alone] == 1).all()
    assert (drawn["guidance"][~alone] >= 2).all()
    assert torch.equal(drawn["label"][~alone], batch()["label"][~alone])
    assert torch.equal(drawn["control"], batch()["control"])


def test_without_its_condition_a_sample_has_scale_1_where_it_is_told_one() -> None:
    guidance = LearnedGuidance(2.0, 4.0, NULL)
    told = guidance.without({**batch(), "guidance": torch.full((SIZE,), 3.0)})
    assert set(told["label"].tolist()) == {9}
    assert set(told["guidance"].tolist()) == {1.0}
    assert "guidance" not in guidance.without(batch())


def test_a_teacher_guides_at_the_students_scale_and_is_not_told_it() -> None:
    names: set[str] = set()

    class Labelled:
        targets, epsilon = Targets.SAME, 0.0

        def __call__(self, x: Any, at: Any, to: Any, cond: Any) -> Any:
            names.update(cond)
            return cond["label"].to(x.dtype)[:, None] + 0 * x

    cond = {"label": torch.tensor([1, 2]), "guidance": torch.tensor([1.0, 3.0])}
    at, x = from_ratio(np.ones(2)), torch.zeros(2, 1)
    guided = taught(LearnedGuidance(1.0, 3.0, NULL), Labelled(), cond)(x, at, CLEAN.batch(2), cond)
    assert guided[:, 0].tolist() == [1.0, 9 + 3 * (2 - 9)]
    assert names == {"label"}


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (0.0, 1.0), (2.0, 2.0)])
def test_scales_from_0_on_are_taken(low: float, high: float) -> None:
    assert LearnedGuidance(low, high, NULL).high == high


@pytest.mark.parametrize(("low", "high"), [(-0.1, 1.0), (3.0, 2.0), (1.0, float("inf")), (float("nan"), 1.0)])
def test_scales_that_cannot_be_are_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="guidance must have scales 0 ≤ low ≤ high"):
        LearnedGuidance(low, high, NULL)
