"""The levels of few-step sampling, searched for one model by a metric, and tried again on captions, noise and real
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
from fewstep.measure.evaluate import MAX_N, REFERENCES, Way
from fewstep.measure.judges import Verdict
from fewstep.measure.levels import best_levels
from fewstep.measure.subjects import Ask, Subject, answered, subject_for
from fewstep.models.saved import SavedModel
from fewstep.models.spec import ModelSpec
from fewstep.models.writing import rewrite

MAX_STEPS = 16
SIGMA_MIN = 0.05
"""The lowest σ/α that is tried."""

Metric = Callable[[Sequence[Ask], Verdict, Any], float]
"""What is to be small: of captions, what the judge says of their pictures, and real pictures' features [r, n, d]."""


def _frechet(asks: Sequence[Ask], verdict: Verdict, references: Any) -> float:
    return metrics.frechet_distance(verdict.features, np.concatenate(references))


def _kid(asks: Sequence[Ask], verdict: Verdict, references: Any) -> float:
    return metrics.kid(verdict.features, references)[0]


def _errors(asks: Sequence[Ask], verdict: Verdict, references: Any) -> float:
    return 1 - float(answered(asks, verdict).mean())


METRICS: Mapping[str, Metric] = {"frechet": _frechet, "kid": _kid, "errors": _errors}
"""Of pictures; `errors` is the share of captions that the judge does not read off them."""


@dataclass(frozen=True)
class Exam:
    """The same requests from the same noise, for any levels.

    Args:
        asks, seeds: one of each a sample.
        measure: samples to what is to be small.
    """

    asks: Sequence[Ask]
    seeds: Sequence[int]
    measure: Callable[[Any], float] = field(repr=False)

    def score(self, way: Way, batch: int = 50) -> float:
        """What is to be small, of what a way draws."""
        return self.measure(way.draw(self.asks, self.seeds, batch)[0])


class Examiner(Protocol):
    """Sets exams, each part with requests, noise and real data that no other part has."""

    @property
    def metric(self) -> str: ...

    def exam(self, n: int, seed: int, part: int) -> Exam: ...


@dataclass(frozen=True)
class PictureExaminer:
    """Of pictures, by a judge.

    Args:
        subject: what is asked and who judges.
        metric: one of METRICS.
    """

    subject: Subject
    metric: str

    def exam(self, n: int, seed: int, part: int) -> Exam:
        seeds = _seeds(n, seed, part)
        asks = self.subject.asks(n, seeds[0])
        draws = _draws(part)
        real = np.stack([self.subject.judge(self.subject.real(asks, draw)).features for draw in draws])
        return Exam(asks, seeds, lambda pixels: METRICS[self.metric](asks, self.subject.judge(pixels), real))


@dataclass(frozen=True)
class PointExaminer:
    """Of points in the plane, by their sliced Wasserstein distance to the ring of `fewstep train toy`."""

    metric: str = "wasserstein"

    def exam(self, n: int, seed: int, part: int) -> Exam:
        rngs = [np.random.Generator(np.random.Philox(derive("points", seed, draw))) for draw in _draws(part)]
        real = [ring().sample(n, rng) for rng in rngs]

        def measure(points: Any) -> float:
            return float(np.mean([metrics.sliced_wasserstein(points, others) for others in real]))

        return Exam([Ask(0, "")] * n, _seeds(n, seed, part), measure)


def _seeds(n: int, seed: int, part: int) -> list[int]:
    return [seed + part * n + i for i in range(n)]


def _draws(part: int) -> range:
    return range(1 + part * REFERENCES, 1 + (part + 1) * REFERENCES)


def examiner_for(
    model: Model, metric: str | None = None, recogniser: Path | None = None, threads: int | None = None
) -> Examiner:
    """The examiner that fits a model: of the toy recipe's points, or of pictures that have a judge.

    Args:
        model: who will be examined.
        metric: wasserstein for points, one of METRICS for pictures; None for the first that fits.
        recogniser, threads: as for `subject_for`.

    Raises:
        RecogniserError, DataError, ValueError: as `subject_for`; or the metric does not fit the model.
    """
    if model.spec.pixel_format == "points" and model.spec.recipe.get("name") == "toy":
        return PointExaminer(_fitting(model, metric, [PointExaminer.metric]))
    fitting = _fitting(model, metric, list(METRICS))
    return PictureExaminer(subject_for(model, recogniser, threads), fitting)


def _fitting(model: Model, metric: str | None, known: Sequence[str]) -> str:
    if metric not in (None, *known):
        raise ValueError(f"metric of the model '{model.name}' must be {' or '.join(known)}, got '{metric}'")
    return metric or known[0]


@dataclass(frozen=True)
class Effort:
    """How much is tried.

    Args:
        n: captions or points that each set of levels is scored on.
        seed: of captions and noise.
        tries: places of a level in each round.
        rounds: each looks within the spacing of the one before.
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
class Tuned:
    """One number of steps: the model's present levels and those found, both scored where the search never looked.

    Args:
        metric: what the scores are, both to be small.
        levels_before, levels_found: σ/α visited before clean.
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
    examiner: Examiner,
    steps: Sequence[int] = (2, 3, 4),
    effort: Effort | None = None,
    guidance: float | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> list[Tuned]:
    """Search the best levels for each number of steps; the first level stays the model's own.

    Args:
        model: with its own sampler.
        examiner: who scores (`examiner_for`).
        steps: numbers of steps, 2 … 16.
        effort: how much is tried.
        guidance: None for the model's own.
        say: told what happens.

    Raises:
        ValueError: steps out of range, or a model whose levels begin too low for a search.
        RequestError: guidance that the model does not take.
    """
    effort = effort or Effort()
    check_steps(steps)
    ways = [Way("model", model, number, model.spec.sampler, guidance) for number in dict.fromkeys(steps)]
    for way in ways:
        _check(way)  # a mistake must show before minutes of work
    say(f"{model.name}: {effort.n} samples for each set of levels, scored by {examiner.metric}")
    search, fresh = (examiner.exam(effort.n, effort.seed, part) for part in (0, 1))
    rows = []
    for way in ways:
        before = present_levels(model.spec, way.steps)
        after = _searched(way, search, effort, before, say)
        scores = [fresh.score(replace(way, levels=levels)) for levels in (before, after)]
        rows.append(Tuned(way.steps, examiner.metric, before, scores[0], after, scores[1]))
        say(f"{way.steps} steps: {as_text(after)} on fresh noise {scores[1]:.5g}, the present ones {scores[0]:.5g}")
    return rows


def check_steps(steps: Sequence[int]) -> None:
    """Raise ValueError unless these are numbers of steps that have levels to search: 2 … 16."""
    for number in steps:
        if not 2 <= number <= MAX_STEPS:
            raise ValueError(f"steps must be between 2 and {MAX_STEPS}, got {number}")
    if not steps:
        raise ValueError("steps must name at least one number of steps")


def check_guidance(model: Model, guidance: float | None, is_copied: bool) -> None:
    """Raise for a scale that the model does not take, or whose levels would not fit where they are to be stored.

    Raises:
        RequestError, ValueError.
    """
    Way("model", model, model.spec.steps, model.spec.sampler, guidance).plan([Ask(0, "")], [0])
    if guidance not in (None, model.spec.guidance) and not is_copied:
        own = "1" if model.spec.guidance is None else f"{model.spec.guidance:g}"
        raise ValueError(
            f"levels found at guidance {guidance:g} are not for the model '{model.name}', whose scale is {own}: "
            "give --out for a copy that has this scale"
        )


def _check(way: Way) -> None:
    way.plan([Ask(0, "")], [0])
    first = present_levels(way.model.spec, way.steps)[0]
    if first < 2 * SIGMA_MIN:
        raise ValueError(
            f"levels for {way.steps} steps begin at {first:g}: below {2 * SIGMA_MIN:g} nothing is searched"
        )


def _searched(
    way: Way, exam: Exam, effort: Effort, before: tuple[float, ...], say: Callable[[str], None]
) -> tuple[float, ...]:
    def score(levels: tuple[float, ...]) -> float:
        value = exam.score(replace(way, levels=levels))
        say(f"{way.steps} steps: {as_text(levels)} gives {value:.5g}")
        return value

    return best_levels(score, way.steps, before[0], SIGMA_MIN, effort.tries, effort.rounds, before)[0]


def present_levels(spec: ModelSpec, steps: int) -> tuple[float, ...]:
    """The σ/α that a model visits before clean, without the last digits of a formula's."""
    return tuple(round(float(ratio), 9) for ratio in spec.grid(steps).ratio[:-1])


def as_text(levels: Sequence[float]) -> str:
    """Levels to be read: 80, 1.3."""
    return ", ".join(f"{ratio:.3g}" for ratio in levels)


def store(
    saved: SavedModel, rows: Sequence[Tuned], directory: Path, guidance: float | None = None
) -> SavedModel | None:
    """Save a model with the levels that are better; those for other numbers of steps stay.

    Args:
        saved: the model that was tuned.
        rows: what was found.
        directory: its own, or another for a copy.
        guidance: the scale it was tuned at, which becomes its own; None where it was.

    Returns:
        The model with its new levels; None where none are better, and then nothing is written.

    Raises:
        ModelError: as `rewrite`.
    """
    better = {row.steps: row.levels_found for row in rows if row.is_better}
    if not better:
        return None
    spec = replace(saved.spec, levels={**saved.spec.levels, **better})
    return rewrite(saved, spec if guidance is None else replace(spec, guidance=guidance), directory)
