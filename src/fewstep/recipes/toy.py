"""Points in the plane, in about four minutes on two CPU cores: eight Gaussians in a ring, with a known exact answer.

A diffusion teacher and a student by consistency distillation; the distance of each to the data is printed with the
distance between two samples of the data for comparison.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import tyro
from torch import nn

from fewstep.core.checks import check_at_least
from fewstep.data.toys import Mixture, ring
from fewstep.generation.load import load
from fewstep.generation.model import Model
from fewstep.generation.planning import Conditions, Plan, Sampling
from fewstep.measure.metrics import sliced_wasserstein
from fewstep.models.codecs import Identity
from fewstep.models.conditioning import Conditioning
from fewstep.models.saved import SavedModel
from fewstep.models.spec import ModelSpec
from fewstep.networks.inputs import NetworkSize
from fewstep.objectives.registry import ConsistencyDistillationSettings
from fewstep.objectives.times import LogNormal
from fewstep.pictures.pixels import PixelFormat
from fewstep.recipes import two_stage
from fewstep.recipes.two_stage import TwoStage
from fewstep.samplers import SAMPLERS
from fewstep.training.ema import EmaConfig
from fewstep.training.loop import TrainingConfig
from fewstep.training.optimizers import OptimizerConfig
from fewstep.training.previews import PreviewSamples
from fewstep.training.saving import resolved, save_model
from fewstep.training.strategy import accelerator

log = logging.getLogger(__name__)


def _training(seed: int, lr: float) -> TrainingConfig:
    return TrainingConfig(
        images=2_000_000,
        batch=1024,
        seed=seed,
        optimizer=OptimizerConfig(kind="adamw", lr=lr, decay_from=0.3),
        ema=EmaConfig(sigma_rel=0.05),
        preview_every=500,
        log_every=200,
    )


def _stages() -> TwoStage:
    return TwoStage(
        objective=ConsistencyDistillationSettings(),
        network="mlp",
        density=LogNormal(-0.8, 1.6),
        teacher=_training(0, 2e-3),
        student=_training(1, 1e-3),
    )


@dataclass(frozen=True)
class ToyRecipe:
    """Eight Gaussians in a ring.

    Args:
        width: Width of the perceptron's hidden layers.
        depth: Residual blocks of the perceptron.
        points: Number of points to measure with.
        stages: Training settings of both stages.
    """

    width: int = 128
    depth: int = 3
    points: int = 10_000
    stages: Annotated[TwoStage, tyro.conf.arg(name="")] = field(default_factory=_stages)

    model_name: ClassVar[str] = "toy"
    pixels: ClassVar[tuple[int, ...]] = (2,)
    pixel_format: ClassVar[PixelFormat] = "points"
    guidance_range: ClassVar[None] = None
    drops: ClassVar[tuple[float, float]] = (0.0, 0.0)

    def __post_init__(self) -> None:
        check_at_least(2, points=self.points)

    def run(self, out: Path) -> SavedModel:
        """Train both stages under `out`, save both models in `out/models` and log their distances to the data; see
        also `two_stage.run`."""
        saved = two_stage.run(self, out)
        if accelerator().is_main_process:
            self.measure(out)
        return saved

    @property
    def dataset(self) -> Mixture:
        return ring()

    @property
    def conditioning(self) -> Conditioning:
        return Conditioning(Identity())

    @property
    def network_size(self) -> NetworkSize:
        return NetworkSize((self.width,), (self.depth,), embedding=128)

    @property
    def facts(self) -> Mapping[str, Any]:
        return {}

    @property
    def prior_stage(self) -> None:
        return None

    def preview(self, spec: ModelSpec) -> PreviewSamples:
        return PreviewSamples(spec.conditioning, self.pixels, "points", prompts=("",) * 64)

    def describe(self, spec: ModelSpec, is_student: bool) -> ModelSpec:
        return replace(
            spec,
            sigma_min=0.3 if is_student else spec.sigma_min,  # below it a student's last step has nothing left to do
            licence="Apache-2.0",
            recipe=resolved(self, "toy"),
        )

    def save(self, network: nn.Module, spec: ModelSpec, directory: Path) -> SavedModel:
        return save_model(network, spec, directory)

    def measure(self, out: Path) -> dict[str, float]:
        """The sliced Wasserstein distance to the data of each model's samples, and of another sample of the data."""
        data, rng = ring(), np.random.default_rng(0)
        real, other = data.sample(self.points, rng), data.sample(self.points, rng)
        distances = {"data, another sample": sliced_wasserstein(real, other)}
        teacher = [("toy-teacher", steps) for steps in (18, 1) if self.stages.has_teacher]
        for name, steps in (*teacher, ("toy", 1), ("toy", 2)):
            model = load(out / "models" / name)
            distances[f"{name}, {steps} steps"] = sliced_wasserstein(real, sample_points(model, steps, self.points))
        for name, distance in distances.items():
            log.info("%-22s sliced Wasserstein distance %.4f", name, distance)
        return distances


def sample_points(model: Model, steps: int, count: int) -> Any:
    """Points [count, d] drawn by a 2-D model, float32."""
    sampler = model.spec.sampler
    sampling = Sampling(sampler, model.spec.grid(steps), tuple(range(count)), SAMPLERS[sampler].gamma)
    plan = Plan(sampling, Conditions(("",) * count))
    *_, last = model.run(plan)
    return last.jump.x
