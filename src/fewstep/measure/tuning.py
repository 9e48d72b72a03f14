"""Search the levels of few-step sampling for one model by a metric, and validate them on captions, noise and real
data that the search never saw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fewstep.core.randomness import check_seed, derive
from fewstep.data.toys import ring
from fewstep.generation.model import Model
from fewstep.measure import metrics
from fewstep.measure.candidates import Candidate
from fewstep.measure.evaluate import MAX_N, REFERENCES
from fewstep.measure.judges import Verdict
from fewstep.measure.level_search import best_levels
from fewstep.measure.subjects import Query, Subject, matches, subject_for
from fewstep.models.saved import SavedModel
from fewstep.models.spec import ModelSpec
from fewstep.models.writing import rewrite

MAX_STEPS = 16
SIGMA_MIN = 0.05
"""The lowest σ/α tried."""

Metric = Callable[[Sequence[Query], Verdict, Any], float]
"""The score to minimise, from queries, the verdict on their pictures, and features of real pictures [r, n, d]."""


def _frechet(queries: Sequence[Query], verdict: Verdict, references: Any) -> float:
    return metrics.frechet_distance(verdict.features, np.concatenate(references))


def _kid(queries: Sequence[Query], verdict: Verdict, references: Any) -> float:
    return metrics.kid(verdict.features, references)[0]


def _errors(queries: Sequence[Query], verdict: Verdict, references: Any) -> float:
    return 1 - float(matches(queries, verdict).mean())


METRICS: Mapping[str, Metric] = {"frechet": _frechet, "kid": _kid, "errors": _errors}
"""The metrics of pictures; `errors` is the share of pictures that the judge does not recognise as asked for."""


@dataclass(frozen=True)
class Scorer:
    """Scores candidates on the same queries from the same noise.

    Args:
        queries, seeds: one of each for each sample.
        measure: function from samples to the score to minimise.
    """

    queries: Sequence[Query]
    seeds: Sequence[int]
    measure: Callable[[Any], float] = field(repr=False)

    def score(self, candidate: Candidate, batch: int = 50) -> float:
        """The score of a candidate's samples."""
        return self.measure(candidate.draw(self.queries, self.seeds, batch)[0])


class Scoring(Protocol):
    """Makes scorers; each part has queries, noise and real data that no other part uses."""

    @property
    def metric(self) -> str: ...

    def scorer(self, n: int, seed: int, part: int) -> Scorer: ...


@dataclass(frozen=True)
class PictureScoring:
    """Scoring of pictures by a judge.

    Args:
        subject: the queries and their judge.
        metric: one of METRICS.
    """

    subject: Subject
    metric: str

    def scorer(self, n: int, seed: int, part: int) -> Scorer:
        seeds = _seeds(n, seed, part)
        queries = self.subject.queries(n, seeds[0])
        draws = _draws(part)
        real = np.stack([self.subject.judge(self.subject.real(queries, draw)).features for draw in draws])
        return Scorer(queries, seeds, lambda pixels: METRICS[self.metric](queries, self.subject.judge(pixels), real))


@dataclass(frozen=True)
class PointScoring:
    """Scoring of points in the plane by their sliced Wasserstein distance to the ring of `fewstep train toy`."""

    metric: str = "wasserstein"

    def scorer(self, n: int, seed: int, part: int) -> Scorer:
        rngs = [np.random.Generator(np.random.Philox(derive("points", seed, draw))) for draw in _draws(part)]
        real = [ring().sample(n, rng) for rng in rngs]

        def measure(points: Any) -> float:
            return float(np.mean([metrics.sliced_wasserstein(points, others) for others in real]))

        return Scorer([Query(0, "")] * n, _seeds(n, seed, part), measure)


def _seeds(n: int, seed: int, part: int) -> list[int]:
    return [seed + part * n + i for i in range(n)]


def _draws(part: int) -> range:
    return range(1 + part * REFERENCES, 1 + (part + 1) * REFERENCES)


def scoring_for(
    model: Model, metric: str | None = None, recogniser: Path | None = None, threads: int | None = None
) -> Scoring:
    """The scoring that fits a model: points of the toy recipe, or pictures for which there is a judge.

    Args:
        model: the model whose levels are searched.
        metric: wasserstein for points, one of METRICS for pictures; None for the default.
        recogniser, threads: as for `subject_for`.

    Raises:
        RecogniserError, DataError, ValueError: as for `subject_for`, or the metric does not fit the model.
    """
    if model.spec.pixel_format == "points" and model.spec.recipe.get("name") == "toy":
        return PointScoring(_fitting(model, metric, [PointScoring.metric]))
    fitting = _fitting(model, metric, list(METRICS))
    return PictureScoring(subject_for(model, recogniser, threads), fitting)


def _fitting(model: Model, metric: str | None, known: Sequence[str]) -> str:
    if metric not in (None, *known):
        raise ValueError(f"metric for the model '{model.name}' must be {' or '.join(known)}, got '{metric}'")
    return metric or known[0]


@dataclass(frozen=True)
class SearchSettings:
    """How much to try.

    Args:
        n: captions or points that each set of levels is scored on.
        seed: seed of captions and noise.
        tries: values tried for a level in each round.
        rounds: number of rounds; each searches within the spacing of the round before.
    """

    n: int = 500
    seed: int = 0
    tries: int = 6
    rounds: int = 3

    def __post_init__(self) -> None:
        for name, low, high in (("n", 2, MAX_N), ("tries", 2, 100), ("rounds", 1, 10)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f"{name} must be a whole number between {low} and {high}, got {value}")
        check_seed(self.seed)
        check_seed(self.seed + 2 * self.n)


@dataclass(frozen=True)
class TunedLevels:
    """Result for one number of steps: the model's current levels and those found, both scored on held-out data.

    Args:
        metric: name of the metric of both scores; lower is better.
        levels_before, levels_found: the σ/α visited before clean.
    """

    steps: int
    metric: str
    levels_before: tuple[float, ...]
    score_before: float
    levels_found: tuple[float, ...]
    score_found: float

    @property
    def is_better(self) -> bool:
        return self.score_found < self.score_before


def tune(
    model: Model,
    scoring: Scoring,
    steps: Sequence[int] = (2, 3, 4),
    settings: SearchSettings | None = None,
    guidance: float | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> list[TunedLevels]:
    """Search for the best levels for each number of steps; the first level stays the model's own.

    Args:
        model: the model to tune, with its own sampler.
        scoring: how levels are scored (`scoring_for`).
        steps: numbers of steps, 2 … 16.
        settings: how much to try.
        guidance: guidance scale; None for the model's own.
        progress: called with a line of text for each step of the work.

    Raises:
        ValueError: steps are out of range, or the model's levels begin too low for a search.
        RequestError: the model does not accept this guidance.
    """
    settings = settings or SearchSettings()
    check_steps(steps)
    candidates = [Candidate("model", model, number, model.spec.sampler, guidance) for number in dict.fromkeys(steps)]
    for candidate in candidates:
        _check(candidate)  # report mistakes before minutes of work
    progress(f"{model.name}: {settings.n} samples for each set of levels, scored by {scoring.metric}")
    search, fresh = (scoring.scorer(settings.n, settings.seed, part) for part in (0, 1))
    rows = []
    for candidate in candidates:
        before = present_levels(model.spec, candidate.steps)
        after = _searched(candidate, search, settings, before, progress)
        scores = [fresh.score(replace(candidate, levels=levels)) for levels in (before, after)]
        rows.append(TunedLevels(candidate.steps, scoring.metric, before, scores[0], after, scores[1]))
        progress(
            f"{candidate.steps} steps: {as_text(after)} on fresh noise {scores[1]:.5g}, "
            f"the current ones {scores[0]:.5g}"
        )
    return rows


def check_steps(steps: Sequence[int]) -> None:
    """Raise ValueError unless these are numbers of steps with levels to search: 2 … 16."""
    for number in steps:
        if not 2 <= number <= MAX_STEPS:
            raise ValueError(f"steps must be between 2 and {MAX_STEPS}, got {number}")
    if not steps:
        raise ValueError("steps must name at least one number of steps")


def check_guidance(model: Model, guidance: float | None, is_copied: bool) -> None:
    """Raise if the model does not accept this scale, or if levels found at it cannot be stored in the model.

    Raises:
        RequestError, ValueError: the scale does not fit.
    """
    Candidate("model", model, model.spec.steps, model.spec.sampler, guidance).plan([Query(0, "")], [0])
    if guidance not in (None, model.spec.guidance) and not is_copied:
        own = "1" if model.spec.guidance is None else f"{model.spec.guidance:g}"
        raise ValueError(
            f"levels found at guidance {guidance:g} do not fit the model '{model.name}', whose scale is {own}: "
            "give --out for a copy with this scale"
        )


def _check(candidate: Candidate) -> None:
    candidate.plan([Query(0, "")], [0])
    first = present_levels(candidate.model.spec, candidate.steps)[0]
    if first < 2 * SIGMA_MIN:
        raise ValueError(
            f"levels for {candidate.steps} steps begin at {first:g}, which is too low to search: they must begin at "
            f"{2 * SIGMA_MIN:g} or above"
        )


def _searched(
    candidate: Candidate,
    scorer: Scorer,
    settings: SearchSettings,
    before: tuple[float, ...],
    progress: Callable[[str], None],
) -> tuple[float, ...]:
    def score(levels: tuple[float, ...]) -> float:
        value = scorer.score(replace(candidate, levels=levels))
        progress(f"{candidate.steps} steps: {as_text(levels)} gives {value:.5g}")
        return value

    return best_levels(score, candidate.steps, before[0], SIGMA_MIN, settings.tries, settings.rounds, before)[0]


def present_levels(spec: ModelSpec, steps: int) -> tuple[float, ...]:
    """The σ/α that a model visits before clean, rounded."""
    return tuple(round(float(ratio), 9) for ratio in spec.grid(steps).ratio[:-1])


def as_text(levels: Sequence[float]) -> str:
    """Levels as text, such as "80, 1.3"."""
    return ", ".join(f"{ratio:.3g}" for ratio in levels)


def store(
    saved: SavedModel, rows: Sequence[TunedLevels], directory: Path, guidance: float | None = None
) -> SavedModel | None:
    """Save a model with the levels that are better; its levels for other numbers of steps are kept.

    Args:
        saved: the model that was tuned.
        rows: results of the search.
        directory: the model's own directory, or another for a copy.
        guidance: the scale it was tuned at, which becomes its default; None to keep the default.

    Returns:
        The model with its new levels; None if none are better, in which case nothing is written.

    Raises:
        ModelError: as for `rewrite`.
    """
    better = {row.steps: row.levels_found for row in rows if row.is_better}
    if not better:
        return None
    spec = replace(saved.spec, levels={**saved.spec.levels, **better})
    return rewrite(saved, spec if guidance is None else replace(spec, guidance=guidance), directory)
