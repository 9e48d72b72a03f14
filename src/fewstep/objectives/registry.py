"""Objectives by name, as chosen in recipes and benchmarks: the settings of each that are exposed as options, and how
it is built for a student.

A new objective needs one class of settings and one line in `OBJECTIVES`.
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
    """Denoising with EDM's weighting, for teachers; it has no settings."""

    kind = "diffusion"
    targets = Targets.SAME

    def build(self, setup: TrainingSetup) -> Objective:
        return Diffusion(setup.density, setup.sigma_data, setup.path)


@dataclass(frozen=True)
class FlowMatchingSettings(ObjectiveSettings):
    """Regression of the linear path's velocity, for teachers; it has no settings."""

    kind = "flow_matching"
    targets = Targets.SAME
    path = "linear"

    def build(self, setup: TrainingSetup) -> Objective:
        return FlowMatching(setup.density)


@dataclass(frozen=True)
class ConsistencyDistillationSettings(ObjectiveSettings):
    """Consistency distillation.

    Args:
        levels: Number of grid levels above clean.
        sigma_min: Lowest level of the grid, in σ/α; from there one step of the teacher leads to clean.
        solver: Solver of the teacher's steps: heun takes two evaluations, euler one.
        target_decay: Decay of the moving average that is the student's target; None for the student itself.
        weighted: Whether to weight distances by 1/(t − r).
        jitter: Whether to train at levels between those of the grid too.
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
        improved: Whether to use the improved form iCT (2310.14189), instead of the first paper's (2303.01469).
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
        density: Distribution of the upper level t of each pair.
        gap: Schedule by which the lower level r approaches t during training.
        weight: Weight of the loss: gap is 1/(t − r), edm is 1/t² + 1/σd².
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
        boundary: Noise level σ/α above which the student is trained; below it the parent is used.
        share: Share of the samples at the boundary itself.
        weight: Weight of these samples in the loss.
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
        distilled: Whether to take the flow from the teacher (sCD) or from the data (sCT).
        density: Distribution of the noise levels σ/α.
        warmup: Share of the training over which the derivative's weight in the tangent rises to 1.
        learned_weight: Whether to learn the published weight; it is largest where the tangent is already small, and
            drowns the other levels in short trainings.
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
        distilled: Whether to take the velocity from the teacher or from the data.
        improved: Whether to differentiate along the network's own velocity (2512.02012).
        apart: Share of pairs whose two times differ; the others are flow matching.
        unconditional: Share of samples trained without their prompt or class, for the unguided velocity that is
            needed if guidance is learned from the data.
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
        apart: Share of pairs whose two times differ; the others are flow matching.
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
        end: End of a jump that is moved: eulerian moves the start, lagrangian the end.
        apart: Share of pairs whose two times differ.
        warmup: Share of the training over which the derivative's weight rises to 1.
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
        ratios: Noise levels σ/α that the student samples at, in descending order, one per step.
        every: Steps of the fake score per step of the student.
        fake_rate: Learning rate of the fake score, relative to the student's; the published 1 is for long trainings.
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
    """Distribution matching with a flow map's own score.

    Args:
        ratios: The noise levels σ/α that the student samples at, falling: one for each step.
        weight: Weight of the loss by which the student learns its own score.
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
"""The objectives by name, each with its default settings."""

STUDENTS: tuple[str, ...] = tuple(
    name for name, settings in OBJECTIVES.items() if settings.targets is not Targets.SAME
)
"""The objectives that train a few-step student."""

TEACHERS: tuple[str, ...] = tuple(name for name in OBJECTIVES if name not in STUDENTS)
"""The objectives that train a denoiser."""
