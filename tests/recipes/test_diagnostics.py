"""What training tells beside its loss."""

from __future__ import annotations

import pytest
import torch

from fewstep.core.codecs import Identity
from fewstep.core.curricula import Clock
from fewstep.core.levels import from_ratio
from fewstep.core.parameterisations import Targets
from fewstep.models.conditioning import Conditioning
from fewstep.objectives import Loss
from fewstep.recipes.diagnostics import DistanceToTeacher
from fewstep.training.loop import Moment
from fewstep.training.reporting import loss_by_level
from oracles import Gaussian

CPU = torch.device("cpu")


def moment(student: Gaussian) -> Moment:
    return Moment(Clock(1, 2), student, CPU)


@pytest.mark.parametrize("targets", [Targets.CLEAN, Targets.ANY])
def test_an_exact_student_is_where_its_teacher_is(targets: Targets) -> None:
    teacher = Gaussian(0.2, 0.6, targets=Targets.SAME)
    told = DistanceToTeacher(teacher, Conditioning(Identity()), (2,), teacher_steps=60)(
        moment(Gaussian(0.2, 0.6, targets=targets))
    )
    assert list(told) == ["distance_to_teacher/1", "distance_to_teacher/2", "distance_to_teacher/4"]
    assert told["distance_to_teacher/1"] < 0.01
    if targets is Targets.ANY:
        assert max(told.values()) < 0.01


def test_a_student_that_is_off_is_told_by_how_much() -> None:
    teacher = Gaussian(0.2, 0.6, targets=Targets.SAME)
    told = DistanceToTeacher(teacher, Conditioning(Identity()), (2,))(
        moment(Gaussian(0.7, 0.6, targets=Targets.CLEAN))
    )
    assert told["distance_to_teacher/1"] == pytest.approx(0.5, rel=0.05)


def test_losses_are_averaged_by_noise_level_over_the_steps_of_a_report() -> None:
    def loss(ratios: list[float], values: list[float]) -> Loss:
        return Loss({}, torch.tensor(values), from_ratio(torch.tensor(ratios, dtype=torch.float64)))

    told = loss_by_level([loss([0.05, 2.0], [1.0, 4.0]), loss([0.06, 1e9, 0.0], [3.0, 7.0, 5.0])])
    assert told == {
        "loss_by_level/0-0.03": 5.0,
        "loss_by_level/0.03-0.1": 2.0,
        "loss_by_level/1-3": 4.0,
        "loss_by_level/30-inf": 7.0,
    }
