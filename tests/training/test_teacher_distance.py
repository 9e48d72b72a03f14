"""What a distillation tells beside its loss: how far from its teacher it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fewstep.core.arrays import Array, Condition
from fewstep.core.grids import karras
from fewstep.core.levels import Level
from fewstep.core.parameterisations import Estimator, Targets
from fewstep.models.codecs import Identity, SpaceToDepth
from fewstep.models.conditioning import Conditioning, conditioners
from fewstep.objectives.curricula import Clock
from fewstep.pictures.sheet import CELL, GAP, LEFT
from fewstep.training.loop import TrainingState
from fewstep.training.previews import PreviewSamples
from fewstep.training.teacher_distance import DistanceToTeacher
from oracles import Gaussian

POINTS = PreviewSamples(Conditioning(Identity()), (2,), "points", ("",) * 64)
GRID = partial(karras, sigma_min=0.05)
TEACHER = Gaussian(0.2, 0.6, targets=Targets.SAME)


def state(student: Estimator) -> TrainingState:
    return TrainingState(Clock(1, 2), student, torch.device("cpu"))


def numbers(told: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in told.items() if not isinstance(value, Image.Image)}


@pytest.mark.parametrize("targets", [Targets.CLEAN, Targets.ANY])
def test_an_exact_student_is_where_its_teacher_is(targets: Targets) -> None:
    student = Gaussian(0.2, 0.6, targets=targets)
    told = numbers(DistanceToTeacher(TEACHER, POINTS, GRID, teacher_steps=60)(state(student)))
    assert list(told) == ["distance_to_teacher/1", "distance_to_teacher/2", "distance_to_teacher/4"]
    assert told["distance_to_teacher/1"] < 0.01
    if targets is Targets.ANY:
        assert max(told.values()) < 0.01


def test_a_student_that_is_off_is_told_by_how_much() -> None:
    told = DistanceToTeacher(TEACHER, POINTS, GRID)(state(Gaussian(0.7, 0.6, targets=Targets.CLEAN)))
    assert told["distance_to_teacher/1"] == pytest.approx(0.5, rel=0.05)


@dataclass
class ByClass:
    """A Gaussian whose mean is the class; the null class is 3. A student has the scale as its input."""

    targets: Targets
    epsilon: float = 0.0
    asked: list[Condition] = field(default_factory=list)

    def __call__(self, x: Array, at: Level, to: Level, cond: Condition) -> Array:
        self.asked.append(cond)
        scale = cond["guidance"][:, None] if "guidance" in cond else 1.0
        mean = 3.0 + scale * (cond["label"][:, None].to(x.dtype) - 3.0)
        return Gaussian(mean, 0.6, targets=self.targets)(x, at, to)


@pytest.mark.parametrize("distilled", [True, False])
def test_both_are_asked_for_the_same_classes_at_the_same_scale(distilled: bool) -> None:
    labels = tuple(i % 3 for i in range(12))
    takes = Conditioning(Identity(), conditioners(classes=3, guidance=(1.0, 4.0) if distilled else None))
    asked = PreviewSamples(takes, (2,), "points", ("",) * 12, 2.5 if distilled else None, labels)
    teacher, student = ByClass(Targets.SAME), ByClass(Targets.CLEAN)
    told = DistanceToTeacher(teacher, asked, GRID, teacher_steps=60)(state(student))
    assert told["distance_to_teacher/1"] < 0.01
    assert all(cond["label"].tolist() == list(labels) for cond in student.asked)
    assert all(("guidance" in cond) == distilled for cond in student.asked)
    assert not any("guidance" in cond for cond in teacher.asked)
    assert len(teacher.asked) == 2 * 60 - 1  # a guided one asks for both in one batch


def test_the_teachers_end_is_found_once_and_the_students_levels_are_its_own() -> None:
    teacher, asked_for = ByClass(Targets.SAME), []

    def grid(steps: int) -> Level:
        asked_for.append(steps)
        return karras(steps, 0.3)

    seen: list[float] = []

    class Student(Gaussian):
        def __call__(self, x: Array, at: Level, to: Level, cond: Condition = {}) -> Array:  # noqa: B006
            seen.append(float(at.ratio[0]))
            return super().__call__(x, at, to, cond)

    asked = PreviewSamples(
        Conditioning(Identity(), conditioners(classes=3)), (2,), "points", ("",) * 4, labels=(0, 1, 2, 0)
    )
    callback = DistanceToTeacher(teacher, asked, grid)
    for _ in range(2):
        callback(state(Student(0.2, 0.6, targets=Targets.CLEAN)))
    assert len(teacher.asked) == 2 * 18 - 1
    assert asked_for == [1, 2, 4, 1, 2, 4]
    assert seen[:3] == pytest.approx([80.0, 80.0, 0.3])


def test_images_stand_in_rows_the_teachers_first() -> None:
    asked = PreviewSamples(Conditioning(SpaceToDepth(2, (0.5,), (0.5,), 0.5)), (1, 4, 4), "grey", ("",) * 16)
    told = DistanceToTeacher(TEACHER, asked, GRID, teacher_steps=60)(state(Gaussian(0.2, 0.6, targets=Targets.ANY)))
    picture = told["student_beside_teacher"]
    assert isinstance(picture, Image.Image)
    high = CELL + GAP
    assert picture.size == (LEFT + 8 * high, GAP + 4 * high)
    rows = [np.asarray(picture, dtype=int)[GAP + n * high : GAP + n * high + CELL, LEFT:] for n in range(4)]
    assert rows[0].std() > 20
    assert all(np.abs(row - rows[0]).max() <= 3 for row in rows)
    off = DistanceToTeacher(TEACHER, asked, GRID)(state(Gaussian(0.7, 0.1, targets=Targets.ANY)))
    apart = np.asarray(off["student_beside_teacher"], dtype=int)[:, LEFT:]
    assert np.abs(apart[GAP : GAP + CELL] - apart[GAP + high : GAP + high + CELL]).mean() > 10


def test_points_stand_in_the_plane_a_panel_for_each_number_of_steps() -> None:
    pictures = [
        DistanceToTeacher(TEACHER, POINTS, GRID, steps=(1, 2)[:count])(state(Gaussian(0.7, 0.6))) for count in (1, 2)
    ]
    one, two = (told["student_beside_teacher"] for told in pictures)
    assert isinstance(one, Image.Image)
    assert isinstance(two, Image.Image)
    assert two.width == 2 * one.width
    colours = {colour for _, colour in two.getcolors(2**20) or ()}
    assert (0xD5, 0x5E, 0x00) in colours, "the student's points"
