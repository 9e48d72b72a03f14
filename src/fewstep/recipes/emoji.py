"""The shipped model: transparent emoji from text. A teacher by diffusion, then a student by consistency distillation
with the teacher's guidance folded in.

Data: Noto Color Emoji, named by Unicode and CLDR, varied by rule in pose, colour and style, with sketches as control
images. Budget: three hours on two CPU cores. The results are in the model card, docs/models/emoji.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro
from torch import nn

from fewstep.core.parameterisations import Targets
from fewstep.data.emoji import Augmentation, Emoji
from fewstep.data.styles import COLOURS, STYLES, hexadecimal
from fewstep.measure.judges import Recogniser, judge_of
from fewstep.measure.subjects import EmojiSubject
from fewstep.models.codecs import SpaceToDepth
from fewstep.models.components import Component, Judge, Sketch, Vocabulary
from fewstep.models.conditioning import Conditioning, conditioners
from fewstep.models.finding import find
from fewstep.models.saved import SavedModel
from fewstep.models.spec import ModelSpec
from fewstep.models.text import words
from fewstep.networks.inputs import NetworkSize
from fewstep.networks.unet import check_size
from fewstep.objectives.times import LogNormal
from fewstep.pictures.pixels import PixelFormat
from fewstep.recipes import two_stage
from fewstep.recipes.two_stage import SIGMA_DATA, TwoStage, student_training, teacher_training
from fewstep.training.previews import PreviewSamples
from fewstep.training.saving import resolved, save_model

TEXT_LENGTH = 16
LICENCE = "weights Apache-2.0; trained on Noto Color Emoji (SIL OFL 1.1), Unicode and CLDR data (Unicode-3.0)"

MEAN = (0.3131, 0.2665, 0.1949, 0.4379)
STD = (0.3925, 0.3326, 0.2927, 0.4748)
"""Mean and deviation of the plain glyphs' premultiplied channels; `fewstep data emoji --json -` prints them."""

FILLS = 0.92
"""The longer side of a plain glyph as a share of the picture's side; printed by the same command, rounded here."""

LEVELS = {1: (80.0,), 2: (80.0, 0.3), 3: (80.0, 6.0, 0.3), 4: (80.0, 12.0, 4.0, 0.3)}
"""The σ/α that the student visits; see docs/log/2026-11.md for the results of other levels."""

STUDENT_SIGMA_MIN = 0.4
"""The lowest σ/α that a student visits in any number of steps, unless its objective sets one: below it there is next
to nothing left to do."""

PROMPTS = (
    "red apple", "cat face", "rocket", "hot beverage", "sunflower", "sailboat", "blue dog", "pizza",
    "outline house", "pixel art tree", "octopus", "guitar", "green car", "crown", "pastel cake", "silhouette bird",
)  # fmt: skip


def _stages() -> TwoStage:
    return TwoStage(
        density=LogNormal(0.6, 1.9), teacher=teacher_training(1_200_000), student=student_training(160_000)
    )


@dataclass(frozen=True)
class EmojiRecipe:
    """Text to emoji in one step.

    Args:
        size: Side of the images in pixels.
        patch: Side in pixels of the patch that becomes one position.
        widths: Channels at each resolution of the network.
        depths: Residual blocks at each resolution.
        canvas: Channels, at each resolution, of a canvas that is drawn from the prompt alone; 0 for none.
        text_width: Width of the text transformer.
        augmentation: How examples are augmented.
        styles: The style words that examples are drawn in.
        drop: Share of prompts left out in training, for guidance.
        guidance: Range of guidance scales that is distilled into the student.
        scale: Default guidance scale.
        control_scale: Default guidance scale of the student with a sketch, so that the result keeps to the prompt.
        recogniser: A recogniser.onnx to save with the student (`fewstep train recogniser`), or None.
        stages: Training settings of both stages.
    """

    size: int = 32
    patch: int = 2
    widths: tuple[int, ...] = (64, 128, 160)
    depths: tuple[int, ...] = (1, 2, 1)
    canvas: tuple[int, ...] = (0, 32, 64)
    text_width: int = 128
    augmentation: Augmentation = field(
        default_factory=lambda: Augmentation(
            shift=0.05, turn=10.0, shrink=0.15, still=0.95, colour=0.15, style=0.3, control=0.3, keywords=0.2
        )
    )
    styles: tuple[str, ...] = tuple(STYLES)
    drop: float = 0.1
    guidance: tuple[float, float] = (1.0, 4.0)
    scale: float = 2.0
    control_scale: float = 3.0
    recogniser: Path | None = None
    stages: Annotated[TwoStage, tyro.conf.arg(name="")] = field(default_factory=_stages)

    model_name: ClassVar[str] = "emoji"
    pixel_format: ClassVar[PixelFormat] = "rgba_premultiplied"

    def __post_init__(self) -> None:
        check_size(self.size, self.patch, len(self.widths))

    def run(self, out: Path) -> SavedModel:
        """Train both stages under `out` and save both models in `out/models`; see `two_stage.run`.

        Raises:
            RecogniserError: `recogniser` is missing, or judges other pictures.
        """
        if self.recogniser is not None:
            self.subject()
        return two_stage.run(self, out)

    @property
    def dataset(self) -> Emoji:
        return Emoji(self.size, self.augmentation, styles=self.styles)

    @property
    def pixels(self) -> tuple[int, ...]:
        return (4, self.size, self.size)

    @property
    def conditioning(self) -> Conditioning:
        codec = SpaceToDepth(self.patch, MEAN, STD, SIGMA_DATA)
        return Conditioning(codec, conditioners(TEXT_LENGTH, control=self.pixels))

    @property
    def guidance_range(self) -> tuple[float, float]:
        return self.guidance

    @property
    def network_size(self) -> NetworkSize:
        return NetworkSize(self.widths, self.depths, text_width=self.text_width, canvas=self.canvas)

    @property
    def drops(self) -> tuple[float, float]:
        # a student with distilled guidance needs none, but a sketch may come without a prompt
        return (self.drop, 0.05)

    @property
    def facts(self) -> Mapping[str, Any]:
        return {}

    @property
    def prior_stage(self) -> None:
        return None

    def preview(self, spec: ModelSpec) -> PreviewSamples:
        return PreviewSamples(spec.conditioning, self.pixels, self.pixel_format, PROMPTS, spec.guidance)

    def describe(self, spec: ModelSpec, is_student: bool) -> ModelSpec:
        is_guided = not is_student or spec.conditioning.guidance is not None
        palette = {name: hexadecimal(colour) for name, colour in COLOURS.items()}
        others = {
            "sketch": Component(Sketch(FILLS, self.control_scale if is_student and is_guided else None)),
            "vocabulary": Component(Vocabulary(self.styles, palette)),
        }
        if self._recogniser_for(spec) is not None:
            others["judge"] = Component(Judge())
        return replace(
            spec,
            components={**spec.components, **others},
            guidance=self.scale if is_guided else None,
            levels=LEVELS if spec.targets is Targets.CLEAN else {},
            sigma_min=self.stages.objective.lowest or STUDENT_SIGMA_MIN if is_student else spec.sigma_min,
            licence=LICENCE,
            recipe=resolved(self, "emoji"),
        )

    def save(self, network: nn.Module, spec: ModelSpec, directory: Path) -> SavedModel:
        dataset = self.dataset
        keywords = {word for glyph in dataset.glyphs for keyword in glyph.keywords for word in words(keyword)}
        known = keywords | {word for name in [*COLOURS, *self.styles] for word in words(name)}
        return save_model(network, spec, directory, dataset.captions, sorted(known), self._recogniser_for(spec))

    def _recogniser_for(self, spec: ModelSpec) -> Path | None:
        """The judge to save with a student; a teacher gets none, since it is not served."""
        return None if spec.targets is Targets.SAME else self.recogniser

    def subject(self) -> EmojiSubject:
        """The subject of models of these emoji, judged by this recipe's recogniser or the built-in one.

        Raises:
            RecogniserError: the recogniser is missing, or judges other pictures.
        """
        recogniser = Recogniser(self.recogniser) if self.recogniser else judge_of(find("emoji"))
        return EmojiSubject(self.dataset, recogniser)


def emoji_64() -> EmojiRecipe:
    """The GPU variant: 64 × 64 pixels, a network of 34 M parameters.

    It has not been run yet for lack of a GPU: its settings follow the small recipe's, and its budget is a guess.
    """
    teacher, student = (
        replace(training, batch=256, checkpoint_every=1000, preview_every=2000)
        for training in (teacher_training(4_000_000), student_training(1_500_000))
    )
    return EmojiRecipe(
        size=64,
        widths=(128, 256, 384),
        depths=(2, 2, 2),
        canvas=(0, 32, 64),
        text_width=256,
        stages=replace(_stages(), teacher=teacher, student=student),
    )
