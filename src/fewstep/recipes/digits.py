"""Digits by class in one step, in minutes on a CPU: a diffusion teacher, tuned into a consistency model by ECT.

Data: scikit-learn's handwritten digits at 16 × 16. The smallest complete experiment on real images.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch

from fewstep.core.parameterisations import Edm, Estimator, Targets
from fewstep.data.digits import Digits
from fewstep.models.codecs import SpaceToDepth
from fewstep.models.conditioning import Conditioning
from fewstep.models.saved import WEIGHTS, ModelSpec, SavedModel
from fewstep.networks.registry import describe
from fewstep.networks.unet import UNet, UNetConfig
from fewstep.objectives import Diffusion, EasyConsistency
from fewstep.objectives.curricula import EctGap
from fewstep.objectives.times import LogNormal
from fewstep.recipes.common import Asked, Preview, check_size, frozen, initialise, lineage, resolved, save_model
from fewstep.recipes.diagnostics import DistanceToTeacher
from fewstep.training.batches import DatasetBatches
from fewstep.training.ema import EmaConfig
from fewstep.training.loop import Callback, TrainingConfig, train
from fewstep.training.optimizers import OptimizerConfig

SIGMA_DATA = 0.5


def _training(images: int, seed: int, muon_lr: float) -> TrainingConfig:
    return TrainingConfig(
        images=images,
        seed=seed,
        precision="bf16",
        optimizer=OptimizerConfig(kind="muon", lr=muon_lr / 20, muon_lr=muon_lr, decay_from=0.3),
        ema=EmaConfig(sigma_rel=0.05),
        preview_every=400,
    )


@dataclass(frozen=True)
class DigitsRecipe:
    """A digit of a wanted class in one step.

    Args:
        size: pixels a side, a multiple of 4.
        widths, depths: of the U-Net.
        density: of the teacher's noise levels.
        student_density, gap: of ECT's levels, and its curriculum; the published ones.
        teacher, student: how long and how each stage is trained.
    """

    size: int = 16
    widths: tuple[int, ...] = (32, 64)
    depths: tuple[int, ...] = (1, 2)
    density: LogNormal = field(default_factory=lambda: LogNormal(-0.4, 1.6))
    student_density: LogNormal = field(default_factory=lambda: LogNormal(-1.1, 2.0))
    gap: EctGap = field(default_factory=EctGap)
    teacher: TrainingConfig = field(default_factory=lambda: _training(100_000, 0, 0.02))
    student: TrainingConfig = field(default_factory=lambda: _training(100_000, 1, 0.005))

    def __post_init__(self) -> None:
        check_size(self.size, 2, len(self.widths))

    def run(self, out: Path) -> SavedModel:
        """Train both stages under `out` and save both models in `out/models`."""
        teacher = self._train(self.network(), out / "teacher")
        parent = self.save(teacher, out / "models" / "digits-teacher")
        student = self.network()
        initialise(student, teacher)
        still = frozen(teacher, Edm(SIGMA_DATA), self.student.precision, self.student.graphs)
        student = self._train(student, out / "student", parent, still)
        return self.save(student, out / "models" / "digits", parent)

    @property
    def pixels(self) -> tuple[int, ...]:
        return (1, self.size, self.size)

    @property
    def conditioning(self) -> Conditioning:
        return Conditioning(SpaceToDepth(2, (0.305,), (0.376,), SIGMA_DATA), classes=10)

    def network(self) -> UNet:
        torch.manual_seed(0)
        return UNet(
            UNetConfig(
                channels=4,
                widths=self.widths,
                depths=self.depths,
                attention=(False, *(True for _ in self.widths[1:])),
                embedding=128,
                classes=10,
            )
        )

    def _train(
        self, network: UNet, out: Path, parent: SavedModel | None = None, teacher: Estimator | None = None
    ) -> UNet:
        is_teacher = parent is None
        config = self.teacher if is_teacher else self.student
        objective = (
            Diffusion(self.density, SIGMA_DATA)
            if is_teacher
            else EasyConsistency(self.student_density, self.gap, dropout=False)
        )
        labels = tuple(label for label in range(10) for _ in range(2))
        asked = Asked(self.conditioning, self.pixels, "grey", ("",) * len(labels), labels=labels)
        grid = self.spec(network, "digits", parent, not is_teacher).grid
        callbacks: list[Callback] = [
            Preview(
                "teacher" if is_teacher else "student",
                asked,
                "heun" if is_teacher else "consistency",
                (18,) if is_teacher else (1, 2),
                grid,
                columns=len(labels),
            )
        ]
        if teacher is not None:
            callbacks.append(DistanceToTeacher(teacher, asked, grid))
        drop = 0.1 if is_teacher else 0.0
        source = DatasetBatches(Digits(self.size), self.conditioning, config.seed, drop, config.workers)
        facts = {"teacher": None if parent is None else parent.spec.files[WEIGHTS]}
        average = train(network, Edm(SIGMA_DATA), objective, source, config, out, callbacks, facts)
        assert isinstance(average, UNet)
        return average

    def spec(self, network: UNet, name: str, parent: SavedModel | None = None, distilled: bool = False) -> ModelSpec:
        """What model.json says: of the teacher, or `distilled` of the student with its `parent`."""
        return ModelSpec(
            name=name,
            network=describe(network),
            parameterisation=Edm(SIGMA_DATA),
            targets=Targets.CLEAN if distilled else Targets.SAME,
            conditioning=self.conditioning,
            pixels=self.pixels,
            pixel_format="grey",
            sampler="consistency" if distilled else "heun",
            steps=1 if distilled else 18,
            levels={2: (80.0, 0.8)} if distilled else {},
            sigma_min=0.2 if distilled else 0.002,
            licence="weights Apache-2.0; trained on the UCI digits that scikit-learn carries (CC BY 4.0)",
            recipe=resolved(self, "digits"),
            lineage=lineage(parent),
        )

    def save(self, network: UNet, directory: Path, parent: SavedModel | None = None) -> SavedModel:
        """Save the teacher, or with its `parent` the student."""
        return save_model(network, self.spec(network, directory.name, parent, parent is not None), directory)
