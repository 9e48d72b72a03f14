"""The shipped model: transparent emoji from text. A teacher by diffusion, then a student by consistency distillation
with the teacher's guidance folded in.

Data: Noto Color Emoji, named by Unicode and CLDR, varied by rule in pose, colour and style, with sketches as control
images. Budget: three hours on two CPU cores. What it reached stands in the model card, docs/models/emoji.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from fewstep.core.parameterisations import Edm, Targets
from fewstep.data.emoji import Augmentation, Emoji
from fewstep.data.styles import COLOURS, STYLES
from fewstep.measure.judges import Recogniser
from fewstep.measure.subjects import EmojiSubject
from fewstep.models.codecs import SpaceToDepth
from fewstep.models.conditioning import Conditioning
from fewstep.models.saved import WEIGHTS, ModelSpec, SavedModel
from fewstep.models.text import table, words
from fewstep.networks.registry import describe
from fewstep.networks.unet import UNet, UNetConfig
from fewstep.objectives import Diffusion
from fewstep.objectives.times import LogNormal
from fewstep.recipes.common import (
    Asked,
    Distillation,
    Preview,
    check_size,
    initialise,
    lineage,
    resolved,
    save_model,
    start_from,
    student_training,
    teacher_training,
)
from fewstep.recipes.diagnostics import DistanceToTeacher
from fewstep.training.batches import DatasetBatches
from fewstep.training.loop import Callback, TrainingConfig, train

SIGMA_DATA = 0.5
TEXT_LENGTH = 16
LICENCE = "weights Apache-2.0; trained on Noto Color Emoji (SIL OFL 1.1), Unicode and CLDR data (Unicode-3.0)"

MEAN = (0.3131, 0.2665, 0.1949, 0.4379)
STD = (0.3925, 0.3326, 0.2927, 0.4748)
"""Of the plain glyphs' premultiplied channels; `fewstep data emoji --json -` prints them."""

FILLS = 0.92
"""Of the picture's side: what the longer side of a plain glyph takes; printed there too, and rounded here."""

LEVELS = {1: (80.0,), 2: (80.0, 0.3), 3: (80.0, 6.0, 0.3), 4: (80.0, 12.0, 4.0, 0.3)}
"""The σ/α that the student visits; docs/log.md has what other levels gave."""

PROMPTS = (
    "red apple", "cat face", "rocket", "hot beverage", "sunflower", "sailboat", "blue dog", "pizza",
    "outline house", "pixel art tree", "octopus", "guitar", "green car", "crown", "pastel cake", "silhouette bird",
)  # fmt: skip


@dataclass(frozen=True)
class EmojiRecipe:
    """Text to emoji in one step.

    Args:
        size: pixels a side.
        patch: pixels a side of what becomes one position.
        widths, depths, canvas, text_width: of the U-Net; see `UNetConfig`.
        augmentation: how examples vary.
        styles: the style words they are drawn in.
        density: of the teacher's noise levels.
        drop: the share of prompts left out, for guidance.
        guidance: the range of scales distilled into the student.
        scale: the guidance scale used if none is asked for.
        control_scale: the student's with a sketch: it leaves less open, and what it draws has to hold the prompt.
        distillation: from the teacher to the student.
        teacher, student: how long and how each is trained.
        recogniser: recogniser.onnx to put into the student (`fewstep train recogniser`), or None.
        start: a saved teacher to train further, instead of one from scratch.
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
    density: LogNormal = field(default_factory=lambda: LogNormal(0.6, 1.9))
    drop: float = 0.1
    guidance: tuple[float, float] = (1.0, 4.0)
    scale: float = 2.0
    control_scale: float = 3.0
    distillation: Distillation = field(default_factory=Distillation)
    teacher: TrainingConfig = field(default_factory=lambda: teacher_training(1_200_000))
    student: TrainingConfig = field(default_factory=lambda: student_training(160_000))
    recogniser: Path | None = None
    start: Path | None = None

    def __post_init__(self) -> None:
        check_size(self.size, self.patch, len(self.widths))

    def run(self, out: Path) -> SavedModel:
        """Train both stages under `out` and save both models in `out/models`."""
        self.check()
        teacher = self.train_teacher(out / "teacher")
        parent = self.save(teacher, out / "models" / "emoji-teacher")
        student = self.train_student(teacher, parent, out / "student")
        return self.save(student, out / "models" / "emoji", parent)

    def check(self) -> None:
        """Raise for what would otherwise be found out after hours.

        Raises:
            ValueError: settings that no model can have, or a `start` that does not fit.
            ModelError: `start` is not there.
            RecogniserError: `recogniser` is missing, or judges other pictures.
        """
        if self.start is not None:
            start_from(self.network(distilled=False), self.start)
        for distilled in (False, True):
            self.spec(self.network(distilled), "emoji", distilled=distilled).check()
        if self.recogniser is not None:
            EmojiSubject(self.dataset, Recogniser(self.recogniser))

    @property
    def dataset(self) -> Emoji:
        return Emoji(self.size, self.augmentation, styles=self.styles)

    @property
    def pixels(self) -> tuple[int, ...]:
        return (4, self.size, self.size)

    def conditioning(self, distilled: bool) -> Conditioning:
        codec = SpaceToDepth(self.patch, MEAN, STD, SIGMA_DATA)
        return Conditioning(codec, TEXT_LENGTH, control=True, guidance=self.guidance if distilled else None)

    def network(self, distilled: bool) -> UNet:
        channels = 4 * self.patch**2
        torch.manual_seed(0)
        return UNet(
            UNetConfig(
                channels=channels,
                control=channels,
                widths=self.widths,
                depths=self.depths,
                attention=(False, *(True for _ in self.widths[1:])),
                canvas=self.canvas,
                size=self.size // self.patch,
                text=table().width,
                text_length=TEXT_LENGTH,
                text_width=self.text_width,
                guidance=distilled,
            )
        )

    def train_teacher(self, out: Path) -> UNet:
        """Diffusion, from scratch or from `start`."""
        conditioning = self.conditioning(distilled=False)
        source = DatasetBatches(self.dataset, conditioning, self.teacher.seed, self.drop, self.teacher.workers)
        preview = Preview("teacher", self._asked(conditioning), "heun", (18,))
        network = self.network(distilled=False)
        facts = {"start": None if self.start is None else start_from(network, self.start).spec.files[WEIGHTS]}
        objective = Diffusion(self.density, SIGMA_DATA)
        return _unet(train(network, Edm(SIGMA_DATA), objective, source, self.teacher, out, [preview], facts))

    def train_student(self, teacher: UNet, parent: SavedModel, out: Path) -> UNet:
        """Consistency distillation of the guided teacher, `parent` once saved."""
        conditioning = self.conditioning(distilled=True)
        network = self.network(distilled=True)
        initialise(network, teacher, new=("embedding.guidance.",))
        objective = self.distillation.objective(teacher, Edm(SIGMA_DATA), self.student, conditioning)
        # few prompts are dropped: guidance is inside, and only a sketch of what is not named yet comes without one
        source = DatasetBatches(self.dataset, conditioning, self.student.seed, 0.05, self.student.workers)
        asked, grid = self._asked(conditioning), self.spec(network, "emoji", parent, distilled=True).grid
        callbacks: list[Callback] = [
            Preview("student", asked, "consistency", (1, 2), grid),
            DistanceToTeacher(objective.teacher, asked, grid),
        ]
        facts = {"teacher": parent.spec.files[WEIGHTS]}
        return _unet(train(network, Edm(SIGMA_DATA), objective, source, self.student, out, callbacks, facts))

    def _asked(self, conditioning: Conditioning) -> Asked:
        return Asked(conditioning, self.pixels, "rgba_premultiplied", PROMPTS, self.scale)

    def spec(self, network: UNet, name: str, parent: SavedModel | None = None, distilled: bool = False) -> ModelSpec:
        """What model.json says: of the teacher, or `distilled` of the student with its `parent`."""
        return ModelSpec(
            name=name,
            network=describe(network),
            parameterisation=Edm(SIGMA_DATA),
            targets=Targets.CLEAN if distilled else Targets.SAME,
            conditioning=self.conditioning(distilled),
            pixels=self.pixels,
            pixel_format="rgba_premultiplied",
            sampler="consistency" if distilled else "heun",
            steps=1 if distilled else 18,
            guidance=self.scale,
            control_guidance=self.control_scale if distilled else None,
            fills=FILLS,
            levels=LEVELS if distilled else {},
            sigma_min=self.distillation.sigma_min if distilled else 0.002,
            licence=LICENCE,
            recipe=resolved(self, "emoji"),
            lineage=lineage(parent, self.start),
        )

    def save(self, network: UNet, directory: Path, parent: SavedModel | None = None) -> SavedModel:
        """Save the teacher, or with its `parent` the student."""
        distilled = parent is not None
        dataset = self.dataset
        keywords = {word for glyph in dataset.glyphs for keyword in glyph.keywords for word in words(keyword)}
        known = keywords | {word for name in [*COLOURS, *self.styles] for word in words(name)}
        spec = self.spec(network, directory.name, parent, distilled)
        recogniser = self.recogniser if distilled else None
        return save_model(network, spec, directory, dataset.captions, sorted(known), recogniser)


def emoji_64() -> EmojiRecipe:
    """The GPU variant: 64 × 64 pixels, a network of 34 M parameters.

    Never run so far, since there was no GPU. Its settings follow the small one's, its budget is a guess.
    """
    return EmojiRecipe(
        size=64,
        widths=(128, 256, 384),
        depths=(2, 2, 2),
        canvas=(0, 32, 64),
        text_width=256,
        teacher=replace(teacher_training(4_000_000), batch=256, checkpoint_every=1000, preview_every=2000),
        student=replace(student_training(1_500_000), batch=256, checkpoint_every=1000, preview_every=2000),
    )


def _unet(network: torch.nn.Module) -> UNet:
    if not isinstance(network, UNet):
        raise TypeError(f"expected a UNet, got {type(network).__name__}")
    return network
