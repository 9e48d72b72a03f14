"""An experiment in two stages: a teacher learns the data by diffusion or flow matching, then a few-step student is
trained by any objective. Both are saved as models.

What differs between experiments (the data, the conditioning, the network's size, the models' metadata) is an
`Experiment`; each recipe is one. How the two stages are trained is `TwoStage`, whose settings are options of every
recipe.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from fewstep.core.checks import check_choice
from fewstep.core.levels import VE, VP, Linear, Trig
from fewstep.core.levels import Path as NoisePath
from fewstep.core.parameterisations import Edm, Parameterised, Targets
from fewstep.data.dataset import Dataset
from fewstep.models.components import components
from fewstep.models.conditioners import GuidanceScale
from fewstep.models.conditioning import Conditioning
from fewstep.models.finding import find
from fewstep.models.saved import SavedModel
from fewstep.models.spec import ModelSpec
from fewstep.models.text import table
from fewstep.networks.inputs import NetworkInputs, NetworkSize
from fewstep.networks.registry import NETWORKS, describe, fit
from fewstep.objectives import LearnedGuidance, Objective
from fewstep.objectives.registry import OBJECTIVES, TEACHERS, ConsistencyDistillationSettings
from fewstep.objectives.setup import ObjectiveSettings, TrainingSetup
from fewstep.objectives.times import LogNormal
from fewstep.pictures.pixels import PixelFormat
from fewstep.samplers import SAMPLERS
from fewstep.training.batches import DatasetBatches
from fewstep.training.cost import Inputs, check_training
from fewstep.training.ema import EmaConfig
from fewstep.training.loop import Callback, TrainingConfig, train
from fewstep.training.optimizers import OptimizerConfig
from fewstep.training.previews import Preview, PreviewSamples, null_condition
from fewstep.training.prior_training import PriorAlone, train_prior
from fewstep.training.saving import lineage
from fewstep.training.strategy import accelerator
from fewstep.training.teacher_distance import DistanceToTeacher
from fewstep.training.warm_start import check_shape, frozen, initialise, network_of, start_from, trainable_copy

log = logging.getLogger(__name__)

SIGMA_DATA = 0.5
"""Standard deviation of the data after every recipe's codec."""

SOLVER, SOLVER_STEPS = "heun", 18
"""The sampler of denoisers."""

NO_TEACHER = "none"

PATHS: Mapping[str, NoisePath] = {
    "ve": VE(),
    "linear": Linear(),
    "trig": Trig(SIGMA_DATA),
    "vp": VP.scaled_linear(),
}
"""The paths by name."""

DEFAULT_SAMPLERS = {Targets.SAME: SOLVER, Targets.CLEAN: "consistency", Targets.ANY: "flow_map"}
"""The sampler of a student, by the jumps that it can make."""


def teacher_training(images: int) -> TrainingConfig:
    """Training settings of a diffusion teacher of small pictures: Muon, with a rate that falls over the last 60 %."""
    return TrainingConfig(
        images=images,
        batch=128,
        precision="auto",
        optimizer=OptimizerConfig(kind="muon", lr=1e-3, muon_lr=0.02, decay_from=0.4),
        ema=EmaConfig(sigma_rel=0.05),
        checkpoint_every=200,
        preview_every=500,
    )


def student_training(images: int) -> TrainingConfig:
    """Training settings of a student: AdamW, since students collapsed with Muon (docs/log/2026-11.md)."""
    return TrainingConfig(
        images=images,
        precision="auto",
        seed=1,
        optimizer=OptimizerConfig(kind="adamw", lr=2e-4, decay_from=0.3),
        ema=EmaConfig(sigma_rel=0.05),
        checkpoint_every=200,
        preview_every=500,
    )


def short_distillation() -> ConsistencyDistillationSettings:
    """Consistency distillation as for the emoji model: a coarse grid, and a target that follows closely."""
    return ConsistencyDistillationSettings(
        levels=8, sigma_min=0.4, solver="euler", target_decay=0.9, weighted=False, jitter=False
    )


@dataclass(frozen=True)
class TwoStage:
    """How a teacher and a student are trained.

    Args:
        objective: Settings of the student's objective.
        path: Noise path (scaling of the noised data) in both stages: ve, linear, trig or vp; None for each
            objective's own. With the preconditioning of these recipes all paths train the same network, up to
            rounding.
        network: Kind of network: unet or unet2d (diffusers') for images, mlp for points.
        sampler: Sampler of the student; None for the one that suits its objective: consistency or flow_map.
        density: Distribution of the noise levels σ/α in the teacher's training, and in the student's if its objective
            does not have its own.
        teacher_objective: Objective of the teacher: diffusion or flow_matching; none for a student without a teacher.
        teacher: Training settings of the teacher.
        student: Training settings of the student.
        parent: A saved model that the student starts from and learns from, instead of a teacher trained here: a
            teacher of this recipe, or a consistency model for truncated_consistency.
        start: A saved teacher to train further, instead of training one from scratch.
    """

    objective: ObjectiveSettings = field(default_factory=short_distillation)
    path: str | None = None
    network: str = "unet"
    sampler: str | None = None
    density: LogNormal = field(default_factory=LogNormal)
    teacher_objective: str = "diffusion"
    teacher: TrainingConfig = field(default_factory=lambda: teacher_training(500_000))
    student: TrainingConfig = field(default_factory=lambda: student_training(100_000))
    parent: Path | None = None
    start: Path | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for unknown names."""
        check_choice("network", self.network, *NETWORKS)
        check_choice("teacher_objective", self.teacher_objective, *TEACHERS, NO_TEACHER)
        if self.path is not None:
            check_choice("path", self.path, *PATHS)
        if self.sampler is not None:
            check_choice("sampler", self.sampler, *SAMPLERS)

    def check(self) -> None:
        """Raise ValueError for settings that exclude each other."""
        self._check_parent()
        self._check_sampler()
        for stage, objective, training in self._trained():
            if self.path is not None and objective.path not in (None, self.path):
                raise ValueError(f"path must be {objective.path} for {objective.kind}, got {self.path}")
            if training.graphs and objective.differentiates:
                raise ValueError(
                    f"{stage}.graphs must be off: a CUDA graph cannot record {objective.kind}'s derivatives"
                )

    def _trained(self) -> list[tuple[str, ObjectiveSettings, TrainingConfig]]:
        """The stages that are trained here: name, objective and training settings."""
        stages = [("student", self.objective, self.student)]
        if self.has_teacher:
            stages.insert(0, ("teacher", OBJECTIVES[self.teacher_objective], self.teacher))
        return stages

    def _check_parent(self) -> None:
        name, needs = self.objective.kind, self.objective.needs
        if self.objective.targets is Targets.SAME:
            raise ValueError(f"objective must be one for students, got {name}, which trains a teacher")
        if self.parent is not None and self.start is not None:
            raise ValueError("parent and start exclude each other: with a parent no teacher is trained")
        if self.parent is None and needs is Targets.CLEAN:
            raise ValueError(f"{name} continues a consistency model of this recipe: give its path as parent")
        if needs is Targets.SAME and not (self.parent or self.has_teacher):
            raise ValueError(f"{name} needs a teacher: teacher_objective must be {' or '.join(TEACHERS)}, got none")

    def _check_sampler(self) -> None:
        needed, targets = SAMPLERS[self.student_sampler].needs, self.objective.targets
        if targets not in (needed, Targets.ANY):
            raise ValueError(
                f"sampler must suit a student whose targets are '{targets.value}' ({self.objective.kind}): "
                f"{self.sampler} needs '{needed.value}'"
            )

    @property
    def has_teacher(self) -> bool:
        """Whether a teacher is trained here."""
        return self.parent is None and self.teacher_objective != NO_TEACHER

    @property
    def student_sampler(self) -> str:
        """The sampler of the student."""
        return self.sampler or DEFAULT_SAMPLERS[self.objective.targets]


@dataclass(frozen=True)
class PriorStage:
    """The training of a network's prior: see `fewstep.training.prior_training`.

    Args:
        dataset: the examples, in which a prompt should determine the picture as far as possible.
        config: training settings.
        start: weights of a prior to train further, or None.
    """

    dataset: Dataset
    config: TrainingConfig
    start: Path | None = None


class Experiment(Protocol):
    """What a recipe, a frozen dataclass, provides for the two stages."""

    @property
    def stages(self) -> TwoStage:
        """Training settings of both stages."""
        ...

    @property
    def model_name(self) -> str:
        """The student's name; the teacher's ends in -teacher."""
        ...

    @property
    def dataset(self) -> Dataset:
        """The data set of pixels, or of latents of the codec, recognised by its shape."""
        ...

    @property
    def pixels(self) -> tuple[int, ...]:
        """A sample's shape before the codec: [c, h, w], or [d] for points."""
        ...

    @property
    def pixel_format(self) -> PixelFormat: ...

    @property
    def conditioning(self) -> Conditioning:
        """The codec and the conditioning of the teacher."""
        ...

    @property
    def guidance_range(self) -> tuple[float, float] | None:
        """The guidance scales distilled into a student if its objective can; None for unconditional data."""
        ...

    @property
    def network_size(self) -> NetworkSize: ...

    @property
    def drops(self) -> tuple[float, float]:
        """The shares of samples whose prompt or class is left out: for a teacher, whose guidance needs them, and for
        a student that learns guidance or needs none."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """JSON values that identify a run, besides what the training loop compares."""
        ...

    @property
    def prior_stage(self) -> PriorStage | None:
        """How the teacher's prior is trained before it; None for a network without one."""
        ...

    def preview(self, spec: ModelSpec) -> PreviewSamples:
        """The preview samples of a model with this description, drawn during training."""
        ...

    def describe(self, spec: ModelSpec, is_student: bool) -> ModelSpec:
        """The model's description, completed by this experiment: guidance, levels, licence, recipe."""
        ...

    def save(self, network: nn.Module, spec: ModelSpec, directory: Path) -> SavedModel: ...


def run(experiment: Experiment, out: Path) -> SavedModel:
    """Train the stages under `out` and save the models in `out/models`.

    Returns:
        The student.

    Raises:
        ValueError: the settings are not possible, or `start` or `parent` does not fit.
        ModelError: `start` or `parent` does not exist.
        TrainingDiverged, CheckpointError: as for `fewstep.training.loop.train`.
    """
    check(experiment)
    stages = experiment.stages
    if stages.has_teacher:
        parent: SavedModel | None = train_teacher(experiment, out)
    else:
        parent = None if stages.parent is None else find(stages.parent)
    return train_student(experiment, parent, out)


def check(experiment: Experiment) -> None:
    """Raise early for mistakes that would otherwise show after hours of training; see `run`."""
    stages = experiment.stages
    stages.check()
    if stages.has_teacher:
        network = build_network(experiment, is_student=False)
        if stages.start is not None:
            start_from(network, stages.start)
        elif experiment.prior_stage is not None:
            PriorAlone(network)
        describe_model(experiment, network, is_student=False).check()
    network = build_network(experiment, is_student=True)
    if stages.parent is not None:
        _check_parent(stages, network, find(stages.parent))
    describe_model(experiment, network, is_student=True).check()
    untrained = Parameterised(network, Edm(SIGMA_DATA), stages.objective.needs or Targets.SAME)
    stages.objective.build(replace(_setup(stages, stages.student), parent=untrained, copy_student=lambda: untrained))


def _check_parent(stages: TwoStage, network: nn.Module, parent: SavedModel) -> None:
    needs, targets = stages.objective.needs, parent.spec.targets
    if needs is not None and targets is not needs:
        raise ValueError(
            f"parent must be a model whose targets are '{needs.value}' for {stages.objective.kind}; "
            f"the targets of '{parent.spec.name}' are '{targets.value}'"
        )
    if parent.spec.conditioning.guidance is not None:
        raise ValueError(f"parent must not have guidance distilled in, but '{parent.spec.name}' has")
    check_shape("parent", network, parent, besides=("guidance",))


def conditioning_of(experiment: Experiment, is_student: bool) -> Conditioning:
    """The conditioning of a model; a student whose objective learns guidance also takes the scale."""
    scales = experiment.guidance_range
    if scales is None or not (is_student and experiment.stages.objective.learns_guidance):
        return experiment.conditioning
    return experiment.conditioning.having(guidance=GuidanceScale(*scales))


def build_network(experiment: Experiment, is_student: bool) -> nn.Module:
    """The network of a stage with its initial weights, the same each time.

    Raises:
        ValueError: this kind of network does not support the experiment's data or conditioning.
    """
    conditioning = conditioning_of(experiment, is_student)
    inputs = NetworkInputs(
        shape=tuple(conditioning.codec.shape(experiment.pixels)),
        text=table().width if conditioning.text_length else 0,
        text_length=conditioning.text_length,
        classes=conditioning.classes,
        control=conditioning.control,
        guidance=conditioning.guidance is not None,
        target=is_student and experiment.stages.objective.targets is Targets.ANY,
    )
    torch.manual_seed(0)
    return fit(experiment.stages.network, inputs, experiment.network_size)


def describe_model(
    experiment: Experiment, network: nn.Module, is_student: bool, parent: SavedModel | None = None
) -> ModelSpec:
    """The content of model.json for the teacher, or for the student with its parent."""
    stages = experiment.stages
    sampler = stages.student_sampler if is_student else SOLVER
    spec = ModelSpec(
        name=experiment.model_name if is_student else f"{experiment.model_name}-teacher",
        parameterisation=Edm(SIGMA_DATA),
        targets=stages.objective.targets if is_student else Targets.SAME,
        components=components(describe(network), conditioning_of(experiment, is_student)),
        pixels=experiment.pixels,
        pixel_format=experiment.pixel_format,
        sampler=sampler,
        steps=SOLVER_STEPS if SAMPLERS[sampler].needs is Targets.SAME else 1,
        lineage=lineage(parent, None if is_student or stages.start is None else find(stages.start)),
    )
    return experiment.describe(spec, is_student)


def train_teacher(experiment: Experiment, out: Path) -> SavedModel:
    """Train and save the teacher, from scratch or from `start`."""
    stages = experiment.stages
    network = build_network(experiment, is_student=False)
    start = None if stages.start is None else start_from(network, stages.start)
    spec = describe_model(experiment, network, is_student=False)
    if experiment.prior_stage is not None:
        if start is None:
            _train_prior(experiment, experiment.prior_stage, network, spec, out)
        PriorAlone(network).requires_grad_(False)  # steps that suit the rest would undo what it has learned
    objective = OBJECTIVES[stages.teacher_objective].build(_setup(stages, stages.teacher))
    samples = experiment.preview(spec)
    callbacks: list[Callback] = []
    if not samples.is_points:
        callbacks.append(Preview("teacher", samples, spec.sampler, (spec.steps,), spec.grid))
    stage = Stage("teacher", stages.teacher, experiment.drops[0], {"start": _weights_hash(start)})
    return _train(experiment, stage, network, spec, objective, callbacks, out)


def _train_prior(experiment: Experiment, stage: PriorStage, network: nn.Module, spec: ModelSpec, out: Path) -> None:
    config = stage.config
    log.info("the prior: %d images in %d steps", config.images, config.steps(accelerator().num_processes))
    source = _batches(experiment, stage.dataset, spec.conditioning, config, experiment.drops[0])
    train_prior(network, source, config, out / "prior", experiment.facts, SIGMA_DATA, stage.start)


def train_student(experiment: Experiment, parent: SavedModel | None, out: Path) -> SavedModel:
    """Train and save the student, from its parent's weights or from scratch.

    Args:
        experiment: the recipe.
        parent: the teacher, or a consistency model to continue; None for a student trained on data alone.
        out: the directory of the run.
    """
    stages = experiment.stages
    network = build_network(experiment, is_student=True)
    spec = describe_model(experiment, network, is_student=True, parent=parent)
    setup = _setup(stages, stages.student)
    scales = spec.conditioning.guidance
    if scales is not None:
        setup = replace(setup, guidance=LearnedGuidance(*scales, null_condition(spec.conditioning)))
    if parent is not None:
        taught = network_of(parent)
        initialise(network, taught)
        estimator = frozen(taught, parent.spec.parameterisation, stages.student, parent.spec.targets)
        second = partial(trainable_copy, network, parent.spec.parameterisation, stages.student)
        setup = replace(setup, parent=estimator, copy_student=second)
    samples = experiment.preview(spec)
    callbacks: list[Callback] = []
    if not samples.is_points:
        steps = (1, 2) if spec.steps == 1 else (spec.steps,)
        callbacks.append(Preview("student", samples, spec.sampler, steps, spec.grid))
    if setup.parent is not None and setup.parent.targets is Targets.SAME:
        callbacks.append(DistanceToTeacher(setup.parent, samples, spec.grid))
    # guidance that is not learned may be applied when sampling, which needs the unconditional estimate
    is_guided_outside = experiment.guidance_range is not None and scales is None
    drop = experiment.drops[0 if is_guided_outside else 1]
    stage = Stage("student", stages.student, drop, {"teacher": _weights_hash(parent)})
    return _train(experiment, stage, network, spec, stages.objective.build(setup), callbacks, out)


@dataclass(frozen=True)
class Stage:
    """One stage of a run.

    Args:
        name: name of its directory.
        config: training settings.
        drop: share of samples whose prompt or class is left out.
        facts: JSON values that identify the run.
    """

    name: str
    config: TrainingConfig
    drop: float
    facts: Mapping[str, Any]


def _train(
    experiment: Experiment,
    stage: Stage,
    network: nn.Module,
    spec: ModelSpec,
    objective: Objective,
    callbacks: Sequence[Callback],
    out: Path,
) -> SavedModel:
    config = stage.config
    dataset = experiment.dataset
    log.info("the %s: %d images in %d steps", stage.name, config.images, config.steps(accelerator().num_processes))
    source = _batches(experiment, dataset, spec.conditioning, config, stage.drop)
    facts = {**experiment.facts, **stage.facts}
    check_training(network, _inputs(experiment, spec.conditioning), config.batch)
    average = train(network, spec.parameterisation, objective, source, config, out / stage.name, callbacks, facts)
    log.info("saving and exporting the %s", stage.name)
    return experiment.save(average, spec, out / "models" / spec.name)


def _inputs(experiment: Experiment, conditioning: Conditioning) -> Inputs:
    """What a stage's network is called with, for one image."""
    none = {name: torch.from_numpy(values) for name, values in conditioning.null(1).items()}
    level = torch.ones(1)
    return torch.zeros(1, *conditioning.codec.shape(experiment.pixels)), level, 0 * level, none


def _batches(
    experiment: Experiment, dataset: Dataset, conditioning: Conditioning, config: TrainingConfig, drop: float
) -> DatasetBatches:
    encoded = dataset.shape != experiment.pixels
    return DatasetBatches(dataset, conditioning, config.seed, drop, config.workers, encoded)


def _setup(stages: TwoStage, config: TrainingConfig) -> TrainingSetup:
    path = None if stages.path is None else PATHS[stages.path]
    steps = config.steps(accelerator().num_processes)
    return TrainingSetup(stages.density, steps, path=path, sigma_data=SIGMA_DATA)


def _weights_hash(saved: SavedModel | None) -> str | None:
    return None if saved is None else saved.weights_hash
