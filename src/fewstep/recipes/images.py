"""Your own images in one step: a diffusion teacher trained on them, then a student by consistency distillation.

Data: a folder of images, WebDataset shards or a Hugging Face data set. Where there are captions (or folders by class,
whose names are read as captions) the model takes a prompt, where there are only labels a class, else nothing; with a
prompt or a class, guidance is folded into the student. The defaults are for small pictures and hours on a CPU, after
the emoji recipe; on a GPU take a larger size, widths and budget. Nothing is known of your data: look at the previews.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from torch import nn

from fewstep.core.parameterisations import Targets
from fewstep.data import DataError, channel_statistics, open_pictures
from fewstep.data.sources import Pictures
from fewstep.models.codecs import SpaceToDepth
from fewstep.models.conditioning import Conditioning, conditioners
from fewstep.models.saved import SavedModel
from fewstep.models.spec import ModelSpec
from fewstep.networks.inputs import NetworkSize
from fewstep.networks.unet import check_size
from fewstep.objectives.times import LogNormal
from fewstep.pictures.frame import Channels, Crop
from fewstep.pictures.pixels import PixelFormat
from fewstep.recipes import two_stage
from fewstep.recipes.two_stage import SIGMA_DATA, TwoStage
from fewstep.training.previews import PreviewSamples
from fewstep.training.saving import resolved, save_model

log = logging.getLogger(__name__)

FORMATS: dict[Channels, PixelFormat] = {"RGB": "rgb", "RGBA": "rgba_premultiplied", "L": "grey"}
LEVELS = {2: (80.0, 0.8)}
"""The middle σ/α of two steps that 2303.01469 found on CIFAR-10 is near 0.8; a guess for other data."""

STUDENT_SIGMA_MIN = 0.4
"""The lowest σ/α that a student of any number of steps visits, where its objective does not say."""


@dataclass(frozen=True)
class ImagesRecipe:
    """Images from a folder, shards or a Hugging Face data set, in one step.

    Args:
        data: The images: a folder, .tar shards, or a Hugging Face data set by name or path.
        name: The model's; the teacher's is this with -teacher.
        size: Pixels a side.
        channels: RGB, RGBA (stickers) or L (grey).
        split: Of a Hugging Face data set, or of a folder with one folder for each split.
        config: Of a Hugging Face data set that has several.
        caption_column: The column with the captions, if it is not text, caption or prompt.
        condition: What the model takes: a prompt, a class, nothing, or what the data have (captions before classes).
        flip: Mirror left and right in half of the draws.
        crop: How images of another shape are brought to a square.
        licence: Of the data and so of the weights, kept in the model.
        patch: Pixels a side of what becomes one position; size must be a multiple of it and of 2 for each further
            resolution. Larger pictures want a larger patch or more resolutions.
        widths: Channels at each resolution of the network. It attends where 16 positions a side or fewer are left,
            but not at the first resolution.
        depths: Residual blocks at each resolution.
        text_length: Tokens kept of a prompt.
        text_width: Of the text's transformer.
        drop: The share of prompts or classes left out, for guidance.
        guidance: The range of guidance scales that is distilled into the student.
        scale: The guidance scale used unless another is asked for.
        stages: How both stages are trained.
    """

    data: str = ""
    name: str = "images"
    size: int = 32
    channels: Channels = "RGB"
    split: str = "train"
    config: str | None = None
    caption_column: str | None = None
    condition: Literal["auto", "text", "class", "none"] = "auto"
    flip: bool = False
    crop: Crop = "center"
    licence: str = ""
    patch: int = 2
    widths: tuple[int, ...] = (64, 128, 192)
    depths: tuple[int, ...] = (1, 2, 1)
    text_length: int = 24
    text_width: int = 128
    drop: float = 0.1
    guidance: tuple[float, float] = (1.0, 4.0)
    scale: float = 2.0
    stages: Annotated[TwoStage, tyro.conf.arg(name="")] = field(
        default_factory=lambda: TwoStage(density=LogNormal(0.0, 1.7))
    )

    def __post_init__(self) -> None:
        check_size(self.size, self.patch, len(self.widths))

    def run(self, out: Path) -> SavedModel:
        """Train both stages under `out` and save both models in `out/models`; see `two_stage.run`.

        Raises:
            DataError: `data` is not given or cannot be used, or `out` is inside it.
        """
        self.check(out)
        return two_stage.run(self, out)

    def check(self, out: Path) -> None:
        """Raise for what would otherwise be found out after hours, and say what the data are; see `run`."""
        if self.data and out.resolve().is_relative_to(Path(self.data).expanduser().resolve()):
            raise DataError(f"'{out}' is inside the data: its previews would be trained on")
        takes = self.conditioning
        two_stage.check(self)
        kind = "a prompt" if takes.text_length else f"one of {takes.classes} classes" if takes.classes else "nothing"
        log.info(
            "%s: %d images, %d captions; the model will take %s (--condition)",
            self.dataset.name,
            len(self.dataset),
            len(self.dataset.captions),
            kind,
        )

    @cached_property
    def dataset(self) -> Pictures:
        """The images.

        Raises:
            DataError: `data` is not given, or holds no images.
        """
        if not self.data:
            raise DataError("give --data: a folder of images, .tar shards, or a Hugging Face data set")
        return open_pictures(
            self.data,
            self.size,
            self.channels,
            self.split,
            self.flip,
            self.crop,
            caption_column=self.caption_column,
            config=self.config,
        )

    @cached_property
    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return channel_statistics(self.dataset)

    @property
    def model_name(self) -> str:
        return self.name

    @property
    def pixels(self) -> tuple[int, ...]:
        return (len(self.channels), self.size, self.size)

    @property
    def pixel_format(self) -> PixelFormat:
        return FORMATS[self.channels]

    @property
    def conditioning(self) -> Conditioning:
        """What `condition` says; `auto` is text where there are captions and class where there are only labels.

        Raises:
            DataError: it asks for what the data do not have.
        """
        captions, classes = self.dataset.captions, self.dataset.classes
        if self.condition == "text" and not captions:
            raise DataError(f"{self.dataset.name} has no captions: give them, or another --condition")
        if self.condition == "class" and not classes:
            raise DataError(f"{self.dataset.name} has no classes: give them, or another --condition")
        text = bool(captions) and self.condition in ("auto", "text")
        return Conditioning(
            SpaceToDepth(self.patch, *self._statistics, SIGMA_DATA),
            conditioners(
                text_length=self.text_length if text else 0,
                classes=classes if not text and self.condition in ("auto", "class") else 0,
            ),
        )

    @property
    def guidance_range(self) -> tuple[float, float] | None:
        takes = self.conditioning
        return self.guidance if takes.text_length or takes.classes else None

    @property
    def network_size(self) -> NetworkSize:
        return NetworkSize(self.widths, self.depths, text_width=self.text_width)

    @property
    def drops(self) -> tuple[float, float]:
        return (self.drop, 0.0)

    @property
    def facts(self) -> Mapping[str, Any]:
        return {"framing": [self.channels, self.crop, self.flip]}

    def preview(self, spec: ModelSpec) -> PreviewSamples:
        takes, captions = spec.conditioning, self.dataset.captions
        prompts = tuple(captions[i * len(captions) // 16] if takes.text_length else "" for i in range(16))
        labels = tuple(i % takes.classes for i in range(16)) if takes.classes else None
        return PreviewSamples(takes, self.pixels, self.pixel_format, prompts, spec.guidance, labels)

    def describe(self, spec: ModelSpec, is_student: bool) -> ModelSpec:
        is_guided = self.guidance_range is not None and not (is_student and spec.conditioning.guidance is None)
        return replace(
            spec,
            guidance=self.scale if is_guided else None,
            levels=LEVELS if spec.targets is Targets.CLEAN else {},
            sigma_min=self.stages.objective.lowest or STUDENT_SIGMA_MIN if is_student else spec.sigma_min,
            licence=self.licence,
            recipe=resolved(replace(self, data=self.dataset.name), "images"),
            lineage=[{"data": self.dataset.name, "examples": len(self.dataset)}, *spec.lineage],
        )

    def save(self, network: nn.Module, spec: ModelSpec, directory: Path) -> SavedModel:
        captions = self.dataset.captions if spec.conditioning.text_length else []
        return save_model(network, spec, directory, captions)
