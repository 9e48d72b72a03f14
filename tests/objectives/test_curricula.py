from __future__ import annotations

import math

import numpy as np
import pytest

from fewstep.objectives.curricula import (
    Clock,
    EctGap,
    cosine_decay,
    ct_levels,
    ct_target_decay,
    ict_levels,
    linear_warmup,
)
from subjects import tensor

STEPS = 400_000


def _along(curriculum, points: int = 801) -> list[float]:
    return [curriculum(Clock(round(k), STEPS)) for k in np.linspace(0, STEPS, points)]


def test_the_clock_counts_from_0_to_1_and_no_further() -> None:
    assert [Clock(k, 10).fraction for k in (0, 5, 10, 11)] == [0.0, 0.5, 1.0, 1.0]
    assert Clock(0, 0).fraction == 0.0


@pytest.mark.parametrize("s1", [150, 200])
def test_ct_begins_with_s0_levels_ends_with_s1_plus_1_and_never_falls(s1: int) -> None:
    counts = _along(lambda clock: ct_levels(clock, s1=s1))
    assert counts[0] == 2
    assert counts[-1] == s1 + 1
    assert (np.diff(counts) >= 0).all()


@pytest.mark.parametrize(("k", "expected"), [(1, 3), (100_000, 76), (200_000, 107), (300_000, 131)])
def test_ct_levels_are_the_papers(k: int, expected: int) -> None:
    """⌈√(k/K·(151² − 2²) + 2²) − 1⌉ + 1, worked out by hand: √(22 797/4 + 4) = 75.52 and so on."""
    assert ct_levels(Clock(k, STEPS)) == expected


def test_ct_target_decay_begins_at_mu0_and_tends_to_1() -> None:
    decays = _along(ct_target_decay)
    assert decays[0] == pytest.approx(0.9)
    assert decays[-1] == pytest.approx(math.exp(2 * math.log(0.9) / 151))
    assert (np.diff(decays) >= 0).all()
    assert ct_target_decay(Clock(0, STEPS), mu0=0.95) == pytest.approx(0.95)


def test_ict_doubles_from_11_to_1281_in_eight_equal_parts() -> None:
    counts = [ict_levels(Clock(k, STEPS)) for k in range(0, STEPS, STEPS // 8)]
    assert counts == [11, 21, 41, 81, 161, 321, 641, 1281]
    assert ict_levels(Clock(STEPS // 8 - 1, STEPS)) == 11
    assert ict_levels(Clock(STEPS, STEPS)) == 1281
    assert (np.diff(_along(ict_levels)) >= 0).all()


def test_ict_survives_a_training_shorter_than_its_stages() -> None:
    assert ict_levels(Clock(0, 3)) == 11
    assert ict_levels(Clock(10**6, 3)) == 1281


def test_ect_stages_divide_training_equally() -> None:
    gap = EctGap(stages=4)
    assert [gap.stage(Clock(k, 8)) for k in range(9)] == [0, 0, 1, 1, 2, 2, 3, 3, 3]
    assert EctGap(stages=4, first=2).stage(Clock(0, 8)) == 2
    assert gap.shrink(Clock(0, 8)) == 0.5
    assert gap.shrink(Clock(8, 8)) == 2.0**-4
    assert EctGap(q=256.0, stages=1).shrink(Clock(0, 8)) == 1 / 256


@pytest.mark.parametrize("kind", [np.asarray, tensor])
def test_ect_gap_is_the_papers(kind) -> None:
    """r = t·max(0, 1 − n(t)/q^a), n(t) = 1 + 8·sigmoid(−t)."""
    t, clock, gap = np.array([0.0, 0.01, 1.0, 3.0, 80.0, 1e4]), Clock(5, 8), EctGap(q=2.0, stages=8)
    n = np.array([5.0, 1 + 8 / (1 + math.exp(0.01)), 1 + 8 / (1 + math.e), 1 + 8 / (1 + math.exp(3)), 1.0, 1.0])
    np.testing.assert_allclose(np.asarray(gap.lower(kind(t), clock)), t * np.maximum(0, 1 - n / 2**6), atol=1e-12)


def test_ect_begins_as_diffusion_and_its_gap_only_shrinks() -> None:
    t, gap = np.geomspace(0.01, 80.0, 50), EctGap()
    lower = np.array([gap.lower(t, Clock(k, 8)) for k in range(8)])
    assert (lower[0][t < 1.0] == 0).all()
    assert (np.diff(lower, axis=0) >= 0).all()
    assert (lower < t).all()
    assert (lower[-1] > 0.96 * t).all()


def test_warmup_rises_to_1_and_stays() -> None:
    assert [linear_warmup(Clock(k, 10), 4) for k in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert linear_warmup(Clock(0, 10), 0) == 1.0


def test_cosine_decay_holds_then_falls_to_its_floor() -> None:
    values = [cosine_decay(Clock(k, 100), start=0.5, floor=0.1) for k in range(101)]
    assert values[:51] == [1.0] * 51
    assert values[75] == pytest.approx(0.55)
    assert values[100] == pytest.approx(0.1)
    assert (np.diff(values) <= 0).all()
    assert cosine_decay(Clock(5, 5), start=1.0) == 1.0


def test_ict_needs_as_many_levels_at_its_end_as_at_its_start() -> None:
    with pytest.raises(ValueError, match="need 1 <= s0 <= s1, got 10 and 4"):
        ict_levels(Clock(0, 10), s0=10, s1=4)
