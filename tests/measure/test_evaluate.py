"""A whole evaluation of untrained models, and of a stand-in that draws the right pictures."""

from __future__ import annotations

import json
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fewstep.cli.evaluate import evaluate as command
from fewstep.cli.evaluate import parse_steps
from fewstep.core.parameterisations import Targets
from fewstep.generation import Model, RequestError, load
from fewstep.measure.candidates import Candidate
from fewstep.measure.evaluate import EvaluationRow, EvaluationSettings, _Evaluation, evaluate
from fewstep.measure.judges import Verdict
from fewstep.measure.metrics import Share, sharpness
from fewstep.measure.report import as_dicts, ratios, table
from fewstep.measure.subjects import DigitsSubject, EmojiSubject, Query
from fewstep.measure.teachers import teacher_of
from fewstep.measure.timing import time_in_turn
from judging import tiny_model

SETTINGS = EvaluationSettings(n=10, batch=4, held_out=4, diverse=(3, 2), timing=False)


@pytest.fixture(scope="module")
def rows(pair: tuple[Model, Model], subject: EmojiSubject) -> list[EvaluationRow]:
    return evaluate(*pair, subject, steps=(1, 2), settings=SETTINGS)


def test_rows_are_real_pictures_the_teacher_its_denoise_and_the_model_by_steps(rows: list[EvaluationRow]) -> None:
    assert [(r.who, r.sampler, r.steps, r.evaluations, r.guidance) for r in rows] == [
        ("real", None, None, None, None),
        ("teacher", "heun", 3, 10, 2.0),  # five evaluations, twice for guidance
        ("denoise", "euler", 1, 2, 2.0),
        ("model", "consistency", 1, 1, 2.0),
        ("model", "consistency", 2, 2, 2.0),
    ]


def test_real_pictures_are_right_near_themselves_and_as_sharp_as_themselves(rows: list[EvaluationRow]) -> None:
    real, *others = rows
    assert real.prompt_accuracy is not None
    assert real.prompt_accuracy.value >= 0.8
    assert real.sharpness == pytest.approx(1, abs=0.15)
    for row in others:  # untrained
        assert row.frechet is not None
        assert real.frechet is not None
        assert row.frechet > 3 * real.frechet
        assert row.kid is not None
        assert real.kid is not None
        assert row.kid[0] > real.kid[0]


def test_what_cannot_be_measured_is_left_out(rows: list[EvaluationRow]) -> None:
    real, teacher, *students = rows
    assert real.endpoint_distance is None
    assert teacher.endpoint_distance is None
    assert all(row.endpoint_distance is not None and row.endpoint_distance > 0 for row in students)
    assert all(row.held_out_colour is not None and row.held_out_colour.total == 4 for row in rows)
    assert all(not row.ms_per_image for row in rows)


def test_a_model_without_a_teacher_stands_alone(pair: tuple[Model, Model], subject: EmojiSubject) -> None:
    rows = evaluate(pair[0], None, subject, (2,), SETTINGS)
    assert [(row.who, row.steps) for row in rows] == [("real", None), ("model", 2)]
    assert ratios(rows) == []


def test_the_batch_changes_no_figure(
    pair: tuple[Model, Model], subject: EmojiSubject, rows: list[EvaluationRow]
) -> None:
    again = evaluate(pair[0], None, subject, (1,), replace(SETTINGS, batch=10))[1]
    before = rows[3]
    assert again.prompt_accuracy == before.prompt_accuracy
    assert again.frechet == pytest.approx(before.frechet, rel=1e-3)
    assert again.sharpness == pytest.approx(before.sharpness, rel=1e-4)


def test_one_picture_by_each_way_starts_from_the_same_noise(pair: tuple[Model, Model]) -> None:
    """One Euler step of the same network is one consistency step: only the name of the jump differs."""
    query = [Query(0, "grapes", "grapes")]
    (denoise, _), (again, _) = (Candidate("w", pair[1], 1, "euler").draw(query, [5], batch) for batch in (1, 7))
    np.testing.assert_array_equal(denoise, again)
    other, _ = Candidate("w", pair[1], 1, "euler").draw(query, [6], 1)
    assert np.abs(denoise - other).max() > 1e-3


class Perfect:
    """A stand-in for a model's pictures: real ones, so that figures must come out as the real row's."""

    def __init__(self, candidate: Candidate, subject: EmojiSubject) -> None:
        self.candidate, self.subject = candidate, subject

    def __call__(self, queries: Sequence[Query], seeds: Sequence[int], batch: int) -> tuple[Any, int]:
        return self.subject.real(queries, 50), 1


def test_a_model_that_draws_real_pictures_gets_the_real_pictures_figures(
    pair: tuple[Model, Model], subject: EmojiSubject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Candidate, "draw", lambda self, queries, seeds, batch: Perfect(self, subject)(queries, seeds, batch)
    )
    settings = replace(SETTINGS, n=24, held_out=8)
    real, model = evaluate(pair[0], None, subject, (1,), settings)
    assert model.prompt_accuracy is not None
    assert real.prompt_accuracy is not None
    assert model.prompt_accuracy.value == pytest.approx(real.prompt_accuracy.value, abs=0.15)
    assert model.frechet == pytest.approx(real.frechet, rel=0.5)
    assert model.sharpness == pytest.approx(1, abs=0.1)
    assert model.held_out_style is not None
    assert model.held_out_style.right > 0


def test_times_are_medians_over_turns_that_all_ways_share(pair: tuple[Model, Model]) -> None:
    candidates = [Candidate("teacher", pair[1], 3, "heun"), Candidate("model", pair[0], 1, "consistency")]
    times = time_in_turn(candidates, [Query(0, "grapes", "grapes")], batches=(1, 4), rounds={1: 3, 4: 2})
    assert [list(entry) for entry in times] == [[1, 4], [1, 4]]
    assert all(ms > 0 for entry in times for ms in entry.values())
    assert times[0][1] > times[1][1]


def test_times_are_of_one_picture_and_without_the_first_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock of the test's own: a picture takes 5 ms, and the first turn of a batch a second more."""
    now, seen = 0.0, set()

    class Timed:
        steps = 8

        def plan(self, queries: Sequence[Query], seeds: Sequence[int]) -> int:
            return len(queries)

        def run(self, plan: int) -> None:
            nonlocal now
            now += 0.005 * plan + (plan not in seen)
            seen.add(plan)

    monkeypatch.setattr("fewstep.measure.timing.time", SimpleNamespace(perf_counter=lambda: now))
    candidates: Any = [Timed()]
    (times,) = time_in_turn(candidates, [Query(0, "grapes")], batches=(1, 16), rounds={1: 1, 16: 1})
    assert times == pytest.approx({1: 5.0, 16: 5.0})


def test_the_seeds_of_other_figures_are_none_of_a_plain_captions(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[set[int]] = []

    def draw(self: Candidate, queries: Sequence[Query], seeds: Sequence[int], batch: int) -> tuple[Any, int]:
        drawn.append(set(seeds))
        return np.random.default_rng(len(drawn)).random((len(queries), 4, 8, 8)), 1

    monkeypatch.setattr(Candidate, "draw", draw)
    subject: Any = SimpleNamespace(
        queries=lambda n, seed: [Query(i, "grapes") for i in range(n)],
        held_out=lambda kind, n, seed: [Query(i, "grapes") for i in range(n)],
        real=lambda queries, draw: np.random.default_rng(draw).random((len(queries), 4, 8, 8)),
        judge=lambda pixels: Verdict(pixels[:, 0, 1].copy(), ("grapes",) * len(pixels)),
    )
    model: Any = SimpleNamespace(name="model", spec=SimpleNamespace(guidance=None))
    _Evaluation(subject, replace(SETTINGS, seed=3)).row(Candidate("model", model, 1, "consistency"), None)
    plain, *others = drawn
    assert plain == set(range(3, 3 + SETTINGS.n))
    assert len(others) == 3  # diversity, held-out colours and styles
    assert not plain & set().union(*others)


def test_steps_that_a_model_cannot_take_are_refused_before_the_work(
    pair: tuple[Model, Model], subject: EmojiSubject
) -> None:
    def fail(text: str) -> None:
        raise AssertionError("work began")

    with pytest.raises(ValueError, match="steps must be a whole number between 1 and 1000, got 0"):
        evaluate(*pair, subject, (1, 0), SETTINGS, progress=fail)
    with pytest.raises(RequestError, match="guidance"):
        evaluate(*pair, subject, (1,), SETTINGS, guidance=9.0, progress=fail)
    with pytest.raises(ValueError, match="at least one"):
        evaluate(*pair, subject, (), SETTINGS, progress=fail)


@pytest.mark.parametrize("wrong", [{"n": 1}, {"batch": 0}, {"held_out": -1}, {"seed": -1}, {"diverse": (1, 1)}])
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        EvaluationSettings(**wrong)


def test_the_teacher_is_found_by_the_models_lineage(pair: tuple[Model, Model], tmp_path: Path) -> None:
    student, teacher = pair
    found = teacher_of(student)
    assert found is not None
    assert found.hash == teacher.hash
    assert teacher_of(teacher) is None
    orphan = tiny_model(tmp_path / "orphan", Targets.CLEAN, ["grapes"], [{"teacher": "gone", "hash": "0"}])
    assert teacher_of(load(orphan.directory)) is None


def test_a_teacher_that_is_not_there_or_is_another_is_named(tmp_path: Path) -> None:
    lineage = [{"data": "fruits"}, {"teacher": "gone", "hash": "0" * 64}, {"teacher": "hub/far"}]
    orphan = load(tiny_model(tmp_path / "orphan", Targets.CLEAN, ["grapes"], lineage).directory)
    said: list[str] = []
    assert teacher_of(orphan, progress=said.append) is None
    assert [line.split(" that")[0] for line in said] == ["the teacher 'gone' (0000000000)", "the teacher 'hub/far'"]
    assert f"is neither in '{tmp_path}' nor built in: it is left out; give one with --teacher" in said[0]
    other = tiny_model(tmp_path / "gone", Targets.SAME, ["grapes"])
    said.clear()
    assert teacher_of(orphan, progress=said.append) is None
    assert f"is not the one in '{tmp_path / 'gone'}' ({other.hash[:10]})" in said[0]


def test_of_the_real_pictures_to_compare_with_one_draw_is_held_at_a_time() -> None:
    held: list[weakref.ref[Any]] = []

    def real(queries: Sequence[Query], draw: int) -> Any:
        assert sum(pixels() is not None for pixels in held) <= 1
        pixels = np.full((len(queries), 4, 8, 8), float(draw))
        pixels[..., 0, 0] = 0.0
        held.append(weakref.ref(pixels))
        return pixels

    subject: Any = SimpleNamespace(
        queries=lambda n, seed: [Query(i, "grapes") for i in range(n)],
        held_out=lambda kind, n, seed: [],
        real=real,
        judge=lambda pixels: Verdict(pixels[:, 0, 1].copy(), ("grapes",) * len(pixels)),
    )
    examiner = _Evaluation(subject, SETTINGS)
    assert len(held) == 4
    assert examiner.references[:, 0, 0].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert examiner.detail == sharpness(real(examiner.queries, 1))


def test_digits_are_evaluated_by_label(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    teacher = load(tiny_model(tmp_path / "digits-teacher", Targets.SAME, classes=10).directory, threads=1)
    model = load(tiny_model(tmp_path / "digits", Targets.CLEAN, classes=10).directory, threads=1)
    rows = evaluate(model, teacher, DigitsSubject(8), (1,), replace(SETTINGS, n=40))
    assert rows[0].prompt_accuracy is not None
    assert rows[0].prompt_accuracy.value >= 0.9
    assert [row.held_out_colour for row in rows] == [None] * 4
    assert rows[1].evaluations == 5


def shared(right: int) -> EvaluationRow:
    return EvaluationRow("teacher", "t", "heun", 18, 70, 2.0, Share(right, 100), ms_per_image={1: 200.0, 16: 160.0})


def test_ratios_stand_in_the_rows_and_in_one_line_each() -> None:
    model = EvaluationRow(
        "model", "m", "consistency", 1, 1, 2.0, Share(76, 100), kid=(0.1, 0.02), ms_per_image={1: 5.0, 16: 4.0}
    )
    rows = [EvaluationRow("real", prompt_accuracy=Share(98, 100)), shared(80), model]
    assert ratios(rows) == [
        "1 step: 40.0× the teacher's speed at batch 1, 40.0× the teacher's speed at batch 16, 0.950 of its accuracy"
    ]
    real, teacher, said = as_dicts(rows)
    assert said["times_faster_by_batch"] == {"1": 40.0, "16": 40.0}
    assert said["accuracy_ratio"] == 0.95
    assert said["ms_per_image"] == 5.0
    assert said["prompt_accuracy"] == 0.76
    assert said["prompt_accuracy_interval"] == [0.6677, 0.8331]
    assert real["ms_per_image"] is None
    assert teacher["evaluations"] == 70
    json.dumps([real, teacher, said])
    assert as_dicts([rows[0], shared(0), model])[2]["accuracy_ratio"] is None


def test_the_table_shows_only_columns_that_hold_something(rows: list[EvaluationRow]) -> None:
    built = table(rows)
    headers = [str(column.header) for column in built.columns]
    assert "held-out style" in headers
    assert not any(header.startswith("ms") for header in headers)
    assert built.row_count == 5


def test_the_command_writes_rows_as_json(
    pair: tuple[Model, Model], tmp_path: Path, emoji: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(
        "fewstep.measure.subjects.Emoji", lambda size, augmentation, styles: replace(emoji, size=size)
    )
    file = tmp_path / "rows.json"
    code = command(str(pair[0].saved.directory), steps="1", n=4, held_out=2, threads=1, json=str(file))
    rows = json.loads(file.read_text(encoding="utf-8"))
    assert code == 0
    assert [row["who"] for row in rows] == ["real", "teacher", "denoise", "model"]
    assert rows[3]["ms_per_image"] > 0
    assert set(rows[3]["times_faster_by_batch"]) == {"1", "16"}


@pytest.mark.parametrize("text", ["1;2", "one", "", "1,,2", "1.5", "-1"])
def test_steps_that_are_no_list_of_numbers_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="steps must be whole numbers like 1,2,4"):
        parse_steps(text)


def test_steps_are_read_from_a_list() -> None:
    assert parse_steps("1, 2,4") == [1, 2, 4]
