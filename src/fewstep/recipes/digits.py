"""Digits by class in one step, in minutes on a CPU: a diffusion teacher, tuned into a consistency model by ECT.

Data: scikit-learn's handwritten digits at 16 × 16. The smallest complete experiment on real images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro
from torch import nn

from fewstep.core.parameterisations import Targets
from fewstep.data.digits import Digits
from fewstep.measure.subjects import DigitsSubject
from fewstep.models.codecs import SpaceToDepth
from fewstep.models.conditioning import Conditioning, conditioners
from fewstep.models.saved import SavedModel
from fewstep.models.spec import ModelSpec
from fewstep.networks.inputs import NetworkSize
from fewstep.networks.unet import check_size
from fewstep.objectives.registry import EasyConsistencySettings
from fewstep.objectives.times import LogNormal
from fewstep.pictures.pixels import PixelFormat
from fewstep.recipes import two_stage
from fewstep.recipes.two_stage import SIGMA_DATA, TwoStage
from fewstep.training.ema import EmaConfig
from fewstep.training.loop import TrainingConfig
from fewstep.training.optimizers import OptimizerConfig
from fewstep.training.previews import PreviewSamples
from fewstep.training.saving import resolved, save_model

CLASSES = 10
PATCH = 2


def _training(images: int, seed: int, muon_lr: float) -> TrainingConfig:
    return TrainingConfig(
        images=images,
        seed=seed,
        precision="auto",
        optimizer=OptimizerConfig(kind="muon", lr=muon_lr / 20, muon_lr=muon_lr, decay_from=0.3),
        ema=EmaConfig(sigma_rel=0.05),
        preview_every=400,
    )


def _stages() -> TwoStage:
    return TwoStage(
        objective=EasyConsistencySettings(),
        density=LogNormal(-0.4, 1.6),
        teacher=_training(100_000, 0, 0.02),
        student=_training(100_000, 1, 0.005),
    )


@dataclass(frozen=True)
class DigitsRecipe:
    """Digits by class in one step.

    Args:
        size: Side of the images in pixels, a multiple of 4.
        widths: Channels at each resolution of the network.
        depths: Residual blocks at each resolution.
        stages: Training settings of both stages.
    """

    size: int = 16
    widths: tuple[int, ...] = (32, 64)
    depths: tuple[int, ...] = (1, 2)
    stages: Annotated[TwoStage, tyro.conf.arg(name="")] = field(default_factory=_stages)

    model_name: ClassVar[str] = "digits"
    pixel_format: ClassVar[PixelFormat] = "grey"
    guidance_range: ClassVar[None] = None
    drops: ClassVar[tuple[float, float]] = (0.1, 0.0)

    def __post_init__(self) -> None:
        check_size(self.size, PATCH, len(self.widths))

    def run(self, out: Path) -> SavedModel:
        """Train both stages under `out` and save both models in `out/models`; see `two_stage.run`."""
        return two_stage.run(self, out)

    @property
    def dataset(self) -> Digits:
        return Digits(self.size)

    @property
    def pixels(self) -> tuple[int, ...]:
        return (1, self.size, self.size)

    @property
    def conditioning(self) -> Conditioning:
        return Conditioning(SpaceToDepth(PATCH, (0.305,), (0.376,), SIGMA_DATA), conditioners(classes=CLASSES))

    @property
    def network_size(self) -> NetworkSize:
        return NetworkSize(self.widths, self.depths, embedding=128)

    @property
    def facts(self) -> Mapping[str, Any]:
        return {}

    @property
    def prior_stage(self) -> None:
        return None

    def preview(self, spec: ModelSpec) -> PreviewSamples:
        labels = tuple(label for label in range(CLASSES) for _ in range(2))
        prompts = ("",) * len(labels)
        return PreviewSamples(spec.conditioning, self.pixels, "grey", prompts, labels=labels, columns=len(labels))

    def describe(self, spec: ModelSpec, is_student: bool) -> ModelSpec:
        return replace(
            spec,
            levels={2: (80.0, 0.8)} if spec.targets is Targets.CLEAN else {},
            sigma_min=0.2 if is_student else spec.sigma_min,
            licence="weights Apache-2.0; trained on the UCI digits that scikit-learn carries (CC BY 4.0)",
            recipe=resolved(self, "digits"),
        )

    def save(self, network: nn.Module, spec: ModelSpec, directory: Path) -> SavedModel:
        return save_model(network, spec, directory)

    def subject(self) -> DigitsSubject:
        """The subject that models of digits are evaluated on."""
        return DigitsSubject(self.size)
