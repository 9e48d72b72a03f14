"""The registry says of every objective, before it is built, what the built one does."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace

import pytest
import torch

from fewstep import objectives
from fewstep.core.arrays import Array, Condition
from fewstep.core.levels import Level
from fewstep.core.parameterisations import Targets
from fewstep.objectives import Batch, LearnedGuidance, Objective
from fewstep.objectives.registry import OBJECTIVES, STUDENTS, TEACHERS
from fewstep.objectives.setup import TrainingSetup
from fewstep.objectives.times import LogNormal
from objective_cases import START
from oracles import Gaussian
from students import WithError, step_rng


def setup(name: str) -> TrainingSetup:
    """One with a parent of the kind that the objective needs."""
    parent = Gaussian(0.2, 0.6, targets=OBJECTIVES[name].needs or Targets.SAME)
    return TrainingSetup(LogNormal(), steps=10, parent=parent, copy_student=lambda: WithError(parent))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_targets_are_those_of_the_objective(name: str) -> None:
    assert OBJECTIVES[name].build(setup(name)).targets is OBJECTIVES[name].targets


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_parent_is_needed_exactly_where_it_is_said(name: str) -> None:
    settings, alone = OBJECTIVES[name], TrainingSetup(LogNormal(), steps=10)
    if settings.needs is None:
        assert settings.build(alone).targets is settings.targets
    else:
        with pytest.raises(ValueError, match="needs a teacher"):
            settings.build(alone)


@pytest.mark.parametrize("name", [name for name in STUDENTS if OBJECTIVES[name].learns_guidance])
def test_a_student_that_learns_guidance_is_given_a_scale(name: str) -> None:
    guidance = LearnedGuidance(1.0, 3.0, {"label": torch.tensor([2])})
    built = OBJECTIVES[name].build(replace(setup(name), guidance=guidance))
    learned: list[bool] = []

    class Student(Gaussian):
        def __call__(self, x: Array, at: Level, to: Level, cond: Condition = {}) -> Array:  # noqa: B006
            learned.append("guidance" in cond)
            return super().__call__(x, at, to, cond)

    student = Student(0.2, 0.6, targets=built.targets)
    batch = Batch(torch.randn(6, 2, dtype=torch.float64), {"label": torch.arange(6) % 2})
    built(student, student, batch, START, step_rng())
    assert learned
    assert all(learned)


def test_every_objective_of_the_package_is_registered() -> None:
    built = {type(settings.build(setup(name))) for name, settings in OBJECTIVES.items()}
    public = {getattr(objectives, name) for name in objectives.__all__}
    classes = {each for each in public if isinstance(each, type) and Objective in each.__mro__[1:]}
    assert built == classes


def test_settings_are_plain_values_with_a_default() -> None:
    for settings in OBJECTIVES.values():
        assert is_dataclass(settings)
        assert type(settings)() is not None
        assert all(field.init for field in fields(settings))


def test_students_and_teachers_share_all_objectives() -> None:
    assert {*STUDENTS, *TEACHERS} == set(OBJECTIVES)
    assert TEACHERS == ("diffusion", "flow_matching")
