"""Objectives by name, as recipes and benchmarks choose them: the few settings of each that are worth an option, and
how it is built for one student.

An objective joins by one class of settings and one line in `OBJECTIVES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from fewstep.core.parameterisations import Targets
from fewstep.objectives.consistency_distillation import ConsistencyDistillation
from fewstep.objectives.consistency_training import ConsistencyTraining
from fewstep.objectives.continuous_consistency import ContinuousConsistency, LearnedWeight
from fewstep.objectives.curricula import EctGap
from fewstep.objectives.diffusion import Diffusion
from fewstep.objectives.distances import inverse_gap
from fewstep.objectives.distribution_matching import DistributionMatching
from fewstep.objectives.easy_consistency import EasyConsistency
from fewstep.objectives.flow_map_distillation import FlowMapDistillation
from fewstep.objectives.flow_map_distribution_matching import FlowMapDistributionMatching
from fewstep.objectives.flow_matching import FlowMatching
from fewstep.objectives.mean_flow import MeanFlow
from fewstep.objectives.objective import Objective
from fewstep.objectives.setup import ObjectiveSettings, TrainingSetup
from fewstep.objectives.shortcut import Shortcut
from fewstep.objectives.times import Halves, LogNormal
from fewstep.objectives.truncated_consistency import TruncatedConsistency


@dataclass(frozen=True)
class DiffusionSettings(ObjectiveSettings):
    """Denoising in EDM's weighting: a teacher, nothing to set."""

    kind = "diffusion"
    targets = Targets.SAME

    def build(self, setup: TrainingSetup) -> Objective:
        return Diffusion(setup.density, setup.sigma_data, setup.path)


@dataclass(frozen=True)
class FlowMatchingSettings(ObjectiveSettings):
    """Regression of the linear path's velocity: a teacher, nothing to set."""

    kind = "flow_matching"
    targets = Targets.SAME
    path = "linear"

    def build(self, setup: TrainingSetup) -> Objective:
        return FlowMatching(setup.density)


@dataclass(frozen=True)
class ConsistencyDistillationSettings(ObjectiveSettings):
    """Consistency distillation.

    Args:
        levels: The grid's levels above clean.
        sigma_min: The lowest of them, in σ/α; below it the grid ends at clean in one step of the teacher.
        solver: The teacher's step: heun costs two evaluations, euler one.
        target_decay: Decay of the moving average that is the student's target; None for the student itself.
        weighted: Whether distances are weighted by 1/(t − r).
        jitter: Whether levels between those of the grid are learned too.
    """

    levels: int = 18
    sigma_min: float = 0.002
    solver: Literal["heun", "euler"] = "heun"
    target_decay: float | None = None
    weighted: bool = True
    jitter: bool = True

    kind = "consistency_distillation"
    targets = Targets.CLEAN

    @property
    def needs(self) -> Targets:
        return Targets.SAME

    @property
    def learns_guidance(self) -> bool:
        return True

    @property
    def lowest(self) -> float:
        return self.sigma_min

    def build(self, setup: TrainingSetup) -> Objective:
        return ConsistencyDistillation(
            setup.teacher,
            levels=self.levels,
            sigma_min=self.sigma_min,
            solver=self.solver,
            decay=self.target_decay,
            weight=inverse_gap if self.weighted else None,
            jitter=self.jitter,
            guidance=setup.guidance,
            path=setup.path,
        )


@dataclass(frozen=True)
class ConsistencyTrainingSettings(ObjectiveSettings):
    """Consistency training from data alone.

    Args:
        improved: Whether to train as iCT does (2310.14189), else as the first paper (2303.01469).
        dropout: Whether to drop activations; the rate is the network's.
    """

    improved: bool = True
    dropout: bool = False

    kind = "consistency_training"
    targets = Targets.CLEAN

    def build(self, setup: TrainingSetup) -> Objective:
        make = ConsistencyTraining if self.improved else ConsistencyTraining.ct
        return make(path=setup.path, dropout=self.dropout)


@dataclass(frozen=True)
class EasyConsistencySettings(ObjectiveSettings):
    """Easy Consistency Tuning.

    Args:
        density: Of the upper level t of each pair.
        gap: How the lower level r comes closer to t over the training.
        weight: gap is 1/(t − r), edm is 1/t² + 1/σd².
        dropout: Whether to drop activations; the rate is the network's.
    """

    density: LogNormal = field(default_factory=lambda: LogNormal(-1.1, 2.0))
    gap: EctGap = field(default_factory=EctGap)
    weight: Literal["gap", "edm"] = "gap"
    dropout: bool = False

    kind = "easy_consistency"
    targets = Targets.CLEAN

    def build(self, setup: TrainingSetup) -> Objective:
        return EasyConsistency(
            self.density,
            self.gap,
            weight=self.weight,
            sigma_data=setup.sigma_data,
            path=setup.path,
            dropout=self.dropout,
        )


@dataclass(frozen=True)
class TruncatedConsistencySettings(ObjectiveSettings):
    """Truncated consistency: the second stage of a consistency function.

    Args:
        boundary: The noise level σ/α above which the student learns; the parent answers below.
        share: Of the samples at the boundary itself.
        weight: Of these samples' part of the loss.
        dropout: Whether to drop activations; the rate is the network's.
    """

    boundary: float = 1.0
    share: float = 0.25
    weight: float = 0.1
    dropout: bool = False

    kind = "truncated_consistency"
    targets = Targets.CLEAN

    @property
    def needs(self) -> Targets:
        return Targets.CLEAN

    def build(self, setup: TrainingSetup) -> Objective:
        return TruncatedConsistency(
            setup.teacher,
            self.boundary,
            share=self.share,
            weight=self.weight,
            path=setup.path,
            dropout=self.dropout,
        )


@dataclass(frozen=True)
class ContinuousConsistencySettings(ObjectiveSettings):
    """Continuous-time consistency.

    Args:
        distilled: Whether the teacher gives the flow (sCD), else the data do (sCT).
        density: Of the noise levels σ/α.
        warmup: The share of training in which the derivative's part of the tangent rises to the whole.
        learned_weight: Whether to learn the published weight; it is largest where the tangent is small already, and
            in short trainings it drowns the other levels.
        dropout: Whether to drop activations; the rate is the network's.
    """

    distilled: bool = False
    density: LogNormal = field(default_factory=lambda: LogNormal(-1.0, 1.4))
    warmup: float = 0.2
    learned_weight: bool = False
    dropout: bool = False

    kind = "continuous_consistency"
    targets = Targets.CLEAN
    path = "trig"
    differentiates = True

    @property
    def needs(self) -> Targets | None:
        return Targets.SAME if self.distilled else None

    @property
    def learns_guidance(self) -> bool:
        return self.distilled

    def build(self, setup: TrainingSetup) -> Objective:
        return ContinuousConsistency(
            setup.teacher if self.distilled else None,
            density=self.density,
            warmup=setup.warmup(self.warmup),
            weight=LearnedWeight() if self.learned_weight else None,
            guidance=setup.guidance,
            sigma_data=setup.sigma_data,
            dropout=self.dropout,
        )


@dataclass(frozen=True)
class MeanFlowSettings(ObjectiveSettings):
    """MeanFlow.

    Args:
        distilled: Whether the teacher gives the velocity, else the data do.
        improved: Whether to differentiate along the network's own velocity (2512.02012).
        apart: The share of pairs whose two times differ; the others are flow matching.
        unconditional: The share of samples that learn without their prompt or class where guidance is learned from
            the data, which need an unguided velocity.
        dropout: Whether to drop activations; the rate is the network's.
    """

    distilled: bool = False
    improved: bool = False
    apart: float = 0.5
    unconditional: float = 0.1
    dropout: bool = False

    kind = "mean_flow"
    targets = Targets.ANY
    path = "linear"
    differentiates = True

    @property
    def needs(self) -> Targets | None:
        return Targets.SAME if self.distilled else None

    @property
    def learns_guidance(self) -> bool:
        return True

    def build(self, setup: TrainingSetup) -> Objective:
        guidance = setup.guidance
        if guidance is not None and not self.distilled:
            guidance = replace(guidance, unconditional=self.unconditional)
        return MeanFlow(
            setup.pairs(self.apart),
            setup.teacher if self.distilled else None,
            improved=self.improved,
            guidance=guidance,
            dropout=self.dropout,
        )


@dataclass(frozen=True)
class ShortcutSettings(ObjectiveSettings):
    """Shortcut models.

    Args:
        apart: The share of pairs whose two times differ; the others are flow matching.
        target_decay: Decay of the moving average that makes the target's jumps; None for the student itself. The
            published one averages over 1 000 steps, which is longer than a short training.
        dropout: Whether to drop activations; the rate is the network's.
    """

    apart: float = 0.25
    target_decay: float | None = None
    dropout: bool = False

    kind = "shortcut"
    targets = Targets.ANY
    path = "linear"

    def build(self, setup: TrainingSetup) -> Objective:
        return Shortcut(Halves(apart=self.apart), decay=self.target_decay, dropout=self.dropout)


@dataclass(frozen=True)
class SoFlowSettings(ObjectiveSettings):
    """SoFlow.

    Args:
        apart: The share of pairs whose two times differ; the others are flow matching.
        dropout: Whether to drop activations; the rate is the network's.
    """

    apart: float = 0.5
    dropout: bool = False

    kind = "soflow"
    targets = Targets.ANY
    path = "linear"

    def build(self, setup: TrainingSetup) -> Objective:
        return Shortcut.soflow(times=setup.pairs(self.apart), dropout=self.dropout)


@dataclass(frozen=True)
class FlowMapDistillationSettings(ObjectiveSettings):
    """A flow map distilled in continuous time.

    Args:
        end: Which end of a jump is moved: eulerian the start, lagrangian the end.
        apart: The share of pairs whose two times differ.
        warmup: The share of training in which the derivative's part rises to the whole.
        dropout: Whether to drop activations; the rate is the network's.
    """

    end: Literal["eulerian", "lagrangian"] = "eulerian"
    apart: float = 1.0
    warmup: float = 0.2
    dropout: bool = False

    kind = "flow_map_distillation"
    targets = Targets.ANY
    path = "linear"
    differentiates = True

    @property
    def needs(self) -> Targets:
        return Targets.SAME

    @property
    def learns_guidance(self) -> bool:
        return True

    def build(self, setup: TrainingSetup) -> Objective:
        return FlowMapDistillation(
            setup.teacher,
            self.end,
            setup.pairs(self.apart),
            setup.warmup(self.warmup),
            guidance=setup.guidance,
            dropout=self.dropout,
        )


@dataclass(frozen=True)
class DistributionMatchingSettings(ObjectiveSettings):
    """Distribution matching with a fake-score network (DMD2).

    Args:
        ratios: The noise levels σ/α that the student samples at, falling: one for each step.
        every: Steps of the fake score for each of the student's.
        fake_rate: Learning rate of the fake score, in units of the student's; the published 1 is for long trainings.
        dropout: Whether to drop activations of the student; the rate is the network's.
    """

    ratios: tuple[float, ...] = (80.0, 3.0)
    every: int = 5
    fake_rate: float = 3.0
    dropout: bool = False

    kind = "distribution_matching"
    targets = Targets.CLEAN

    @property
    def needs(self) -> Targets:
        return Targets.SAME

    @property
    def learns_guidance(self) -> bool:
        return True

    @property
    def lowest(self) -> float:
        return self.ratios[-1]

    def build(self, setup: TrainingSetup) -> Objective:
        return DistributionMatching(
            setup.teacher,
            setup.student_copy,
            self.ratios,
            every=self.every,
            fake_rate=self.fake_rate,
            guidance=setup.guidance,
            sigma_data=setup.sigma_data,
            path=setup.path,
            dropout=self.dropout,
        )


@dataclass(frozen=True)
class FlowMapDistributionMatchingSettings(ObjectiveSettings):
    """Distribution matching by a flow map's own score.

    Args:
        ratios: The noise levels σ/α that the student samples at, falling: one for each step.
        weight: Of what the student learns of its own score.
        dropout: Whether to drop activations; the rate is the network's.
    """

    ratios: tuple[float, ...] = (80.0, 3.0)
    weight: float = 1.0
    dropout: bool = False

    kind = "flow_map_distribution_matching"
    targets = Targets.ANY

    @property
    def needs(self) -> Targets:
        return Targets.SAME

    @property
    def learns_guidance(self) -> bool:
        return True

    def build(self, setup: TrainingSetup) -> Objective:
        return FlowMapDistributionMatching(
            setup.teacher,
            self.ratios,
            weight=self.weight,
            guidance=setup.guidance,
            sigma_data=setup.sigma_data,
            path=setup.path,
            dropout=self.dropout,
        )


OBJECTIVES: Mapping[str, ObjectiveSettings] = {
    "diffusion": DiffusionSettings(),
    "flow_matching": FlowMatchingSettings(),
    "consistency_distillation": ConsistencyDistillationSettings(),
    "consistency_training": ConsistencyTrainingSettings(),
    "easy_consistency": EasyConsistencySettings(),
    "truncated_consistency": TruncatedConsistencySettings(),
    "continuous_training": ContinuousConsistencySettings(),
    "continuous_distillation": ContinuousConsistencySettings(distilled=True),
    "mean_flow": MeanFlowSettings(),
    "improved_mean_flow": MeanFlowSettings(improved=True),
    "mean_flow_distillation": MeanFlowSettings(distilled=True, apart=0.75),
    "shortcut": ShortcutSettings(),
    "soflow": SoFlowSettings(),
    "eulerian_flow_map": FlowMapDistillationSettings("eulerian"),
    "lagrangian_flow_map": FlowMapDistillationSettings("lagrangian"),
    "distribution_matching": DistributionMatchingSettings(),
    "flow_map_distribution_matching": FlowMapDistributionMatchingSettings(),
}
"""The objectives by name, each with the settings that it starts with."""

STUDENTS: tuple[str, ...] = tuple(
    name for name, settings in OBJECTIVES.items() if settings.targets is not Targets.SAME
)
"""Those that train a student of few steps."""

TEACHERS: tuple[str, ...] = tuple(name for name in OBJECTIVES if name not in STUDENTS)
"""Those that train a denoiser."""
