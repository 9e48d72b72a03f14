"""The shipped model: transparent emoji from text. A teacher by diffusion, then a student by consistency distillation
with guidance folded in.

Budget on two CPU cores (AMD EPYC, bf16): see docs/models/emoji.md for what was spent and reached.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from fewstep.core.codecs import SpaceToDepth
from fewstep.core.densities import LogNormal
from fewstep.core.parameterisations import Edm
from fewstep.data.emoji import Augmentation, Emoji
from fewstep.models.conditioning import Conditioning
from fewstep.models.text import table
from fewstep.networks.unet import UNet, UNetConfig
from fewstep.objectives import Diffusion
from fewstep.training.batches import DatasetBatches
from fewstep.training.ema import EmaConfig
from fewstep.training.loop import TrainingConfig, train
from fewstep.training.optimizers import OptimizerConfig

SIGMA_DATA = 0.5
TEXT_LENGTH = 16

MEAN = (0.3131, 0.2665, 0.1949, 0.4379)
STD = (0.3925, 0.3326, 0.2927, 0.4748)
"""Of the plain glyphs' premultiplied channels: `fewstep data emoji --json -` prints them."""


def _muon(decay_from: float) -> OptimizerConfig:
    return OptimizerConfig(kind="muon", lr=1e-3, muon_lr=0.02, decay_from=decay_from)


@dataclass(frozen=True)
class EmojiRecipe:
    """Settings of both stages."""

    size: int = 32
    patch: int = 2
    widths: tuple[int, ...] = (64, 128, 192)
    depths: tuple[int, ...] = (1, 2, 1)
    augmentation: Augmentation = field(
        default_factory=lambda: Augmentation(
            shift=0.03, turn=6.0, shrink=0.1, colour=0.2, style=0.2, control=0.2, keywords=0.25
        )
    )
    density: LogNormal = field(default_factory=lambda: LogNormal(0.2, 1.6))
    drop: float = 0.1
    teacher: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(
            images=400_000,
            precision="bf16",
            optimizer=_muon(0.3),
            ema=EmaConfig(sigma_rel=0.05),
            checkpoint_every=200,
            preview_every=500,
        )
    )

    @property
    def dataset(self) -> Emoji:
        return Emoji(self.size, self.augmentation)

    def conditioning(self, guidance: tuple[float, float] | None = None) -> Conditioning:
        codec = SpaceToDepth(self.patch, MEAN, STD, SIGMA_DATA)
        return Conditioning(codec, text_length=TEXT_LENGTH, control=True, guidance=guidance)

    def network(self, guidance: bool = False) -> UNet:
        channels = 4 * self.patch**2
        torch.manual_seed(0)
        return UNet(
            UNetConfig(
                channels=channels,
                control=channels,
                widths=self.widths,
                depths=self.depths,
                attention=(False, *(True for _ in self.widths[1:])),
                text=table().width,
                text_length=TEXT_LENGTH,
                text_width=128,
                guidance=guidance,
            )
        )


def train_teacher(recipe: EmojiRecipe, out: Path, **overrides: Any) -> torch.nn.Module:
    source = DatasetBatches(recipe.dataset, recipe.conditioning(), recipe.teacher.seed, recipe.drop)
    objective = Diffusion(recipe.density, SIGMA_DATA)
    config = replace(recipe.teacher, **overrides)
    return train(recipe.network(), Edm(SIGMA_DATA), objective, source, config, out)
