"""What a training run tells: a progress bar or log lines, TensorBoard scalars and pictures, previews as files."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from fewstep.objectives.objective import Loss

log = logging.getLogger(__name__)


class Reporter:
    """Reports one run; on other than the main process it is silent.

    Args:
        out: the run's directory.
        total: optimiser steps in all.
        images: images a step.
        first: the step to begin with.
        active: whether to report.
    """

    def __init__(self, out: Path, total: int, images: int, first: int, active: bool) -> None:
        self._out, self._total, self._images, self._active = out, total, images, active
        self._last_step, self._last_time = first, time.perf_counter()
        console = Console(stderr=True)
        self._lines = active and not console.is_terminal
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
        self._progress = Progress(*columns, TimeRemainingColumn(), console=console, disable=not active or self._lines)
        self._task = self._progress.add_task("training", total=total, completed=first)
        self._writer = SummaryWriter(str(out / "tensorboard"), purge_step=first) if active else None

    def __enter__(self) -> Reporter:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        if self._writer is not None:
            self._writer.close()

    def pause(self, seconds: float) -> None:
        """Leave time spent on previews out of the speed."""
        self._last_time += seconds

    def log(self, step: int, losses: Sequence[Loss], norm: Tensor, rate: float) -> None:
        """Report a step.

        Args:
            step: its number.
            losses: of all steps since the last report, this one the last.
            norm: of its gradient.
            rate: of the optimiser.
        """
        if self._writer is None:
            return
        now = time.perf_counter()
        speed = (step - self._last_step) * self._images / max(now - self._last_time, 1e-9)
        self._last_step, self._last_time = step, now
        loss = losses[-1]
        scalars = {"loss": float(loss.per_sample.mean()), "gradient_norm": float(norm), "rate": rate}
        scalars |= {name: float(value) for name, value in loss.scalars.items()} | {"images_per_second": speed}
        for name, value in (scalars | loss_by_level(losses)).items():
            self._writer.add_scalar(name, value, step)
        said = f"loss {scalars['loss']:.4f} · {speed:.0f} images/s"
        left = (self._total - step) * self._images / max(speed, 1e-9)
        self._progress.update(self._task, completed=step, description=said)
        if self._lines:
            log.info("step %d of %d · %s · %s left", step, self._total, said, _duration(left))

    def scalar(self, name: str, value: float, step: int) -> None:
        """Log a number that an observer gives."""
        if self._writer is not None:
            self._writer.add_scalar(name, value, step)

    def picture(self, name: str, picture: Image.Image, step: int) -> None:
        """Save and log a preview."""
        if self._writer is None:
            return
        folder = self._out / "previews"
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"{name}-{step:08d}.png")
        pixels = np.asarray(picture.convert("RGB"))
        self._writer.add_image(name, pixels, step, dataformats="HWC")


LEVELS = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, math.inf)
"""The σ/α between which losses are averaged."""


def loss_by_level(losses: Sequence[Loss]) -> dict[str, float]:
    """The mean loss of the samples between each two of `LEVELS`, by a name that says which; none without samples."""
    ratio = torch.cat([loss.at.ratio for loss in losses]).cpu()
    value = torch.cat([loss.per_sample for loss in losses]).double().cpu()
    place = torch.bucketize(ratio, torch.tensor(LEVELS[1:-1], dtype=ratio.dtype), right=True)
    return {
        f"loss_by_level/{low:g}-{high:g}": float(value[place == index].mean())
        for index, (low, high) in enumerate(pairwise(LEVELS))
        if bool((place == index).any())
    }


def _duration(seconds: float) -> str:
    minutes = int(seconds // 60)
    return (
        f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min {int(seconds % 60):02d} s"
    )
