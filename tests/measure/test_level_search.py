"""The search finds the lowest score between the ends, asks for no set of levels twice, and keeps them falling."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from fewstep.measure.level_search import best_levels


def bowl(*centres: float):
    asked: list[tuple[float, ...]] = []

    def score(levels: tuple[float, ...]) -> float:
        asked.append(levels)
        return sum(
            (math.log(level) - math.log(centre)) ** 2 for level, centre in zip(levels[1:], centres, strict=True)
        )

    return score, asked


@pytest.mark.parametrize("centres", [(0.821,), (4.37,), (6.0, 0.3), (10.0, 2.0, 0.6)])
def test_the_lowest_score_is_found(centres: tuple[float, ...]) -> None:
    score, asked = bowl(*centres)
    levels, lowest = best_levels(score, len(centres) + 1, rounds=5)
    assert levels[0] == 80.0
    assert levels[1:] == pytest.approx(centres, rel=0.1)
    assert lowest == min(map(bowl(*centres)[0], asked))
    assert len(set(asked)) == len(asked)
    assert all(a > b for tried in asked for a, b in pairwise(tried))


def test_a_score_with_two_valleys_is_searched_over_the_whole_range_first() -> None:
    def score(levels: tuple[float, ...]) -> float:
        place = math.log(levels[1])
        return min((place - math.log(0.2)) ** 2, (place - math.log(30)) ** 2 - 0.5)

    assert best_levels(score, 2)[0][1] == pytest.approx(30, rel=0.15)


def test_one_step_has_nothing_to_search() -> None:
    assert best_levels(lambda levels: levels[0], 1) == ((80.0,), 80.0)


@pytest.mark.parametrize("centres", [(0.821,), (10.0, 2.0, 0.6), (70.0, 0.07)])
def test_after_pure_noise_the_search_goes_on_below_80(centres: tuple[float, ...]) -> None:
    score, asked = bowl(*centres)
    levels, _ = best_levels(score, len(centres) + 1, sigma_max=math.inf, rounds=5)
    assert levels[0] == math.inf
    assert levels[1:] == pytest.approx(centres, rel=0.1)
    assert all(tried[0] == math.inf and tried[1] < 80 for tried in asked)


def test_the_search_begins_with_given_levels_where_they_are_better() -> None:
    """Of two valleys it then finds the one that the given levels lie in, however narrow."""

    def score(levels: tuple[float, ...]) -> float:
        place = math.log(levels[1])
        return min((place - math.log(30)) ** 2, 1e4 * (place - math.log(0.21)) ** 2 - 1)

    assert best_levels(score, 2)[0][1] == pytest.approx(30, rel=0.05)
    assert best_levels(score, 2, start=(80.0, 0.21))[0] == (80.0, 0.21)
    assert best_levels(score, 2, start=(80.0, 0.002))[0][1] == pytest.approx(30, rel=0.05)


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"tries": 1}, {"rounds": 0}, {"sigma_min": 80.0}, {"sigma_min": 0.0}, {"sigma_max": -math.inf}],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="need"):
        best_levels(lambda levels: 0.0, **{"steps": 2, **wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize("start", [(80.0,), (80.0, 2.0, 1.0), (70.0, 2.0)])
def test_levels_to_begin_with_that_are_others_are_refused(start: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="start must be 2 levels from 80, got"):
        best_levels(lambda levels: 0.0, 2, start=start)
