"""Make a diffusers pipeline few-step, as a LoRA or as a whole network: the settings of `fewstep distill`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from fewstep.core.checks import check_above_0, check_at_least, check_choice
from fewstep.data.dataset import DataError
from fewstep.models.parts import ModelError
from fewstep.recipes.distill_methods import METHODS, Method, MethodKind
from fewstep.training.ema import EmaConfig
from fewstep.training.loop import TrainingConfig
from fewstep.training.optimizers import OptimizerConfig


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
        from fewstep.recipes.distill_run import Distillation

        return Distillation(self, out).run()

    def _check(self, out: Path) -> None:
        if not self.teacher:
            raise ModelError("--teacher must name a diffusers pipeline: a directory, or user/name on the hub")
        if not self.data:
            raise DataError("--data must name captioned images: a folder, .tar shards or a Hugging Face data set")
        if out.resolve().is_relative_to(Path(self.data).expanduser().resolve()):
            raise DataError(f"'{out}' is inside the data: its previews would be trained on")


def defaults(method: Method) -> DistillRecipe:
    """The recipe with the defaults of a method: a lower learning rate for a whole network."""
    recipe = DistillRecipe(method=method)
    rated = replace(recipe.training.optimizer, lr=recipe.kind.lr)
    return replace(recipe, training=replace(recipe.training, optimizer=rated))
