"""Search for the best intermediate levels of few-step sampling, one level at a time.

Published levels differ by model (σ/α of 0.585 to 4.37 between two steps), so they are searched: the score is that of
samples from fixed noise, and each level is tried at ever finer spacings between its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

Score = Callable[[tuple[float, ...]], float]
"""The score to minimise, as a function of the σ/α visited before clean."""

HIGHEST = 80.0
"""The highest σ/α tried after pure noise."""


def best_levels(
    score: Score,
    steps: int,
    sigma_max: float = 80.0,
    sigma_min: float = 0.05,
    tries: int = 6,
    rounds: int = 3,
    start: Sequence[float] = (),
) -> tuple[tuple[float, ...], float]:
    """Search for the best levels of `steps` steps, the first of which is sigma_max.

    Args:
        score: called once for each set of levels.
        steps: number of steps, at least 1; with 1 there is nothing to search.
        sigma_max, sigma_min: bounds of the levels; after pure noise (infinity) the levels stay below 80.
        tries: values tried for a level in each round.
        rounds: number of rounds; each searches within the spacing of the round before.
        start: levels to start from if they score better than evenly spaced ones.

    Returns:
        The levels in descending order, and their score.
    """
    if steps < 1 or tries < 2 or rounds < 1:
        raise ValueError(f"need steps ≥ 1, tries ≥ 2 and rounds ≥ 1, got {steps}, {tries} and {rounds}")
    highest = HIGHEST if sigma_max == math.inf else sigma_max
    if not 0 < sigma_min < highest:
        raise ValueError(f"need 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}")
    if start and (len(start) != steps or start[0] != sigma_max):
        raise ValueError(f"start must be {steps} levels from {sigma_max:g}, got {list(start)}")
    known: dict[tuple[float, ...], float] = {}

    def scored(levels: tuple[float, ...]) -> float:
        if levels not in known:
            known[levels] = score(levels)
        return known[levels]

    between = np.geomspace(highest, sigma_min, steps + 1)[1:-1]
    even = (float(sigma_max), *(float(f"{ratio:.3g}") for ratio in between))
    best = min([even, tuple(start) or even], key=scored)
    reach = math.log(highest / sigma_min)
    for _ in range(rounds):
        for index in range(1, steps):
            best = min(_moved(best, index, reach, (sigma_min, highest), tries), key=scored)
        reach = 2 * reach / (tries + 1)
    return best, scored(best)


def _moved(
    levels: tuple[float, ...], index: int, reach: float, ends: tuple[float, float], tries: int
) -> list[tuple[float, ...]]:
    """The levels themselves, and copies with one of them moved, within its neighbours, the bounds of the search, and
    `reach` in the logarithm."""
    here = math.log(levels[index])
    cleaner = levels[index + 1] if index + 1 < len(levels) else ends[0]
    below = max(math.log(max(cleaner, ends[0])), here - reach)
    above = min(math.log(min(levels[index - 1], ends[1])), here + reach)
    places = np.exp(np.linspace(below, above, tries + 2)[1:-1])
    moved = [(*levels[:index], float(f"{place:.3g}"), *levels[index + 1 :]) for place in places]
    return [levels, *(new for new in moved if all(a > b for a, b in pairwise(new)))]
