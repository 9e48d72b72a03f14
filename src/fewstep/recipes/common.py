"""What recipes share: a student that starts from its teacher, previews while training, a network saved as a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from fewstep.core.arrays import Condition
from fewstep.core.checks import check_at_least
from fewstep.core.grids import karras
from fewstep.core.guidance import Guided
from fewstep.core.levels import Level
from fewstep.core.parameterisations import Estimator, Parameterisation, Parameterised, Targets
from fewstep.core.randomness import Noise
from fewstep.engines.export import export_onnx
from fewstep.models import writing
from fewstep.models.conditioning import Conditioning
from fewstep.models.parts import to_plain
from fewstep.models.saved import ModelSpec, SavedModel, find, read
from fewstep.networks.registry import describe, load_weights
from fewstep.objectives import ConsistencyDistillation, LearnedGuidance
from fewstep.objectives.distances import inverse_gap
from fewstep.pictures.pixels import PixelFormat, to_image
from fewstep.samplers import SAMPLERS
from fewstep.training.batches import tensors
from fewstep.training.calling import AtPrecision, Precision
from fewstep.training.ema import EmaConfig
from fewstep.training.loop import TrainingConfig, TrainingState, accelerator
from fewstep.training.optimizers import OptimizerConfig

SIGMA_MAX = 80.0
"""σ/α of the noise that sampling and distillation begin with."""


def teacher_training(images: int) -> TrainingConfig:
    """How a diffusion teacher of small pictures is trained: Muon, whose rate falls over the last 60 %."""
    return TrainingConfig(
        images=images,
        batch=128,
        precision="bf16",
        optimizer=OptimizerConfig(kind="muon", lr=1e-3, muon_lr=0.02, decay_from=0.4),
        ema=EmaConfig(sigma_rel=0.05),
        checkpoint_every=200,
        preview_every=500,
    )


def student_training(images: int) -> TrainingConfig:
    """How a student is distilled: AdamW, since Muon made it collapse (docs/log.md)."""
    return TrainingConfig(
        images=images,
        precision="bf16",
        seed=1,
        optimizer=OptimizerConfig(kind="adamw", lr=2e-4, decay_from=0.3),
        ema=EmaConfig(sigma_rel=0.05),
        checkpoint_every=200,
        preview_every=500,
    )


def initialise(student: nn.Module, teacher: nn.Module, new: Sequence[str] = ()) -> None:
    """Start a student from its teacher's weights.

    Args:
        student: keeps its own values only for parameters under the prefixes in `new`.
        teacher: gives the rest.
        new: prefixes of what only the student has.

    Raises:
        ValueError: another parameter is missing on either side.
    """
    missing, unexpected = student.load_state_dict(teacher.state_dict(), strict=False)
    strangers = [name for name in missing if not name.startswith(tuple(new))] + list(unexpected)
    if strangers:
        raise ValueError(f"teacher and student differ in {', '.join(strangers[:5])}")


def start_from(network: nn.Module, name: Path) -> SavedModel:
    """Give a network the weights of a saved teacher, to train it further.

    Args:
        network: keeps nothing of its own.
        name: of the teacher: built in, a directory, or on the hub.

    Returns:
        The teacher.

    Raises:
        ModelError: there is no such model, or its weights do not fit its description.
        ValueError: it is a student, or its network has another shape.
    """
    saved = find(name)
    if saved.spec.targets is not Targets.SAME:
        raise ValueError(f"start must be a teacher, '{saved.spec.name}' is a student")
    ours, theirs = (to_plain(shape["config"]) for shape in (describe(network), saved.spec.network))
    if other := [f"{key} {theirs.get(key)} for {value}" for key, value in ours.items() if theirs.get(key) != value]:
        raise ValueError(f"start must have this recipe's network; '{saved.spec.name}' has {', '.join(other)}")
    load_weights(network, saved.weights)
    return saved


def lineage(parent: SavedModel | None, start: Path | None = None) -> list[dict[str, str]]:
    """What a student's, or a teacher's, model.json says it was made from."""
    if parent is not None:
        return [{"teacher": parent.spec.name, "hash": parent.hash}]
    if start is not None:
        earlier = find(start)
        return [{"start": earlier.spec.name, "hash": earlier.hash}]
    return []


def check_size(size: int, patch: int, resolutions: int) -> None:
    """Raise ValueError unless a U-Net over patches can halve `size` at each further resolution."""
    if patch < 1:
        raise ValueError(f"patch must be at least 1, got {patch}")
    cell = patch * 2 ** (resolutions - 1)
    if size < cell or size % cell:
        raise ValueError(f"size must be a multiple of {cell} (patch {patch}, {resolutions} resolutions), got {size}")


def frozen(
    network: nn.Module, parameterisation: Parameterisation, precision: Precision, graphs: bool = False
) -> Parameterised:
    """A trained denoiser that learns no more, on the machine's device."""
    device = accelerator().device
    still = network.to(device).eval().requires_grad_(False)
    return Parameterised(AtPrecision(still, device, precision, graphs), parameterisation)


def null_condition(conditioning: Conditioning) -> Condition:
    """The unconditional condition of one sample, as tensors [1, ...]; control images are never part of guidance."""
    return tensors(replace(conditioning, control=False).arrays([""], [None]))


@dataclass(frozen=True)
class Distillation:
    """How a diffusion teacher becomes a student that jumps to clean: consistency distillation with Euler steps.

    Args:
        levels, sigma_min: of the grid; below sigma_min it ends at clean in one step of the teacher.
        target_decay: of the moving average that is the student's target.
        weighted: whether distances count by 1/(t − r); the shipped student was trained without.
        jitter: whether levels between the grid's are learned too; the shipped student was trained without.
    """

    levels: int = 8
    sigma_min: float = 0.4
    target_decay: float = 0.9
    weighted: bool = False
    jitter: bool = False

    def __post_init__(self) -> None:
        check_at_least(2, levels=self.levels)
        if not 0 < self.sigma_min < SIGMA_MAX:
            raise ValueError(f"sigma_min must be between 0 and {SIGMA_MAX:g}, got {self.sigma_min}")
        if not 0 <= self.target_decay < 1:
            raise ValueError(f"target_decay must be at least 0 and below 1, got {self.target_decay}")

    def objective(
        self,
        teacher: nn.Module,
        parameterisation: Parameterisation,
        training: TrainingConfig,
        conditioning: Conditioning,
    ) -> ConsistencyDistillation:
        """The objective, the teacher frozen on the machine's device.

        Args:
            teacher: the denoiser's network.
            parameterisation: how its output is read.
            training: the student's, whose arithmetic it shares.
            conditioning: the student's; its guidance is folded in.
        """
        return ConsistencyDistillation(
            frozen(teacher, parameterisation, training.precision, training.graphs),
            levels=self.levels,
            sigma_min=self.sigma_min,
            sigma_max=SIGMA_MAX,
            decay=self.target_decay,
            weight=inverse_gap if self.weighted else None,
            jitter=self.jitter,
            solver="euler",
            guidance=conditioning.guidance and LearnedGuidance(*conditioning.guidance, null_condition(conditioning)),
        )


@dataclass(frozen=True)
class Asked:
    """Samples that a model is asked for while it trains, always from the same noise.

    Args:
        conditioning, pixels, pixel_format: the model's.
        prompts: one a sample; empty strings for models without text.
        guidance: scale, None for none.
        labels: classes instead of prompts.
    """

    conditioning: Conditioning
    pixels: tuple[int, ...]
    pixel_format: PixelFormat
    prompts: tuple[str, ...]
    guidance: float | None = None
    labels: tuple[int, ...] | None = None

    def cond(self, device: torch.device) -> Condition:
        """The condition of all samples."""
        arrays = self.conditioning.arrays(self.prompts, self.labels, None, self.pixels, self.guidance)
        return {name: values.to(device) for name, values in tensors(arrays).items()}

    def noise(self, device: torch.device) -> Noise:
        """A seed a sample, by its number."""
        shape = self.conditioning.codec.shape(self.pixels)
        return Noise(range(len(self.prompts)), shape, torch.zeros(0, device=device))

    def guided(self, estimator: Estimator, device: torch.device) -> Estimator:
        """The estimator at the scale, which one without guidance inside needs two evaluations for."""
        if self.guidance is None or self.conditioning.guidance is not None:
            return estimator
        null = {name: values.to(device) for name, values in null_condition(self.conditioning).items()}
        return Guided(estimator, null, self.guidance)

    def images(self, x: torch.Tensor) -> list[Image.Image]:
        """Data [b, ...] as opaque images."""
        pixels = self.conditioning.codec.decode(x).float().cpu().numpy()
        return [to_image(each, self.pixel_format, "white").convert("RGB") for each in pixels]


@dataclass(frozen=True)
class Preview:
    """A callback that draws some prompts with the averaged weights.

    Args:
        name: of the picture.
        asked: what is drawn; a row for each number of steps, or more where `columns` are fewer.
        sampler, steps: how.
        grid: the levels to visit for a number of steps: `ModelSpec.grid`.
        columns: pictures a row.
    """

    name: str
    asked: Asked
    sampler: str
    steps: tuple[int, ...]
    grid: Callable[[int], Level] = karras
    columns: int = 8

    def __call__(self, state: TrainingState) -> dict[str, Image.Image]:
        device = state.device
        cond, noise = self.asked.cond(device), self.asked.noise(device)
        estimator = self.asked.guided(state.average, device)
        tiles = []
        for steps in self.steps:
            levels = self.grid(steps)
            x = noise(0) * float(levels.sigma[0])
            extra = {} if SAMPLERS[self.sampler].gamma is None else {"noise": noise}
            for jump in SAMPLERS[self.sampler].run(estimator, x, levels, cond, **extra):
                x = jump.x
            tiles += self.asked.images(x)
        return {self.name: self._sheet(tiles)}

    def _sheet(self, tiles: Sequence[Image.Image]) -> Image.Image:
        width, height = tiles[0].size
        columns = min(self.columns, len(tiles))
        sheet = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height), "white")
        for i, tile in enumerate(tiles):
            sheet.paste(tile, (i % columns * width, i // columns * height))
        enlarged = max(1, 96 // width)
        return sheet.resize((enlarged * sheet.width, enlarged * sheet.height), Image.Resampling.NEAREST)


def save_model(
    network: nn.Module,
    spec: ModelSpec,
    directory: Path,
    captions: Sequence[str] = (),
    other_words: Sequence[str] = (),
    recogniser: Path | None = None,
) -> SavedModel:
    """Save a trained network as a model, exported to ONNX, its weights rounded to float16.

    The network keeps the rounded weights, so that every engine runs the same numbers. Of several processes one
    writes, and all read what it wrote.
    """
    rounded = {name: value.detach().half().cpu() for name, value in network.state_dict().items()}
    network.load_state_dict({name: value.float() for name, value in rounded.items()})
    shape = spec.conditioning.codec.shape(spec.pixels)
    guidance = None if spec.conditioning.guidance is None else spec.conditioning.guidance[0]
    cond = spec.conditioning.arrays(["", ""], None, None, spec.pixels, guidance)

    def complete(scratch: Path) -> None:
        export_onnx(network, shape, cond, scratch)
        if recogniser is not None:
            (scratch / "recogniser.onnx").write_bytes(recogniser.read_bytes())

    processes = accelerator()
    if processes.is_main_process:
        weights = {name: value.numpy() for name, value in rounded.items()}
        writing.write(spec, weights, directory, captions, other_words, complete)
    processes.wait_for_everyone()
    return read(directory)


def resolved(recipe: Any, name: str) -> dict[str, Any]:
    """A recipe with all its settings as JSON values, to be saved with the model."""
    return {"name": name, "settings": _plain(recipe)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, Path):
        return value.name  # where a file lay on the machine that trained is nobody else's business
    return to_plain(value) if not isinstance(value, np.generic) else value.item()
