"""Milliseconds per picture, measured for all candidates in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence

from fewstep.measure.candidates import Candidate
from fewstep.measure.subjects import Query

BATCHES = (1, 16)
ROUNDS = {1: 9, 16: 5}


def time_in_turn(
    candidates: Sequence[Candidate],
    queries: Sequence[Query],
    batches: Sequence[int] = BATCHES,
    rounds: Mapping[int, int] = ROUNDS,
) -> list[dict[int, float]]:
    """Median milliseconds per picture by batch size, one entry per candidate.

    Every round runs each candidate in turn, so that a slow phase of the machine affects all of them. A candidate with
    few steps runs three times per turn, so that one run is not affected by what the previous candidate left in the
    caches.
    """
    results: list[dict[int, float]] = [{} for _ in candidates]
    for batch in batches:
        chosen = [queries[i % len(queries)] for i in range(batch)]
        plans = [candidate.plan(chosen, range(batch)) for candidate in candidates]
        spent: list[list[float]] = [[] for _ in candidates]
        for turn in range(1 + rounds.get(batch, 5)):
            for candidate, plan, times in zip(candidates, plans, spent, strict=True):
                for _ in range(3 if candidate.steps <= 4 else 1):
                    start = time.perf_counter()
                    candidate.run(plan)
                    if turn:  # the first turn warms up
                        times.append(1000 * (time.perf_counter() - start) / batch)
        for result, times in zip(results, spent, strict=True):
            result[batch] = statistics.median(times)
    return results
