"""One run of `fewstep distill`: images and prompts are encoded once, a student is trained and saved for diffusers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from diffusers import ModelMixin
from torch import nn

from fewstep.core.levels import VP, Linear
from fewstep.core.memory import GB, check_memory
from fewstep.core.parameterisations import Targets
from fewstep.data.encoded import EncodedImages
from fewstep.interop.diffusers.networks import DiffusersNetwork
from fewstep.interop.diffusers.pipeline import open_pipeline
from fewstep.models.parts import ModelError
from fewstep.recipes.distill_data import PipelineImages
from fewstep.recipes.distill_lesson import Lesson
from fewstep.recipes.pipeline_output import Output, save_lora, save_pipeline
from fewstep.recipes.pipeline_previews import PipelinePreview
from fewstep.training.cost import free_on, memory_of, seconds_of
from fewstep.training.encoded_batches import EncodedBatches
from fewstep.training.loop import train
from fewstep.training.saving import resolved
from fewstep.training.strategy import accelerator
from fewstep.training.trainable import trainable

if TYPE_CHECKING:
    from fewstep.recipes.distill import DistillRecipe

log = logging.getLogger(__name__)


class Distillation:
    """One run of the recipe.

    Args:
        recipe: the settings.
        out: the directory of the run.

    Raises:
        ModelError: the pipeline cannot be opened, or is few-step already.
    """

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
        self.lesson = Lesson(recipe, self.pipeline, self.device)
        self.images = PipelineImages(
            self.pipeline,
            recipe.data,
            recipe.resolution,
            recipe.buckets,
            recipe.flip,
            recipe.passes,
            recipe.caption_column,
        )

    def run(self) -> Path:
        """Encode, train and save; see `DistillRecipe.run`."""
        recipe, lesson = self.recipe, self.lesson
        student, teacher = lesson.networks()  # first, since it finds what cannot be distilled
        images = self.images.encoded(self.out / "encoded" / "images")
        self.images.encode_prompts(images)
        if recipe.gradient_checkpointing:
            cast(ModelMixin, student.network).enable_gradient_checkpointing()
        count = sum(parameter.numel() for parameter in trainable(student).values())
        log.info("%d images, %d sizes; %.1f million parameters trained", len(images), len(images.sizes), count / 1e6)
        self._tell_cost(student, teacher, images)
        middle = images.sizes[len(images.sizes) // 2]
        objective = lesson.objective(teacher, middle)
        source = EncodedBatches(images, lesson.conditions, recipe.training.seed)
        preview = PipelinePreview(
            self.pipeline,
            lesson.conditions,
            recipe.prompts or tuple(images.all_captions[:4]),
            middle,
            recipe.guidance,
            lesson.told,
            recipe.kind.targets,
        )
        settings = resolved(recipe, "distill")["settings"]
        facts = {name: value for name, value in settings.items() if name not in _FREE}
        average = train(
            student, lesson.boundary, objective, source, recipe.training, self.out / "student", [preview], facts
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
            cond = self.lesson.conditions([""] * batch, size)
            own = {"guidance": torch.ones(batch)} if kind.told and told else {}
            level = torch.ones(batch, device=self.device)
            return data, level, 0 * level, {name: each.to(self.device) for name, each in {**cond, **own}.items()}

        others = 0 if kind.is_lora else sum(p.numel() * p.element_size() for p in teacher.parameters())
        memory = memory_of(student, inputs(1, True), others, averages=2 if kind.told else 1)
        needed, free = memory.total(training.batch), free_on(self.device)
        evaluations = kind.evaluations + self.recipe.gradient_checkpointing
        steps = training.steps(accelerator().num_processes) * training.accumulate
        seconds = evaluations * steps * seconds_of(teacher, inputs(training.batch, False))
        log.info(
            "about %.1f GB of memory (weights %.1f, optimiser %.1f, %.2f for each image of a batch), "
            "%.1f GB are free; about %s",
            needed / GB, memory.weights / GB, memory.training / GB, memory.activations / GB,
            free / GB, _duration(seconds),
        )  # fmt: skip
        if not self.recipe.unchecked:
            remedy = (
                "lower --training.batch or --resolution, set --gradient-checkpointing, or go ahead with --unchecked"
            )
            check_memory(needed, "the training", remedy, free)

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


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds:.0f} s"
