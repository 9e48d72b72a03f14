"""Starts that fit what is known: exact on a Gaussian with one number known, never farther from it anywhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from fewstep.core.levels import CLEAN, Level, from_ratio
from fewstep.core.parameterisations import Targets, UnsupportedTarget
from fewstep.editing import Constrained, Fitted, Known
from fewstep.editing.fitting import SHORTER

SIZE = 20_000
CORRELATION = 0.8
VALUES, VECTORS = np.linalg.eigh(np.array([[1.0, CORRELATION], [CORRELATION, 1.0]]))
KNOWN = Known(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))


@dataclass
class Correlated:
    """The exact consistency function of a Gaussian; it counts its calls."""

    targets: Targets = Targets.CLEAN
    epsilon: float = 0.0
    calls: int = 0

    def __call__(self, x: Any, at: Level, to: Level, cond: Any) -> Any:
        self.calls += 1
        spread = np.sqrt(VALUES / (VALUES + float(at.ratio[0]) ** 2))
        matrix = VECTORS @ np.diag(spread) @ VECTORS.T
        return x @ (torch.from_numpy(matrix) if isinstance(x, torch.Tensor) else matrix)


def level(size: int, ratio: float = 80.0) -> Level:
    return from_ratio(np.full(size, ratio))


def starts(size: int) -> Any:
    return np.random.default_rng(0).standard_normal((size, 2)) * 80.0


def test_one_correction_is_a_draw_from_the_conditional_where_replacement_knows_nothing() -> None:
    x, at = starts(SIZE), level(SIZE)
    free = Constrained(Fitted(Correlated(), KNOWN), KNOWN)(x, at, CLEAN.batch(SIZE), {})[:, 1]
    assert free.mean() == pytest.approx(CORRELATION, abs=0.02)
    assert free.var() == pytest.approx(1 - CORRELATION**2, rel=0.05)
    plain = Constrained(Correlated(), KNOWN)(x, at, CLEAN.batch(SIZE), {})[:, 1]
    assert abs(plain.mean()) < 0.02


@pytest.mark.parametrize("times", [0, 1, 3])
def test_a_correction_costs_two_evaluations(times: int) -> None:
    counted = Correlated()
    Fitted(counted, KNOWN, times)(starts(3), level(3), CLEAN.batch(3), {})
    assert counted.calls == 1 + 2 * times


@dataclass(frozen=True)
class Bent:
    """No Gaussian's: its Jacobian is neither symmetric nor the same everywhere."""

    targets: Targets = Targets.ANY
    epsilon: float = 0.0

    def __call__(self, x: Any, at: Level, to: Level, cond: Any) -> Any:
        first, second = (x / 80.0).T
        return np.stack([np.tanh(first) + 0.8 * second + 0.3 * second**2, np.sin(first + second)], axis=1)


def test_no_sample_is_brought_farther_from_what_is_known() -> None:
    x, at = starts(500), level(500)
    gaps = [np.abs(Fitted(Bent(), KNOWN, times)(x, at, CLEAN.batch(500), {})[:, 0] - 1.0) for times in range(5)]
    assert all((later <= earlier).all() for earlier, later in pairwise(gaps))
    assert gaps[-1].mean() < 0.25 * gaps[0].mean()


def test_a_sample_does_not_depend_on_its_batch() -> None:
    x, fitted = starts(8), Fitted(Bent(), KNOWN, 2)
    whole = fitted(x, level(8), CLEAN.batch(8), {})
    alone = fitted(x[3:4], level(1), CLEAN.batch(1), {})
    np.testing.assert_array_equal(whole[3:4], alone)


def test_what_is_known_already_and_what_is_all_free_stay_as_they_are() -> None:
    x, at, plain = starts(4), level(4), Correlated()
    estimate = plain(x, at, at, {})
    for known in (Known(estimate, KNOWN.free), Known(KNOWN.data, np.ones((1, 2)))):
        np.testing.assert_array_equal(Fitted(plain, known, 2)(x, at, CLEAN.batch(4), {}), estimate)


def test_tensors_are_fitted_like_arrays() -> None:
    x, fitted = starts(4), Fitted(Correlated(), KNOWN)
    arrays = fitted(x, level(4), CLEAN.batch(4), {})
    tensors = fitted(torch.from_numpy(x), level(4), CLEAN.batch(4), {})
    np.testing.assert_allclose(tensors.numpy(), arrays, atol=1e-12)


def test_a_denoiser_and_a_negative_number_of_corrections_are_refused() -> None:
    with pytest.raises(UnsupportedTarget, match="fitting"):
        Fitted(Correlated(Targets.SAME), KNOWN)
    with pytest.raises(ValueError, match="times must be at least 0"):
        Fitted(Correlated(), KNOWN, -1)


@dataclass
class Watched:
    """A function of the state as a consistency function; it keeps the states that it was asked for."""

    function: Callable[[Any], Any]
    states: list[Any] = field(default_factory=list)
    targets: Targets = Targets.CLEAN
    epsilon: float = 0.0

    def __call__(self, x: Any, at: Level, to: Level, cond: Any) -> Any:
        self.states.append(x)
        return self.function(x)


@pytest.mark.parametrize("ratio", [0.5, 80.0])
def test_the_slope_is_measured_near_the_state_and_beyond_rounding(ratio: float) -> None:
    """Nearer than half of the noise that the state holds, whatever the level, the gap and the number of values."""
    watched = Watched(lambda x: x / (1 + ratio))
    Fitted(watched, Known(np.full((1, 50), 30.0), np.zeros((1, 50))))(
        np.zeros((2, 50)), level(2, ratio), CLEAN.batch(2), {}
    )
    start, probed, _ = watched.states
    far = np.sqrt(((probed - start) ** 2).mean(axis=1)) / ratio
    assert (far > 1e-2).all()
    assert (far < 0.5).all()


def test_a_step_that_leads_away_is_taken_back_and_the_next_is_shorter() -> None:
    cliff = Watched(lambda x: np.where(x < 40.0, x / 80.0, 10.0))  # the first step, to 80, goes over it
    made = Fitted(cliff, Known(np.ones((1, 1)), np.zeros((1, 1))), 2)(np.zeros((1, 1)), level(1), CLEAN.batch(1), {})
    _, _, first, probed, second = (float(x[0, 0]) for x in cliff.states)
    assert first == pytest.approx(80.0)
    assert probed < 40.0
    assert second == pytest.approx(SHORTER * first)  # in the direction of the slope alone
    assert 0.1 < SHORTER < 0.5
    assert made.item() == pytest.approx(second / 80.0)


def test_as_many_corrections_as_numbers_are_known_fit_them_all_though_what_is_left_grows_on_the_way() -> None:
    """Craig's method ends after rank(P) steps on a linear function; its residual need not fall in each."""
    stretch, known = np.array([1.0, math.sqrt(12.0)]), np.array([[math.sqrt(12.0), 1.0]])
    linear, measured = Watched(lambda x: x * stretch / 80.0), Known(known, np.zeros((1, 2)))
    made = Fitted(linear, measured, 2)(np.zeros((1, 2)), level(1), CLEAN.batch(1), {})
    start, _, first, _, _ = (np.square(known - x * stretch / 80.0).sum() for x in linear.states)
    assert first > 2 * start
    np.testing.assert_allclose(made, known, atol=1e-9)
