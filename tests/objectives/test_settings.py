"""Settings that cannot work are refused when they are made, or at the first step where only that can tell, by an error
that says which, what it was and what would do."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from fewstep.core.grids import karras
from fewstep.core.parameterisations import Targets
from fewstep.objectives import (
    Batch,
    ConsistencyDistillation,
    ConsistencyTraining,
    ContinuousConsistency,
    Diffusion,
    EasyConsistency,
    FlowMapDistillation,
    LearnedGuidance,
    MeanFlow,
    Shortcut,
    TruncatedConsistency,
)
from fewstep.objectives.curricula import EctGap
from fewstep.objectives.times import Halves, LogitNormal, LogNormal, LogStudentT, TwoTimes, UniformAngle
from objective_cases import TABLE, World, loss_of, points
from oracles import Gaussian
from students import perceptron, step_rng, student_of
from training_runs import small_unet

TEACHER = Gaussian(0.2, 0.6, targets=Targets.SAME)
FIRST = Gaussian(0.2, 0.6, targets=Targets.CLEAN)
NULL = {"label": torch.tensor([7])}

REFUSED: dict[str, tuple[Callable[..., Any], dict[str, Any], str]] = {
    "no teacher, CD": (ConsistencyDistillation, {"teacher": None}, "teacher must be a denoiser or a flow map, got None"),
    "no teacher, AYF": (FlowMapDistillation, {"teacher": None}, "teacher must be a denoiser or a flow map, got None"),
    "a teacher that jumps, CD": (ConsistencyDistillation, {"teacher": FIRST}, "got one whose targets are 'clean'"),
    "a teacher that jumps, AYF": (FlowMapDistillation, {"teacher": FIRST}, "got one whose targets are 'clean'"),
    "a teacher that jumps, sCD": (ContinuousConsistency, {"teacher": FIRST}, "teacher must be a denoiser"),
    "a teacher that jumps, MeanFlow": (MeanFlow, {"teacher": FIRST}, "teacher must be a denoiser"),
    "a network for a teacher": (MeanFlow, {"teacher": perceptron()}, r"teacher must be .*, got <class .*MLP'>"),
    "a first stage that does not jump": (TruncatedConsistency, {"first": TEACHER}, "first must be a consistency function or a flow map, got one whose targets are 'same'"),
    "no first stage": (TruncatedConsistency, {"first": None}, "first must be .* got None"),
    "guidance without a teacher": (ContinuousConsistency, {"guidance": LearnedGuidance(1, 2, NULL)}, "guidance needs a teacher"),
    "mixing without guidance": (MeanFlow, {"mixing": 0.5}, "mixing needs guidance"),
    "mixing with a teacher": (MeanFlow, {"mixing": 0.5, "teacher": TEACHER}, "without a teacher"),
    "mixing of all": (MeanFlow, {"mixing": 1.0, "guidance": LearnedGuidance(1, 2, NULL)}, "mixing must be at least 0 and below 1, got 1"),
    "an unknown solver": (ConsistencyDistillation, {"teacher": TEACHER, "solver": "rk4"}, "solver must be 'heun' or 'euler', got 'rk4'"),
    "an unknown variable": (ConsistencyDistillation, {"teacher": TEACHER, "variable": "time"}, "variable must be 'angle' or 'ratio'"),
    "a decay of 1, CD": (ConsistencyDistillation, {"teacher": TEACHER, "decay": 1.0}, "decay must be at least 0 and below 1, got 1"),
    "a decay of 1, shortcut": (Shortcut, {"decay": 1.0}, "decay must be at least 0 and below 1"),
    "one level": (ConsistencyDistillation, {"teacher": TEACHER, "levels": 1}, "levels must be at least 2, got 1"),
    "a grid upside down, CD": (ConsistencyDistillation, {"teacher": TEACHER, "sigma_min": 90.0}, "need 0 < sigma_min < sigma_max < ∞, got 90.0 and 80.0"),
    "a grid upside down, CT": (ConsistencyTraining, {"sigma_min": 90.0}, "need 0 < sigma_min < sigma_max"),
    "a grid from pure noise": (ConsistencyTraining, {"sigma_max": math.inf}, "need 0 < sigma_min < sigma_max < ∞"),
    "a grid without a power, CD": (ConsistencyDistillation, {"teacher": TEACHER, "rho": 0.0}, "rho must be above 0"),
    "a grid without a power, CT": (ConsistencyTraining, {"rho": -7.0}, "rho must be above 0"),
    "no deviation, diffusion": (Diffusion, {"sigma_data": 0.0}, "sigma_data must be above 0 and finite, got 0"),
    "no deviation, ECT": (EasyConsistency, {"sigma_data": -0.5}, "sigma_data must be above 0"),
    "no deviation, sCM": (ContinuousConsistency, {"sigma_data": math.nan}, "sigma_data must be above 0"),
    "an unknown weight": (EasyConsistency, {"weight": "snr"}, "weight must be 'gap' or 'edm', got 'snr'"),
    "a negative warm-up, sCM": (ContinuousConsistency, {"warmup": -1}, "warmup must be at least 0, got -1"),
    "a negative warm-up, AYF": (FlowMapDistillation, {"teacher": TEACHER, "warmup": -1}, "warmup must be at least 0"),
    "a norm without a floor, sCM": (ContinuousConsistency, {"floor": 0.0}, "floor must be above 0"),
    "a norm without a floor, AYF": (FlowMapDistillation, {"teacher": TEACHER, "floor": -0.1}, "floor must be above 0"),
    "a weight without a floor, MeanFlow": (MeanFlow, {"floor": 0.0}, "floor must be above 0"),
    "a weight without a floor, shortcut": (Shortcut, {"floor": 0.0}, "floor must be above 0"),
    "a negative power, MeanFlow": (MeanFlow, {"power": -1.0}, "power must be at least 0, got -1"),
    "a negative power, shortcut": (Shortcut, {"power": -1.0}, "power must be at least 0"),
    "an unknown end": (FlowMapDistillation, {"teacher": TEACHER, "end": "middle"}, "end must be 'eulerian' or 'lagrangian'"),
    "a velocity at clean": (FlowMapDistillation, {"teacher": TEACHER, "end": "lagrangian", "times": Halves()}, "times must keep r above 0 for the lagrangian end"),
    "a density with a boundary of its own": (TruncatedConsistency, {"first": FIRST, "boundary": 2.0, "density": LogStudentT()}, "density.low must be the boundary 2, got 1"),
    "an unknown first jump": (Shortcut, {"first": "teacher"}, "first must be 'model' or 'data', got 'teacher'"),
    "shortcuts without a denoiser": (Shortcut, {"times": TwoTimes(apart=1.0)}, "apart must be below 1: without pairs at r = t"),
    "no boundary": (TruncatedConsistency, {"first": FIRST, "boundary": 0.0}, "boundary must be above 0"),
    "a boundary that does not count": (TruncatedConsistency, {"first": FIRST, "weight": 0.0}, "weight must be above 0"),
    "the boundary alone": (TruncatedConsistency, {"first": FIRST, "share": 1.0}, "share must be above 0 and below 1"),
    "no sample at the boundary": (TruncatedConsistency, {"first": FIRST, "share": 0.0}, "share must be above 0 and below 1"),
    "guidance that falls": (LearnedGuidance, {"low": 4.0, "high": 2.0, "null": NULL}, "guidance must have scales 0 ≤ low ≤ high, got 4.0 and 2.0"),
    "negative guidance": (LearnedGuidance, {"low": -1.0, "high": 2.0, "null": NULL}, "guidance must have scales 0 ≤ low ≤ high"),
    "guidance away from nothing": (LearnedGuidance, {"low": 1.0, "high": 2.0, "null": {}}, "guidance needs `null`"),
    "a share above 1": (LearnedGuidance, {"low": 1.0, "high": 2.0, "null": NULL, "unconditional": 1.5}, "unconditional must be between 0 and 1, got 1.5"),
    "pairs apart by more than all": (TwoTimes, {"apart": 1.5}, "apart must be between 0 and 1, got 1.5"),
    "steps apart by less than none": (Halves, {"apart": -0.5}, "apart must be between 0 and 1"),
    "steps that do not halve": (Halves, {"finest": 100}, "finest must be a power of 2"),
    "a negative deviation": (LogNormal, {"std": -1.0}, "std must be at least 0, got -1"),
    "a negative deviation of times": (LogitNormal, {"std": -1.0}, "std must be at least 0"),
    "angles beyond the path": (UniformAngle, {"high": 2.0}, "need 0 <= low < high <= π/2"),
    "angles of no data": (UniformAngle, {"sigma_data": 0.0}, "sigma_data must be above 0"),
    "bounds upside down": (LogStudentT, {"low": 90.0}, "need 0 < low < high < ∞, got 90.0 and 80.0"),
    "a distribution without a scale": (LogStudentT, {"scale": 0.0}, "scale must be above 0"),
    "a distribution without freedom": (LogStudentT, {"freedom": 0.0}, "freedom must be above 0"),
    "a gap that grows": (EctGap, {"q": 0.5}, "q must be at least 1, got 0.5"),
    "no stages": (EctGap, {"stages": 0}, "stages must be at least 1, got 0"),
    "a gap wider than all": (EctGap, {"k": -1.0}, "k must be at least 0"),
    "a stage before the first": (EctGap, {"first": -1}, "first must be at least 0"),
    "a sampling grid without a power": (karras, {"steps": 4, "rho": 0.0}, "rho must be above 0"),
    "a gap that float32 cannot tell": (EctGap, {"q": 256.0}, r"at least 1e-06 of the level.*got 256\^-8 = 5e-20"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_settings_that_cannot_work_are_refused_when_made(name: str) -> None:
    make, settings, said = REFUSED[name]
    with pytest.raises(ValueError, match=said):
        make(**settings)


def test_the_edges_of_what_works_are_allowed() -> None:
    EctGap(q=256.0, stages=2)
    ConsistencyDistillation(Gaussian(0.0, 1.0, targets=Targets.ANY), decay=0.0)
    TruncatedConsistency(Gaussian(0.0, 1.0, targets=Targets.ANY))
    TruncatedConsistency(Gaussian(0.0, 1.0, targets=Targets.ANY), boundary=2.0, density=LogStudentT(low=2.0))
    FlowMapDistillation(Gaussian(0.0, 1.0, targets=Targets.ANY), "eulerian", Halves())
    ContinuousConsistency(warmup=0, floor=None)
    Shortcut.soflow(times=TwoTimes(apart=1.0))
    LearnedGuidance(0.0, 0.0, NULL, unconditional=1.0)
    MeanFlow(power=0.0)


@pytest.mark.parametrize("gap", [0.0, 1.0, -0.5])
def test_a_shortcut_whose_middle_is_an_end_is_refused(gap: float) -> None:
    student = student_of(perceptron(), Targets.ANY)
    with pytest.raises(ValueError, match=f"gap must be above 0 and below 1 .* got {gap}"):
        loss_of(Shortcut(gap=lambda clock: gap), student, Batch(points(8).float()))


def test_a_curriculum_of_one_level_is_refused() -> None:
    student = student_of(perceptron(), Targets.CLEAN)
    with pytest.raises(ValueError, match="nothing to choose from: a grid needs two levels or more"):
        loss_of(ConsistencyTraining(levels=lambda clock: 1), student, Batch(points(8).float()))


@pytest.mark.parametrize("name", ["CD, Heun", "sCD", "MeanFlow", "AYF, Eulerian"])
def test_guidance_of_a_batch_without_its_condition_is_refused(name: str) -> None:
    """Where the batch has no label, a null label takes nothing away: guided and unguided would be the same."""
    objective: Any = replace(TABLE[name].make(World()), guidance=LearnedGuidance(1.0, 4.0, NULL))  # type: ignore[type-var]
    student = student_of(perceptron(), objective.targets)
    with pytest.raises(
        ValueError, match="guidance needs the conditions that `null` names, but the batch lacks label"
    ):
        loss_of(objective, student, Batch(points(8).float()))


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("name", TABLE)
def test_no_objective_divides_its_batch_so_any_size_will_do(name: str, size: int) -> None:
    objective = TABLE[name].make(World())
    loss = loss_of(objective, student_of(perceptron(), objective.targets), Batch(points(size).float()))
    assert loss.per_sample.shape == (size,)
    assert bool(torch.isfinite(loss.per_sample).all())


@pytest.mark.parametrize("seed", range(6))
def test_a_first_stage_that_is_asked_about_no_sample_is_no_error(seed: int) -> None:
    """A batch without a target below t': the network, with attention, then sees no sample at all."""
    network = small_unet()
    objective = TruncatedConsistency(student_of(network, Targets.CLEAN))
    loss = loss_of(objective, student_of(network, Targets.CLEAN), Batch(torch.zeros(1, 3, 4, 4)), rng=step_rng(seed))
    assert bool(torch.isfinite(loss.value))
