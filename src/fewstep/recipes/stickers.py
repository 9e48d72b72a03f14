"""Text to stickers on the codec's latents: a diffusion teacher, then a student by any objective.

Data: all artists' drawings, encoded once (`fewstep.data.latents`): each in its plain form and in several shrunk,
shifted and recoloured copies; one in ten style × thing and colour × thing pairs is held out. The style is a separate
label.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
import tyro
from torch import nn

from fewstep.data.latents import Latents
from fewstep.data.stickers import STYLES, Variation, attributions
from fewstep.data.styles import COLOURS, hexadecimal
from fewstep.models.codecs import LearnedCodec
from fewstep.models.components import GRAPH, WEIGHTS, Component, NetworkPart, Sketch, Vocabulary
from fewstep.models.conditioning import Conditioning, conditioners
from fewstep.models.saved import SavedModel
from fewstep.models.spec import ModelSpec
from fewstep.models.text import words
from fewstep.networks.autoencoder import Autoencoder
from fewstep.networks.inputs import NetworkSize
from fewstep.objectives.times import LogNormal
from fewstep.pictures.pixels import PixelFormat
from fewstep.recipes import two_stage
from fewstep.recipes.codec import read_codec
from fewstep.recipes.sticker_latents import encode_scenes, encoder_hash, sticker_scenes
from fewstep.recipes.two_stage import PriorStage, TwoStage, student_training, teacher_training
from fewstep.training.config import TrainingConfig
from fewstep.training.previews import PreviewSamples
from fewstep.training.saving import resolved, save_model

TEXT_LENGTH = 16
FILLS = 0.93
"""The longer side of a plain drawing as a share of the picture's side."""

PROMPTS = ("grinning face", "cat face", "red apple", "rocket", "hot beverage", "sunflower", "house", "blue car")
"""The prompts of the previews: one column each, with one row per style."""


def _stages() -> TwoStage:
    return TwoStage(
        density=LogNormal(0.6, 1.9),
        teacher=replace(teacher_training(1_500_000), batch=64, checkpoint_every=200, preview_every=500),
        student=student_training(300_000),
    )


def _prior_training() -> TrainingConfig:
    return replace(teacher_training(800_000), batch=512, checkpoint_every=100, preview_every=0)


@dataclass(frozen=True)
class StickersRecipe:
    """Text to stickers.

    Args:
        codec: Folder of a codec saved by `fewstep train codec`.
        latents: Folder of the latents made by this codec, created if it does not exist; None for one beside the
            stages.
        packages: Folder with the artists' packages; None to have npm fetch them.
        size: Side of the images in pixels.
        widths: Channels at each resolution of the network.
        depths: Residual blocks at each resolution.
        canvas: Channels, at each resolution, of a canvas that is drawn from the prompt alone; 0 for none.
        prior: Length of the embedding and channels of the features of a prior, a picture drawn from the prompt alone;
            empty for none.
        embedding: Length of the embedding of prompt, style and times.
        text_width: Width of the text transformer.
        draws: Augmented copies of each picture, besides the plain one.
        variation: How these copies are augmented.
        moved: Share of these copies that are moved, which are mostly trained on with a sketch.
        pairs: Share of these copies that show two things side by side.
        drop: Share of examples whose prompt and style are both left out in training, for guidance.
        guidance: Range of guidance scales that is distilled into the student.
        scale: Default guidance scale.
        prior_start: File of a prior's weights (OUT/prior/prior.safetensors of another run) to train further.
        prior_training: Training settings of the prior, which is trained before the teacher and fixed from then on.
        stages: Training settings of both stages.
    """

    codec: Path = Path("codec")
    latents: Path | None = None
    packages: Path | None = None
    size: int = 128
    widths: tuple[int, ...] = (192, 320)
    depths: tuple[int, ...] = (1, 2)
    canvas: tuple[int, ...] = ()
    prior: tuple[int, ...] = (1024, 64)
    embedding: int = 512
    text_width: int = 192
    draws: int = 3
    variation: Variation = field(default_factory=lambda: Variation(shrink=0.3, shift=0.8, colour=0.4))
    moved: float = 0.3
    pairs: float = 0.1
    drop: float = 0.1
    guidance: tuple[float, float] = (1.0, 4.0)
    scale: float = 2.0
    prior_start: Path | None = None
    prior_training: TrainingConfig = field(default_factory=_prior_training)
    stages: Annotated[TwoStage, tyro.conf.arg(name="")] = field(default_factory=_stages)

    model_name: ClassVar[str] = "stickers"
    pixel_format: ClassVar[PixelFormat] = "rgba_premultiplied"

    def run(self, out: Path) -> SavedModel:
        """Encode the pictures, then train both stages under `out`; see `two_stage.run`.

        Raises:
            DataError: the codec, the latents or a package cannot be used.
        """
        folder = out / "latents" if self.latents is None else self.latents
        ready = replace(self, latents=folder)
        ready.encode()
        return two_stage.run(ready, out)

    def encode(self) -> None:
        """Make the latents if they do not exist yet.

        Raises:
            DataError: the latents were made by another codec.
        """
        scenes = sticker_scenes(self.size, self.packages, self.draws, self.variation, self.moved, self.pairs)
        encode_scenes(self.dataset.folder, scenes, self.autoencoder)

    @cached_property
    def autoencoder(self) -> Autoencoder:
        """The frozen codec."""
        return read_codec(self.codec)

    @cached_property
    def dataset(self) -> Latents:
        return Latents(self.latents or Path("latents"))

    @property
    def pixels(self) -> tuple[int, ...]:
        return (4, self.size, self.size)

    @property
    def conditioning(self) -> Conditioning:
        shape = self.autoencoder.config
        networks = {"encoder": Called(self.autoencoder.encoder), "decoder": Called(self.autoencoder.decoder)}
        codec = LearnedCodec(shape.latents, shape.factor).running(networks)
        return Conditioning(codec, conditioners(TEXT_LENGTH, classes=len(STYLES), control=self.pixels))

    @property
    def guidance_range(self) -> tuple[float, float]:
        return self.guidance

    @property
    def network_size(self) -> NetworkSize:
        return NetworkSize(self.widths, self.depths, self.embedding, self.text_width, self.canvas, self.prior)

    @property
    def drops(self) -> tuple[float, float]:
        return (self.drop, 0.0)

    @property
    def facts(self) -> Mapping[str, Any]:
        return {"codec": encoder_hash(self.autoencoder)}

    @property
    def prior_stage(self) -> PriorStage | None:
        still = replace(self.dataset, moved=False, sketched=(0.0, 0.0))
        return PriorStage(still, self.prior_training, self.prior_start) if self.prior else None

    def preview(self, spec: ModelSpec) -> PreviewSamples:
        prompts = PROMPTS * len(STYLES)
        labels = tuple(style for style in range(len(STYLES)) for _ in PROMPTS)
        return PreviewSamples(
            spec.conditioning, self.pixels, self.pixel_format, prompts, spec.guidance, labels, len(PROMPTS)
        )

    def describe(self, spec: ModelSpec, is_student: bool) -> ModelSpec:
        palette = {name: hexadecimal(colour) for name, colour in COLOURS.items()}
        others = {
            "encoder": Component(NetworkPart()),
            "decoder": Component(NetworkPart()),
            "sketch": Component(Sketch(FILLS)),
            "vocabulary": Component(Vocabulary(STYLES, palette)),
        }
        return replace(
            spec,
            components={**spec.components, **others},
            guidance=None if is_student and spec.conditioning.guidance is None else self.scale,
            licence="weights Apache-2.0; trained on drawings by " + "; ".join(attributions()),
            recipe=resolved(self, "stickers"),
        )

    def save(self, network: nn.Module, spec: ModelSpec, directory: Path) -> SavedModel:
        keywords = {word for glyph in self.dataset.glyphs for keyword in glyph.keywords for word in words(keyword)}
        known = keywords | {word for name in [*COLOURS, *STYLES] for word in words(name)}
        codec = [self.codec / f"{name}{ending}" for name in ("encoder", "decoder") for ending in (WEIGHTS, GRAPH)]
        return save_model(network, spec, directory, self.dataset.captions, sorted(known), beside=codec)


@dataclass(frozen=True, eq=False)
class Called:
    """A codec's torch network, called with NumPy arrays as engines are."""

    network: nn.Module

    def __call__(self, x: Any, time_at: Any, time_to: Any, cond: Mapping[str, Any]) -> Any:
        with torch.no_grad():
            return self.network(torch.from_numpy(np.ascontiguousarray(x))).numpy()
