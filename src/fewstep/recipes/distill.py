"""Make a diffusers pipeline few-step, as a LoRA or as a whole network; `distill_methods` has the methods.

Images and prompts are encoded once. The teacher of a LoRA is the network itself without it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from diffusers import ModelMixin
from torch import nn

from fewstep.core.checks import check_above_0, check_at_least, check_choice
from fewstep.core.guidance import Guided
from fewstep.core.levels import VP, Linear
from fewstep.core.parameterisations import Lcm, Parameterisation, Parameterised, Targets
from fewstep.data.dataset import DataError
from fewstep.data.encoded import EncodedImages, Size, bucket_sizes, encode_images
from fewstep.data.sources import Pictures, open_pictures
from fewstep.interop.diffusers.networks import DiffusersNetwork, family_of
from fewstep.interop.diffusers.pipeline import open_pipeline
from fewstep.interop.diffusers.target_time import add_target_time
from fewstep.interop.diffusers.vae import VaeCodec
from fewstep.interop.lora import add_lora
from fewstep.models.parts import ModelError
from fewstep.objectives import Objective
from fewstep.objectives.times import UniformTime
from fewstep.recipes.distill_methods import METHODS, Method, MethodKind, Teaching
from fewstep.recipes.distill_networks import Unadapted, trainable_copy, with_embedded_guidance
from fewstep.recipes.pipeline_output import Output, save_lora, save_pipeline
from fewstep.recipes.pipeline_previews import PipelinePreview
from fewstep.training.calling import AtPrecision
from fewstep.training.cost import free_memory, memory_of, seconds_of
from fewstep.training.ema import EmaConfig
from fewstep.training.encoded_batches import EncodedBatches
from fewstep.training.loop import TrainingConfig, train
from fewstep.training.optimizers import OptimizerConfig
from fewstep.training.saving import resolved
from fewstep.training.strategy import accelerator
from fewstep.training.trainable import fingerprint, trainable

log = logging.getLogger(__name__)

NOISIEST = 1000.0
"""The largest σ/α that a flow's student is trained at, in place of pure noise, where σ/α is infinite."""

SCALING = 10.0
"""The factor of timesteps in the boundary condition of the released models."""

BUCKET = 64  # pixels between the sizes of two buckets, for networks that halve latents three times


def _training() -> TrainingConfig:
    return TrainingConfig(
        images=16_000,
        batch=8,
        precision="auto",
        optimizer=OptimizerConfig(lr=1e-4, betas=(0.9, 0.999), warmup=0),
        ema=EmaConfig(sigma_rel=0.05),
        checkpoint_every=100,
        preview_every=250,
        log_every=10,
        channels_last=False,
    )


@dataclass(frozen=True)
class DistillRecipe:
    """A few-step LoRA or network for a diffusers pipeline.

    Args:
        teacher: The pipeline to make few-step: a directory, or user/name on the hub.
        data: Captioned images: a folder, .tar shards, or a Hugging Face data set.
        method: lcm-lora and flow-map-lora train a LoRA, the others the whole network; a flow map is told where its
            jumps end.
        resolution: Side of the images in pixels; if left out, what the network was trained on.
        buckets: Whether images keep about their shape, at the same number of pixels; else the middle is cropped.
        flip: Whether to mirror images left to right in half of the passes.
        passes: How often each image is encoded: more than once for flips or several captions.
        caption_column: Column with the captions, if it is not text, caption or prompt.
        rank: Rank of the LoRA.
        alpha: α of the LoRA; if left out, its rank.
        targets: Ends of the names of the layers that get a LoRA; if left out, the kinds of LCM-LoRA.
        guidance: Guidance scale that is learnt, by all methods but lcm and easy: pipelines must not guide again.
        scales: Range of the guidance scale of lcm.
        solver_steps: Timesteps that the teacher's trajectory is divided into.
        gradient_checkpointing: Whether to compute activations twice instead of keeping them, in much less memory.
        dtype: Precision of the frozen weights; what is trained is always float32.
        unchecked: Whether to train although the memory seems not to be enough.
        prompts: Prompts of the previews; if left out, the first captions.
        training: Length and settings of the training.
    """

    teacher: str = ""
    data: str = ""
    method: Method = "lcm-lora"
    resolution: int | None = None
    buckets: bool = True
    flip: bool = False
    passes: int = 1
    caption_column: str | None = None
    rank: int = 64
    alpha: float | None = None
    targets: tuple[str, ...] = ()
    guidance: float = 7.5
    scales: tuple[float, float] = (4.0, 15.0)
    solver_steps: int = 50
    gradient_checkpointing: bool = False
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    unchecked: bool = False
    prompts: tuple[str, ...] = ()
    training: TrainingConfig = field(default_factory=_training)

    def __post_init__(self) -> None:
        check_choice("method", self.method, *METHODS)
        check_at_least(1, passes=self.passes, rank=self.rank)
        check_at_least(2, solver_steps=self.solver_steps)
        check_above_0(guidance=self.guidance)
        if not 1 <= self.scales[0] <= self.scales[1]:
            raise ValueError(f"scales must be 1 ≤ low ≤ high, got {self.scales[0]:g} and {self.scales[1]:g}")
        if not self.kind.is_lora and self.dtype == "float16":
            raise ValueError(f"dtype must be float32 or bfloat16 for {self.method}, which trains the whole network")

    @property
    def kind(self) -> MethodKind:
        return METHODS[self.method]

    def run(self, out: Path) -> Path:
        """Encode, train and save into `out/models`; the same call resumes.

        Returns:
            The directory with the LoRA or the pipeline.

        Raises:
            ModelError: the pipeline cannot be opened, or not distilled.
            DataError: the images cannot be used.
            TrainingDiverged, CheckpointError: as for `fewstep.training.loop.train`.
        """
        self._check(out)
        return _Distillation(self, out).run()

    def _check(self, out: Path) -> None:
        if not self.teacher:
            raise ModelError("--teacher must name a diffusers pipeline: a directory, or user/name on the hub")
        if not self.data:
            raise DataError("--data must name captioned images: a folder, .tar shards or a Hugging Face data set")
        if out.resolve().is_relative_to(Path(self.data).expanduser().resolve()):
            raise DataError(f"'{out}' is inside the data: its previews would be trained on")


class _Distillation:
    """One run of the recipe."""

    def __init__(self, recipe: DistillRecipe, out: Path) -> None:
        self.recipe, self.out = recipe, out
        self.device = accelerator().device
        self.pipeline = open_pipeline(
            recipe.teacher, getattr(torch, recipe.dtype), str(self.device), out / "encoded" / "prompts"
        )
        path = self.pipeline.timetable.path
        if self.pipeline.timetable.targets is not Targets.SAME or not isinstance(path, (VP, Linear)):
            name = type(self.pipeline.timetable.scheduler).__name__
            raise ModelError(f"'{recipe.teacher}' has the scheduler {name}: it is few-step already")

    def run(self) -> Path:
        recipe, pipeline = self.recipe, self.pipeline
        student, teacher = self._networks()  # first, since it finds what cannot be distilled
        images = self.encoded()
        self._encode_prompts(images)
        if recipe.gradient_checkpointing:
            cast(ModelMixin, student.network).enable_gradient_checkpointing()
        count = sum(parameter.numel() for parameter in trainable(student).values())
        log.info("%d images, %d sizes; %.1f million parameters trained", len(images), len(images.sizes), count / 1e6)
        self._tell_cost(student, teacher, images)
        middle = images.sizes[len(images.sizes) // 2]
        objective = self._objective(teacher, middle)
        source = EncodedBatches(images, self._conditions, recipe.training.seed)
        preview = PipelinePreview(
            pipeline,
            self._conditions,
            recipe.prompts or tuple(images.all_captions[:4]),
            middle,
            recipe.guidance,
            self._told,
            recipe.kind.targets,
        )
        settings = resolved(recipe, "distill")["settings"]
        facts = {name: value for name, value in settings.items() if name not in _FREE}
        average = train(
            student, self.boundary, objective, source, recipe.training, self.out / "student", [preview], facts
        )
        return self._save(average, images)

    def _tell_cost(self, student: nn.Module, teacher: nn.Module, images: EncodedImages) -> None:
        """Log how much memory and time the training will take.

        Raises:
            ValueError: the memory is more than the machine has free.
        """
        training = self.recipe.training
        size = images.sizes[len(images.sizes) // 2]
        kind = self.recipe.kind

        def inputs(batch: int, told: bool) -> Any:
            data = torch.zeros(batch, *self.pipeline.codec.shape((3, *size)), device=self.device)
            cond = self._conditions([""] * batch, size)
            own = {"guidance": torch.ones(batch)} if kind.told and told else {}
            level = torch.ones(batch, device=self.device)
            return data, level, 0 * level, {name: each.to(self.device) for name, each in {**cond, **own}.items()}

        others = 0 if kind.is_lora else sum(p.numel() * p.element_size() for p in teacher.parameters())
        memory = memory_of(student, inputs(1, True), others, averages=2 if kind.told else 1)
        needed, free = memory.total(training.batch), free_memory(self.device)
        evaluations = kind.evaluations + self.recipe.gradient_checkpointing
        steps = training.steps(accelerator().num_processes) * training.accumulate
        seconds = evaluations * steps * seconds_of(teacher, inputs(training.batch, False))
        log.info(
            "about %.1f GB of memory (weights %.1f, optimiser %.1f, %.2f for each image of a batch), "
            "%.1f GB are free; about %s",
            needed / GB, memory.weights / GB, memory.training / GB, memory.activations / GB, free / GB,
            _duration(seconds),
        )  # fmt: skip
        if needed > free and not self.recipe.unchecked:
            raise ValueError(
                f"the training needs about {needed / GB:.1f} GB of memory, and {free / GB:.1f} are free: lower "
                "--training.batch or --resolution, set --gradient-checkpointing, or go ahead with --unchecked"
            )

    @property
    def sizes(self) -> list[Size]:
        """The sizes of the images' buckets."""
        config: Any = self.pipeline.network.config
        factor = self.pipeline.codec.factor if isinstance(self.pipeline.codec, VaeCodec) else 1
        own = config.get("sample_size")
        if self.recipe.resolution is None and own is None:
            raise DataError("--resolution must be given: this pipeline's network does not say its own")
        side = self.recipe.resolution or factor * (own if isinstance(own, int) else min(own))
        if "block_out_channels" in config:
            cell = factor * 2 ** (len(config.block_out_channels) - 1)
        else:
            cell = factor * (family_of(self.pipeline.network).patch(config) or int(config.patch_size))
        step = BUCKET if side >= 4 * BUCKET and BUCKET % cell == 0 else cell
        if side % step:
            raise DataError(f"resolution must be a multiple of {step} for this pipeline, got {side}")
        sizes = bucket_sizes(side, step) if self.recipe.buckets else [(side, side)]
        most = config.get("pos_embed_max_size") or max(map(max, sizes))  # tokens a side, of SD3
        return [size for size in sizes if max(size) <= most * cell]

    def encoded(self) -> EncodedImages:
        """The images as latents, from `out/encoded`."""
        recipe, codec = self.recipe, self.pipeline.codec

        def opened(size: Size) -> Pictures:
            return open_pictures(recipe.data, size, flip=recipe.flip, caption_column=recipe.caption_column)

        def encode(pixels: Any) -> Any:
            with torch.no_grad():
                return codec.encode(torch.from_numpy(pixels)).float().cpu().numpy()

        smallest = opened(self.sizes[0])
        facts = {
            "data": smallest.name,
            "images": len(smallest),
            "flip": recipe.flip,
            "codec": fingerprint(codec.vae) if isinstance(codec, VaeCodec) else "pixels",
        }
        return encode_images(opened, self.sizes, encode, self.out / "encoded" / "images", facts, recipe.passes)

    def _encode_prompts(self, images: EncodedImages) -> None:
        """Encode every caption, so that the text encoders are not needed in training."""
        captions = images.all_captions
        if not any(captions):
            raise DataError(f"'{self.recipe.data}' has no captions: write metadata.jsonl, or a .txt for each image")
        for done, caption in enumerate(captions, start=1):
            self.pipeline.encode([caption], images.sizes[0])
            if done % 500 == 0 or done == len(captions):
                log.info("%d of %d captions encoded", done, len(captions))

    def _conditions(self, prompts: Any, size: Size) -> Mapping[str, torch.Tensor]:
        scale = {"guidance": torch.full((len(prompts),), self.recipe.guidance)} if self._embeds_guidance else {}
        return {**self.pipeline.encode(prompts, size), **scale}

    def _networks(self) -> tuple[DiffusersNetwork, nn.Module]:
        """The student and the network of the teacher."""
        recipe, module = self.recipe, self.pipeline.network
        torch.manual_seed(recipe.training.seed)
        kind = recipe.kind
        if kind.is_lora:
            add_lora(module, recipe.rank, recipe.alpha, recipe.targets or None)
            student = DiffusersNetwork(module)
        else:
            student = DiffusersNetwork(with_embedded_guidance(module) if kind.told else trainable_copy(module))
        if kind.targets is Targets.ANY:
            add_target_time(student.network)
        return student, Unadapted(student) if kind.is_lora else DiffusersNetwork(module)

    @cached_property
    def boundary(self) -> Parameterisation:
        """The student's parameterisation: the teacher's, and on a VP table a boundary if it jumps to clean alone."""
        if self._is_flow or self.recipe.kind.targets is Targets.ANY:
            return self._plain
        return Lcm(self._plain, timestep_scaling=SCALING)

    @property
    def _plain(self) -> Parameterisation:
        """The teacher's parameterisation."""
        return self.pipeline.estimator(clip=False).parameterisation

    @property
    def _is_flow(self) -> bool:
        return isinstance(self.pipeline.timetable.path, Linear)

    @property
    def _embeds_guidance(self) -> bool:
        """Whether the teacher is told its guidance scale (FLUX.1-dev), so that one evaluation is guided."""
        return "guidance" in family_of(self.pipeline.network).needs(self.pipeline.network.config)

    def _objective(self, network: nn.Module, size: Size) -> Objective:
        recipe = self.recipe
        called = AtPrecision(network, self.device, recipe.training.precision)
        plain = Parameterised(called, self._plain, Targets.SAME)
        null = {name: values.to(self.device) for name, values in self.pipeline.null().items()}
        teaching = Teaching(
            plain,
            plain if self._embeds_guidance else Guided(plain, null, recipe.guidance),
            null,
            recipe.scales,
            self._grid(size),
            UniformTime(self.pipeline.timetable.path, NOISIEST),
            recipe.training.steps(accelerator().num_processes),
        )
        return recipe.kind.build(teaching)

    def _grid(self, size: Size) -> tuple[float, ...]:
        """σ/α of the teacher's trajectory in rising order: timestep 0 and then every k-th, as DDIM visits them; of a
        flow, what its scheduler visits in so many steps for images of this size."""
        table = self.pipeline.timetable
        if self._is_flow:
            levels = self.pipeline.levels(self.recipe.solver_steps, self.pipeline.codec.shape((3, *size)))
            return tuple(min(float(ratio), NOISIEST) for ratio in levels.ratio[::-1])
        total = int(table.scheduler.config.num_train_timesteps)
        if self.recipe.solver_steps > total:
            raise ValueError(f"solver_steps must be at most {total}, got {self.recipe.solver_steps}")
        times = np.arange(1, self.recipe.solver_steps + 1) * (total // self.recipe.solver_steps) - 1
        return tuple(float(ratio) for ratio in table.level(np.append(0, times[times > 0])).ratio)

    @property
    def _told(self) -> Callable[[int], dict[str, torch.Tensor]] | None:
        """The conditions, for so many samples, that only the student takes."""
        if not self.recipe.kind.told:
            return None
        return lambda size: {"guidance": torch.full((size,), float(self.recipe.guidance))}

    def _save(self, average: nn.Module, images: EncodedImages) -> Path:
        assert isinstance(average, DiffusersNetwork)
        settings = dict(resolved(self.recipe, "distill")["settings"])
        settings["data"] = images.facts["data"]
        output = Output(self.recipe.teacher, self.recipe.method, self.recipe.kind, settings, len(images))
        folder = self.out / "models" / self.recipe.method
        save = save_lora if self.recipe.kind.is_lora else save_pipeline
        return save(average.network, self.pipeline, folder, output)


_FREE = {"teacher", "data", "prompts", "training", "unchecked"}
"""Settings that do not identify a run: they are compared by content, or by the loop."""


GB = 1e9


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds:.0f} s"


def defaults(method: Method) -> DistillRecipe:
    """The recipe with the defaults of a method: a lower learning rate for a whole network."""
    recipe = DistillRecipe(method=method)
    rated = replace(recipe.training.optimizer, lr=recipe.kind.lr)
    return replace(recipe, training=replace(recipe.training, optimizer=rated))
