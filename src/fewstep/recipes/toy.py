"""Points in the plane, some four minutes on two CPU cores: eight Gaussians in a ring, whose exact answer is known.

A diffusion teacher and a student by consistency distillation; the distance of both to the data is printed beside the
distance between two samples of the data itself.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fewstep.core.checks import check_at_least
from fewstep.core.parameterisations import Edm, Parameterised, Targets
from fewstep.data.toys import ring
from fewstep.generation.model import Model, load
from fewstep.generation.planning import Plan
from fewstep.measure.metrics import sliced_wasserstein
from fewstep.models.codecs import Identity
from fewstep.models.conditioning import Conditioning
from fewstep.models.saved import WEIGHTS, ModelSpec, SavedModel
from fewstep.networks.mlp import MLP, MLPConfig
from fewstep.networks.registry import describe
from fewstep.objectives import ConsistencyDistillation, Diffusion
from fewstep.objectives.objective import Objective
from fewstep.objectives.times import LogNormal
from fewstep.recipes.common import Asked, initialise, lineage, resolved, save_model
from fewstep.recipes.diagnostics import DistanceToTeacher
from fewstep.samplers import SAMPLERS
from fewstep.training.batches import DatasetBatches
from fewstep.training.ema import EmaConfig
from fewstep.training.loop import Callback, TrainingConfig, accelerator, train
from fewstep.training.optimizers import OptimizerConfig

SIGMA_DATA = 0.5

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


@dataclass(frozen=True)
class ToyRecipe:
    """Eight Gaussians in a ring.

    Args:
        width, depth: of the perceptron.
        density: of the teacher's noise levels.
        levels: of the distillation's grid.
        teacher, student: how long and how each stage is trained.
        points: how many to measure with.
    """

    width: int = 128
    depth: int = 3
    density: LogNormal = field(default_factory=lambda: LogNormal(-0.8, 1.6))
    levels: int = 18
    teacher: TrainingConfig = field(default_factory=lambda: _training(0, 2e-3))
    student: TrainingConfig = field(default_factory=lambda: _training(1, 1e-3))
    points: int = 10_000

    def __post_init__(self) -> None:
        check_at_least(2, levels=self.levels, points=self.points)

    def run(self, out: Path) -> SavedModel:
        """Train both stages under `out`, save both models in `out/models` and log their distances."""
        teacher = self._train(Diffusion(self.density, SIGMA_DATA), self._network(), self.teacher, out / "teacher")
        parent = self.save(teacher, out / "models" / "toy-teacher")
        student = self._network()
        initialise(student, teacher)
        teacher = teacher.to(accelerator().device)
        frozen = Parameterised(teacher.eval().requires_grad_(False), Edm(SIGMA_DATA))
        objective = ConsistencyDistillation(frozen, levels=self.levels, solver="heun")
        asked = Asked(Conditioning(Identity()), (2,), "points", prompts=("",) * 64)
        grid = self.spec(student, "toy", parent).grid
        watched = [DistanceToTeacher(frozen, asked, grid)]
        student = self._train(objective, student, self.student, out / "student", parent, watched)
        saved = self.save(student, out / "models" / "toy", parent)
        if accelerator().is_main_process:
            self.measure(out)
        return saved

    def _network(self) -> MLP:
        torch.manual_seed(0)
        return MLP(MLPConfig(width=self.width, depth=self.depth))

    def _train(
        self,
        objective: Objective,
        network: MLP,
        config: TrainingConfig,
        out: Path,
        parent: SavedModel | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> MLP:
        source = DatasetBatches(ring(), Conditioning(Identity()), config.seed, drop=0.0)
        facts = {"teacher": None if parent is None else parent.spec.files[WEIGHTS]}
        average = train(network, Edm(SIGMA_DATA), objective, source, config, out, callbacks, facts)
        assert isinstance(average, MLP)
        return average

    def spec(self, network: MLP, name: str, parent: SavedModel | None = None) -> ModelSpec:
        """What model.json says: of the teacher, or with its `parent` of the student."""
        return ModelSpec(
            name=name,
            network=describe(network),
            parameterisation=Edm(SIGMA_DATA),
            targets=Targets.SAME if parent is None else Targets.CLEAN,
            conditioning=Conditioning(Identity()),
            pixels=(2,),
            pixel_format="points",
            sampler="heun" if parent is None else "consistency",
            steps=18 if parent is None else 1,
            sigma_min=0.002 if parent is None else 0.3,  # a student's last step begins where it still has work to do
            licence="Apache-2.0",
            recipe=resolved(self, "toy"),
            lineage=lineage(parent),
        )

    def save(self, network: MLP, directory: Path, parent: SavedModel | None = None) -> SavedModel:
        """Save the teacher, or with its `parent` the student."""
        return save_model(network, self.spec(network, directory.name, parent), directory)

    def measure(self, out: Path) -> dict[str, float]:
        """The sliced Wasserstein distance of each way of sampling to the data, and that of the data to itself."""
        data, rng = ring(), np.random.default_rng(0)
        real, other = data.sample(self.points, rng), data.sample(self.points, rng)
        distances = {"data, another sample": sliced_wasserstein(real, other)}
        for name, steps in (("toy-teacher", 18), ("toy-teacher", 1), ("toy", 1), ("toy", 2)):
            model = load(out / "models" / name)
            points = sample_points(model, steps, self.points)
            distances[f"{name}, {steps} steps"] = sliced_wasserstein(real, points)
        for name, distance in distances.items():
            log.info("%-22s sliced Wasserstein distance %.4f", name, distance)
        return distances


def sample_points(model: Model, steps: int, count: int) -> Any:
    """Points [count, d] of a 2-D model, float32."""
    plan = Plan(
        prompts=("",) * count,
        seeds=tuple(range(count)),
        sampler=model.spec.sampler,
        levels=model.spec.grid(steps),
        guidance=None,
        gamma=SAMPLERS[model.spec.sampler].gamma,
    )
    *_, last = model.run(plan)
    return last.jump.x
