"""The best intermediate levels of few-step sampling, by a search along each in turn.

Published ones differ by model (σ/α of 0.585 to 4.37 between two steps), so they are looked for: the score is that of
samples from fixed noise, and each level is tried at ever closer places between its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np

Score = Callable[[tuple[float, ...]], float]
"""What is to be small, of the σ/α that are visited before clean."""


def best_levels(
    score: Score,
    steps: int,
    sigma_max: float = 80.0,
    sigma_min: float = 0.05,
    tries: int = 6,
    rounds: int = 3,
) -> tuple[tuple[float, ...], float]:
    """Search the levels of `steps` steps, the first of them sigma_max.

    Args:
        score: called for each set of levels once.
        steps: at least 1; with 1 there is nothing to search.
        sigma_max, sigma_min: between which the levels lie.
        tries: places of a level in each round.
        rounds: each looks within the spacing of the one before.

    Returns:
        The levels, falling, and their score.
    """
    if steps < 1 or tries < 2 or rounds < 1:
        raise ValueError(f"need steps ≥ 1, tries ≥ 2 and rounds ≥ 1, got {steps}, {tries} and {rounds}")
    if not 0 < sigma_min < sigma_max < math.inf:
        raise ValueError(f"need 0 < sigma_min < sigma_max < ∞, got {sigma_min} and {sigma_max}")
    known: dict[tuple[float, ...], float] = {}

    def scored(levels: tuple[float, ...]) -> float:
        if levels not in known:
            known[levels] = score(levels)
        return known[levels]

    ends = np.geomspace(sigma_max, sigma_min, steps + 1)
    best = tuple(float(f"{ratio:.3g}") for ratio in ends[:-1])
    reach = math.log(sigma_max / sigma_min)
    for _ in range(rounds):
        for index in range(1, steps):
            best = min(_moved(best, index, reach, sigma_min, tries), key=scored)
        reach = 2 * reach / (tries + 1)
    return best, scored(best)


def _moved(
    levels: tuple[float, ...], index: int, reach: float, sigma_min: float, tries: int
) -> list[tuple[float, ...]]:
    """The levels, and with one of them at other places: within its neighbours and `reach` in the logarithm."""
    here = math.log(levels[index])
    above = min(math.log(levels[index - 1]), here + reach)
    below = max(math.log(levels[index + 1] if index + 1 < len(levels) else sigma_min), here - reach)
    places = np.exp(np.linspace(below, above, tries + 2)[1:-1])
    moved = [(*levels[:index], float(f"{place:.3g}"), *levels[index + 1 :]) for place in places]
    return [levels, *(new for new in moved if all(a > b for a, b in pairwise(new)))]
