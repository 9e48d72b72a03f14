"""Levels are found where they are best, tried again where the search never looked, and stored only if better there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fewstep.core.levels import Level
from fewstep.core.parameterisations import Targets
from fewstep.data.toys import ring
from fewstep.generation import Model, Request, RequestError, load
from fewstep.measure.candidates import Candidate
from fewstep.measure.judges import Verdict
from fewstep.measure.subjects import DigitsSubject, EmojiSubject, Query
from fewstep.measure.tuning import (
    METRICS,
    PictureScoring,
    PointScoring,
    Scorer,
    SearchSettings,
    TunedLevels,
    check_guidance,
    present_levels,
    scoring_for,
    store,
    tune,
)
from fewstep.models.parts import ModelError
from fewstep.models.saved import SavedModel, read
from fewstep.models.writing import rewrite
from tiny_models import TinyModels, onnx

SEARCH = SearchSettings(n=200, tries=4, rounds=2)


def toy(tiny: TinyModels, directory: Path, **values: Any) -> SavedModel:
    """A copy of the untrained points model that says it is of the toy recipe."""
    return rewrite(tiny.points, replace(tiny.points.spec, recipe={"name": "toy"}, **values), directory)


class Known:
    """An estimator that jumps to the ring from one level, and the further past it the further off that level is."""

    targets, epsilon = Targets.CLEAN, 0.0

    def __init__(self, best: float) -> None:
        self.best = best

    def __call__(self, x: Any, at: Level, to: Level, cond: Any) -> Any:
        means = ring().means
        nearest = means[np.argmax(x @ means.T, axis=1)]
        off = np.abs(np.log(at.ratio / self.best)).clip(0, 3)
        return (nearest * (1 + off[:, None])).astype(np.float32)


def knowing(saved: SavedModel, best: float) -> Model:
    """A model whose best last level is known."""
    model = onnx(saved)
    model.estimator = lambda network=None: Known(best)  # type: ignore[assignment, return-value]
    return model


@pytest.mark.parametrize("best", [0.585, 4.37])
def test_the_best_level_is_found(tiny: TinyModels, tmp_path: Path, best: float) -> None:
    (row,) = tune(knowing(toy(tiny, tmp_path / "toy"), best), PointScoring(), (2,), replace(SEARCH, rounds=4))
    assert row.levels_before == (80.0, 0.002)  # Karras
    assert row.levels_found[0] == 80.0
    assert row.levels_found[1] == pytest.approx(best, rel=0.1)
    assert row.is_better
    assert row.score_found < 0.1 * row.score_before


def test_pure_noise_stays_the_first_level(tiny: TinyModels, tmp_path: Path) -> None:
    saved = toy(tiny, tmp_path / "toy", levels={3: (math.inf, 20.0, 10.0)})
    (row,) = tune(knowing(saved, 1.3), PointScoring(), (3,), replace(SEARCH, rounds=4))
    assert row.levels_before == (math.inf, 20.0, 10.0)
    assert row.levels_found[0] == math.inf
    assert 80 > row.levels_found[1] > row.levels_found[2] == pytest.approx(1.3, rel=0.1)
    changed = store(saved, [row], saved.directory)
    assert changed is not None
    assert read(saved.directory).spec.levels == {3: row.levels_found}


def test_every_set_of_levels_gets_the_same_noise_and_the_last_comparison_another(
    tiny: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[tuple[int, ...]] = []
    draw = Candidate.draw

    def watched(self: Candidate, queries: Sequence[Query], chosen: Sequence[int], batch: int) -> tuple[Any, int]:
        seeds.append(tuple(chosen))
        return draw(self, queries, chosen, batch)

    monkeypatch.setattr(Candidate, "draw", watched)
    tune(onnx(toy(tiny, tmp_path / "toy")), PointScoring(), (2,), SearchSettings(n=10, seed=7, tries=2, rounds=1))
    assert set(seeds[:-2]) == {tuple(range(7, 17))}
    assert seeds[-2:] == [tuple(range(17, 27))] * 2


@dataclass(frozen=True)
class Fickle:
    """An scoring whose fresh part likes what its first part does not."""

    liked: tuple[float, float]
    metric: str = "taste"

    def scorer(self, n: int, seed: int, part: int) -> Any:
        return SimpleNamespace(score=lambda candidate: abs(math.log(candidate.levels[1] / self.liked[part])))


def test_levels_that_are_not_better_on_fresh_noise_are_not_stored(tiny: TinyModels, tmp_path: Path) -> None:
    saved = toy(tiny, tmp_path / "toy", levels={2: (80.0, 5.0)})
    (row,) = tune(onnx(saved), Fickle((1.0, 5.0)), (2,), SEARCH)
    assert row.levels_found[1] == pytest.approx(1.0, rel=0.2)
    assert not row.is_better
    assert store(saved, [row], saved.directory) is None
    assert store(saved, [row], tmp_path / "copy") is None
    assert read(saved.directory) == saved
    assert not (tmp_path / "copy").exists()


def test_present_levels_that_nothing_beats_are_kept(tiny: TinyModels, tmp_path: Path) -> None:
    saved = toy(tiny, tmp_path / "toy", levels={2: (80.0, 1.234)})
    (row,) = tune(onnx(saved), Fickle((1.234, 1.234)), (2,), SEARCH)
    assert row.levels_found == row.levels_before
    assert not row.is_better


def row_of(steps: int, *found: float, better: bool = True) -> TunedLevels:
    return TunedLevels(steps, "taste", (80.0,) * steps, 2.0, found, 1.0 if better else 3.0)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_better_levels_are_stored_beside_those_for_other_numbers_of_steps(
    tiny: TinyModels, tmp_path: Path, elsewhere: bool
) -> None:
    saved = toy(tiny, tmp_path / "toy", levels={1: (70.0,), 2: (80.0, 5.0), 3: (80.0, 5.0, 1.0)})
    place = tmp_path / "copy" if elsewhere else saved.directory
    rows = [row_of(2, 80.0, 0.8), row_of(3, 80.0, 2.0, 0.1, better=False), row_of(4, 80.0, 3.0, 2.0, 1.0)]
    changed = store(saved, rows, place)
    assert changed is not None
    assert changed == read(place)
    levels = {1: (70.0,), 2: (80.0, 0.8), 3: (80.0, 5.0, 1.0), 4: (80.0, 3.0, 2.0, 1.0)}
    assert changed.spec == replace(saved.spec, levels=levels)
    assert changed.hash != saved.hash
    assert elsewhere == (read(saved.directory) == saved)
    assert load(place).plan(Request(seed=0, steps=4)).sampling.levels.ratio.tolist() == [80.0, 3.0, 2.0, 1.0, 0.0]


def test_levels_are_not_stored_in_a_model_that_was_trained_anew_meanwhile(tiny: TinyModels, tmp_path: Path) -> None:
    saved = toy(tiny, tmp_path / "toy")
    other = toy(tiny, tmp_path / "toy", steps=2)
    with pytest.raises(ModelError, match="has changed since it was read"):
        store(saved, [row_of(2, 80.0, 0.8)], saved.directory)
    assert read(saved.directory) == other


def test_levels_of_a_way_are_visited_instead_of_the_models_own(tiny: TinyModels) -> None:
    candidate = Candidate("model", onnx(tiny.points), 2, "consistency", levels=(math.inf, 0.7))
    assert candidate.plan([Query(0, "")], [0]).sampling.levels.ratio.tolist() == [math.inf, 0.7, 0.0]
    own = replace(candidate, levels=None).plan([Query(0, "")], [0]).sampling.levels.ratio
    assert own.tolist() == pytest.approx([80.0, 0.002, 0.0])
    assert present_levels(tiny.points.spec, 2) == (80.0, 0.002)


def test_the_distance_of_points_is_that_to_the_ring() -> None:
    scorer = PointScoring().scorer(2000, 0, 0)
    real = ring().sample(2000, np.random.default_rng(1))
    assert scorer.measure(real) < 0.03
    assert scorer.measure(real + np.float32([1.0, 0.0])) == pytest.approx(2 / np.pi, abs=0.05)
    assert scorer.measure(real) != PointScoring().scorer(2000, 0, 1).measure(real)


def test_captions_noise_and_real_pictures_of_the_fresh_part_are_others(subject: EmojiSubject) -> None:
    drawn: list[int] = []

    def real(queries: Sequence[Query], draw: int) -> Any:
        drawn.append(draw)
        return subject.real(queries, draw)

    watched: Any = SimpleNamespace(queries=subject.queries, judge=subject.judge, real=real)
    search, fresh = (PictureScoring(watched, "frechet").scorer(6, 3, part) for part in (0, 1))
    assert drawn == [1, 2, 3, 4, 5, 6, 7, 8]
    assert (search.seeds, fresh.seeds) == ([3, 4, 5, 6, 7, 8], [9, 10, 11, 12, 13, 14])
    assert search.queries != fresh.queries


@pytest.mark.parametrize("metric", METRICS)
def test_real_pictures_score_better_than_grey_by_every_metric_of_pictures(subject: EmojiSubject, metric: str) -> None:
    scorer = PictureScoring(subject, metric).scorer(24, 0, 0)
    real = subject.real(scorer.queries, 9)
    assert scorer.measure(real) < scorer.measure(np.full_like(real, 0.5))


def test_errors_are_the_share_of_captions_that_are_not_recognised() -> None:
    queries = [Query(0, name) for name in ("grapes", "melon", "banana", "lemon")]
    assert METRICS["errors"](queries, Verdict(None, ("grapes", "melon", "lemon", "banana")), None) == 0.5


def test_a_model_of_emoji_is_tuned(pair: tuple[Model, Model], subject: EmojiSubject) -> None:
    said: list[str] = []
    search = SearchSettings(n=12, tries=2, rounds=1)
    rows = tune(pair[0], PictureScoring(subject, "kid"), (3, 2), search, guidance=3.0, progress=said.append)
    assert [(row.steps, row.metric, len(row.levels_found)) for row in rows] == [(3, "kid", 3), (2, "kid", 2)]
    assert said[0] == "tiny: 12 samples for each set of levels, scored by kid"
    assert all(math.isfinite(row.score_before) and math.isfinite(row.score_found) for row in rows)


def test_levels_found_at_another_guidance_are_only_for_a_copy_that_has_it(
    pair: tuple[Model, Model], tmp_path: Path
) -> None:
    student, own = pair[0], pair[0].spec.guidance
    check_guidance(student, None, is_copied=False)
    check_guidance(student, own, is_copied=False)
    check_guidance(student, 3.5, is_copied=True)
    with pytest.raises(
        ValueError, match=r"levels found at guidance 3\.5 do not fit the model 'tiny', whose scale is"
    ):
        check_guidance(student, 3.5, is_copied=False)
    rows = [TunedLevels(2, "kid", (80.0, 1.0), 0.2, (80.0, 2.0), 0.1)]
    stored = store(student.saved, rows, tmp_path / "copy", guidance=3.5)
    assert stored is not None
    assert (stored.spec.guidance, stored.spec.levels[2]) == (3.5, (80.0, 2.0))


def test_the_metric_is_what_fits_the_model(tiny: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = onnx(toy(tiny, tmp_path / "toy"))
    assert scoring_for(points) == scoring_for(points, "wasserstein") == PointScoring()
    with pytest.raises(ValueError, match=r"metric for the model 'tiny-points' must be wasserstein, got 'kid'"):
        scoring_for(points, "kid")
    digits = DigitsSubject(8)
    monkeypatch.setattr("fewstep.measure.tuning.subject_for", lambda *asked: digits)
    pictures = onnx(tiny.teacher)
    assert scoring_for(pictures) == PictureScoring(digits, "frechet")
    assert scoring_for(pictures, "errors") == PictureScoring(digits, "errors")
    monkeypatch.setattr("fewstep.measure.tuning.subject_for", None)  # told before a judge is looked for
    with pytest.raises(ValueError, match="must be frechet or kid or errors, got 'wasserstein'"):
        scoring_for(pictures, "wasserstein")


def test_a_model_without_a_judge_is_refused(tiny: TinyModels) -> None:
    for saved in (tiny.points, tiny.student):  # points of no recipe that is known, captions of no known emoji
        with pytest.raises(ValueError, match=f"'{saved.spec.name}' cannot be evaluated: there are judges for"):
            scoring_for(onnx(saved))


def test_what_cannot_be_tuned_is_refused_before_the_work(tiny: TinyModels, tmp_path: Path) -> None:
    scoring: Any = SimpleNamespace(metric="taste")  # sets no exams
    model = onnx(toy(tiny, tmp_path / "toy", levels={2: (0.09, 0.01)}))
    for steps in ((3, 1), (17,), (0,)):
        with pytest.raises(ValueError, match=f"steps must be between 2 and 16, got {steps[-1]}"):
            tune(model, scoring, steps)
    with pytest.raises(ValueError, match="at least one number of steps"):
        tune(model, scoring, ())
    with pytest.raises(RequestError, match="no prompt or label for guidance"):
        tune(model, scoring, (3,), guidance=2.0)
    with pytest.raises(ValueError, match=r"levels for 2 steps begin at 0\.09, which is too low to search"):
        tune(model, scoring, (3, 2))


@pytest.mark.parametrize("wrong", [{"n": 1}, {"n": 100_001}, {"tries": 1}, {"rounds": 0}, {"seed": -1}, {"n": True}])
def test_an_effort_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be a whole number between"):
        SearchSettings(**wrong)


def test_an_exam_can_be_taken_in_batches_of_any_size(tiny: TinyModels, tmp_path: Path) -> None:
    scorer = PointScoring().scorer(30, 0, 0)
    candidate = Candidate("model", onnx(toy(tiny, tmp_path / "toy")), 2, "consistency", levels=(80.0, 1.0))
    assert isinstance(scorer, Scorer)
    assert scorer.score(candidate, batch=7) == pytest.approx(scorer.score(candidate, batch=30), rel=1e-4)
