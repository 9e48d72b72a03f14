"""Reports of a training run: a progress bar or log lines, TensorBoard scalars and images, previews as files."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
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
from fewstep.training.charts import loss_chart
from fewstep.training.steps import STUDENT

log = logging.getLogger(__name__)


class Reporter:
    """Reports one run; silent in all processes but the main one.

    Args:
        out: directory of the run.
        total: total number of optimiser steps.
        images: images per step.
        first: the step to begin with.
        active: whether to report.
    """

    def __init__(self, out: Path, total: int, images: int, first: int, active: bool) -> None:
        self._out, self._total, self._images, self._active = out, total, images, active
        self._last_step, self._last_time = first, time.perf_counter()
        self._said = self._last_time
        self._last: dict[str, Loss] = {}
        self._norms: dict[str, Tensor] = {}
        self._unreported: list[Loss] = []
        self._by_level = _reported_before(out, first) if active else {}
        console = Console(stderr=True)
        self._lines = active and not console.is_terminal
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
        self._progress = Progress(*columns, TimeRemainingColumn(), console=console, disable=not active or self._lines)
        self._task = self._progress.add_task("training", total=total, completed=first)
        # the report at `first` itself is kept: it is not made again
        self._writer = SummaryWriter(str(out / "tensorboard"), purge_step=first + 1) if active else None

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
        """Exclude time spent on previews from the reported speed."""
        self._last_time += seconds

    def record(self, losses: Mapping[str, Loss], norms: Mapping[str, Tensor]) -> None:
        """Keep a step's losses and gradient norms, by network, until the next report."""
        if self._active:
            self._last |= losses
            self._norms |= norms
            if STUDENT in losses:
                self._unreported = [*self._unreported, losses[STUDENT]][-REPORTED:]

    def log(self, step: int, rates: Mapping[str, float]) -> None:
        """Report the last recorded losses, and the student's losses by noise level since the last report.

        Args:
            step: number of the step.
            rates: learning rates by network.
        """
        if self._writer is None:
            return
        now = time.perf_counter()
        speed = (step - self._last_step) * self._images / max(now - self._last_time, 1e-9)
        self._last_step, self._last_time = step, now
        scalars = {"images_per_second": speed}
        for network, loss in self._last.items():
            scalars[_curve("loss", network)] = float(loss.per_sample.mean())
            scalars |= {name: float(value) for name, value in loss.scalars.items()}
        scalars |= {_curve("gradient_norm", network): float(norm) for network, norm in self._norms.items()}
        scalars |= {_curve("rate", network): rate for network, rate in rates.items()}
        if self._unreported:
            self._by_level[step] = loss_by_level(self._unreported)
            with (self._out / LOSSES).open("a", encoding="utf-8") as file:
                file.write(_line(step, self._by_level[step]))
        self._unreported = []
        for name, value in (scalars | self._by_level.get(step, {})).items():
            self._writer.add_scalar(name, value, step)
        said = f"loss {scalars['loss']:.4f} · {speed:.0f} images/s" if "loss" in scalars else f"{speed:.0f} images/s"
        left = (self._total - step) * self._images / max(speed, 1e-9)
        self._progress.update(self._task, completed=step, description=said)
        if self._lines:
            log.info("step %d of %d · %s · %s left", step, self._total, said, _duration(left))

    def advance(self, step: int) -> None:
        """Move the bar to a step, or without a terminal print a line if there was none for a while."""
        self._progress.update(self._task, completed=step)
        now = time.perf_counter()
        if self._lines and self._last_step < step < self._total and now - max(self._last_time, self._said) > QUIET:
            self._said = now
            speed = (step - self._last_step) * self._images / max(now - self._last_time, 1e-9)
            left = (self._total - step) * self._images / max(speed, 1e-9)
            log.info("step %d of %d · %.2g images/s · %s left", step, self._total, speed, _duration(left))

    def say(self, what: str) -> None:
        """Say what is done besides steps."""
        self._progress.update(self._task, description=what)
        if self._lines:
            log.info("%s", what)

    def has_pictures(self, step: int) -> bool:
        """Whether previews of a step were saved."""
        return any((self._out / "previews").glob(f"*-{step:08d}.png"))

    def chart(self, step: int) -> None:
        """Chart the losses by noise level over the whole run, including those not yet reported."""
        rows = self._by_level | ({step: loss_by_level(self._unreported)} if self._unreported else {})
        if rows:
            losses = [[row.get(name, math.nan) for name in BY_LEVEL] for row in rows.values()]
            self.picture("loss_by_level", loss_chart(LEVELS, list(rows), losses), step)

    def scalar(self, name: str, value: float, step: int) -> None:
        """Log a number returned by a callback."""
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


QUIET = 30.0  # seconds without a line after which the next step prints one

REPORTED = 200
"""The most steps over which a report averages losses by level."""

LEVELS = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, math.inf)
"""Edges of the bins of σ/α that losses are averaged in."""

LOSSES = "loss_by_level.jsonl"
"""The file with every report's losses by level, to chart the whole run after it was resumed."""

BY_LEVEL = [f"loss_by_level/{low:g}-{high:g}" for low, high in pairwise(LEVELS)]


def loss_by_level(losses: Sequence[Loss]) -> dict[str, float]:
    """The mean loss of the samples in each bin of `LEVELS`, by the bin's name; bins without samples are left out, and
    a loss that is not finite is inf."""
    ratio = torch.cat([torch.as_tensor(loss.at.ratio) for loss in losses]).cpu()
    value = torch.cat([loss.per_sample for loss in losses]).double().cpu()
    place = torch.bucketize(ratio, torch.tensor(LEVELS[1:-1], dtype=ratio.dtype), right=True)
    means = {
        name: float(value[place == index].mean())
        for index, name in enumerate(BY_LEVEL)
        if bool((place == index).any())
    }
    return {name: mean if math.isfinite(mean) else math.inf for name, mean in means.items()}


def _reported_before(out: Path, first: int) -> dict[int, dict[str, float]]:
    """The losses by level of a run's reports up to `first`, by step; later ones are removed from the file."""
    file = out / LOSSES
    whole = file.read_text(encoding="utf-8").split("\n")[:-1] if file.is_file() else []
    rows = [json.loads(line) for line in whole]
    kept = {row.pop("step"): row for row in rows if row["step"] <= first}
    out.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(_line(step, row) for step, row in kept.items()), encoding="utf-8")
    return kept


def _curve(name: str, network: str) -> str:
    """The name of a curve, without prefix for the student."""
    return name if network == STUDENT else f"{name}/{network}"


def _line(step: int, row: dict[str, float]) -> str:
    return json.dumps({"step": step, **row}) + "\n"


def _duration(seconds: float) -> str:
    minutes = int(seconds // 60)
    return (
        f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min {int(seconds % 60):02d} s"
    )
