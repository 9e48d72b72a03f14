"""The overhead of the training loop over a bare PyTorch loop."""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fewstep.core.parameterisations import Edm, Parameterised
from fewstep.networks.layout import laid_out
from fewstep.objectives import Batch, Diffusion
from fewstep.objectives.curricula import Clock
from fewstep.recipes.emoji import EmojiRecipe
from fewstep.recipes.two_stage import SIGMA_DATA, build_network
from fewstep.training import optimizers
from fewstep.training.batches import BatchSource, DatasetBatches
from fewstep.training.calling import AtPrecision
from fewstep.training.loop import TrainingConfig, train
from fewstep.training.step_rng import StepRng


@dataclass
class _Timed:
    """Batches made beforehand, and the times at which they were requested."""

    batches: list[Batch]
    asked: list[float]

    def stream(self, first: int, last: int, batch: int, rank: int, world: int) -> Iterator[Batch]:
        for step in range(first, last):
            self.asked.append(time.perf_counter())
            yield self.batches[step % len(self.batches)]
        self.asked.append(time.perf_counter())


def training_speed(steps: int = 20, rounds: int = 3, warmup: int = 3, batch: int = 64) -> dict[str, Any]:
    """Images per second of the training loop and of a bare loop with the same network, loss, optimiser and batches.

    The two take turns; the first `warmup` steps of each turn do not count. The bare loop has no moving averages,
    gradient clipping, checks or reports.

    Returns:
        Median images per second of both, and their ratio.
    """
    recipe = EmojiRecipe()
    config = replace(
        recipe.stages.teacher, images=batch * (steps + warmup), batch=batch, checkpoint_every=0, preview_every=0
    )
    source: BatchSource = DatasetBatches(recipe.dataset, recipe.conditioning)
    batches = list(source.stream(0, 8, batch, 0, 1))
    seconds: dict[str, list[float]] = {"loop": [], "bare": []}
    for _ in range(rounds):
        timed = _Timed(batches, [])
        with tempfile.TemporaryDirectory() as folder:
            objective = Diffusion(recipe.stages.density, SIGMA_DATA)
            train(build_network(recipe, is_student=False), Edm(SIGMA_DATA), objective, timed, config, Path(folder))
        asked = timed.asked[warmup : warmup + steps + 1]
        seconds["loop"] += [after - before for before, after in itertools.pairwise(asked)]
        seconds["bare"] += _bare(recipe, config, batches, steps + warmup)[warmup:]
    speed = {name: batch / statistics.median(values) for name, values in seconds.items()}
    return {
        "loop_images_per_second": round(speed["loop"], 1),
        "bare_images_per_second": round(speed["bare"], 1),
        "ratio": round(speed["loop"] / speed["bare"], 3),
        "steps": steps,
        "rounds": rounds,
        "batch": batch,
        "threads": torch.get_num_threads(),
    }


def _bare(recipe: EmojiRecipe, config: TrainingConfig, batches: list[Batch], steps: int) -> list[float]:
    """The seconds of each step of a loop written out by hand."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = laid_out(build_network(recipe, is_student=False), channels_last=True, device=device)
    student = Parameterised(AtPrecision(network, device, config.precision), Edm(SIGMA_DATA))
    objective, chosen = Diffusion(recipe.stages.density, SIGMA_DATA), optimizers.build(network, config.optimizer)
    seconds = []
    for step in range(steps):
        start = time.perf_counter()
        batch = batches[step % len(batches)]
        data = batch.data.to(device).contiguous(memory_format=torch.channels_last)
        moved = Batch(data, {name: values.to(device) for name, values in batch.cond.items()})
        loss = objective(student, student, moved, Clock(step, steps), StepRng(0, step, device))
        torch.autograd.backward(loss.value)
        for optimizer in chosen:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return seconds
