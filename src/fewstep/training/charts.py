"""A chart of a run's loss by noise level and over time. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STRETCHES, COLUMNS = 6, 120
"""The largest number of parts that the run is divided into, for the curves and for the map."""

DECADES = 1.0
"""The end of the map's colour scale, in powers of 10."""


def loss_chart(edges: Sequence[float], steps: Sequence[int], losses: Any) -> Image.Image:
    """Two panels: the loss over the noise level for each part of the run, and each level's loss over the steps,
    relative to its own median, which shows the levels where the loss falls or diverges.

    Args:
        edges: edges of the bins of σ/α that losses are averaged in, [levels + 1].
        steps: the step of each report, ascending.
        losses: [reports, levels]; nan where there were no samples, inf for a loss that was not finite.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.4, 4.2), dpi=100, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    losses, ticks = np.asarray(losses, dtype=np.float64), [f"{edge:g}" for edge in edges[1:-1]]
    places = range(1, len(ticks) + 1)
    left.set_xticks(places, ticks)
    right.set_yticks(places, ticks)
    left.set(xlim=(0, len(edges) - 1), xlabel="noise level σ/α", ylabel="loss")
    right.set(xlabel="step", ylabel="noise level σ/α")
    left.set_title("Loss by noise level", loc="left")
    right.set_title("Loss of each level relative to its median over the run", loc="left")
    positive = bool((losses[np.isfinite(losses)] > 0).all())
    _curves(left, *_stretches(steps, np.where(np.isinf(losses), np.nan, losses), STRETCHES))
    _map(figure, right, *_stretches(steps, losses, COLUMNS), positive)
    if positive:
        left.set_yscale("log")
    return drawn(figure)


def drawn(figure: Figure) -> Image.Image:
    """A figure as an image."""
    file = BytesIO()
    figure.savefig(file, format="png")
    return Image.open(file).convert("RGB")


def _stretches(steps: Sequence[int], losses: Any, most: int) -> tuple[list[int], Any]:
    """The last step and the mean loss [parts, levels] of each of up to `most` equal parts of the reports."""
    parts = np.array_split(np.arange(len(steps)), min(most, len(steps)))
    means = []
    for part in parts:
        rows = losses[part]
        count = (~np.isnan(rows)).sum(axis=0)
        means.append(np.where(count > 0, np.nansum(rows, axis=0) / np.maximum(count, 1), np.nan))
    return [steps[part[-1]] for part in parts], np.stack(means)


def _curves(axes: Axes, steps: Sequence[int], losses: Any) -> None:
    from matplotlib import colormaps

    shades = colormaps["viridis_r"](np.linspace(0.1, 1.0, len(steps)))
    middles = np.arange(losses.shape[1]) + 0.5
    for step, row, shade in zip(steps, losses, shades, strict=True):
        axes.plot(middles, row, "o-", color=shade, ms=3.5, lw=1.4, label=f"to step {step}")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8, frameon=False)


def _map(figure: Figure, axes: Axes, steps: Sequence[int], losses: Any, positive: bool) -> None:
    from matplotlib import colormaps

    values = np.log10(losses) if positive else losses
    known = [column[np.isfinite(column)] for column in values.T]
    apart = values - np.array([np.median(column) if len(column) else 0.0 for column in known])
    widest = DECADES if positive else max(float(np.percentile(np.abs(apart[np.isfinite(apart)]), 95)), 1e-6)
    beyond = 2 * widest  # drawn in black, which no finite loss has
    shown = np.where(np.isposinf(values), beyond, apart.clip(-widest, widest))
    colours = colormaps["RdBu_r"].with_extremes(over="black", bad="#dddddd")
    edges = [2 * steps[0] - steps[1] if len(steps) > 1 else 0, *steps]
    rows = np.arange(losses.shape[1] + 1)
    mesh = axes.pcolormesh(edges, rows, shown.T, cmap=colours, vmin=-widest, vmax=widest)
    bar = figure.colorbar(mesh, ax=axes, extend="max", extendfrac=0.06)
    bar.ax.set_title("not finite", fontsize=8)
    if positive:
        bar.set_ticks([-1, -0.5, 0, 0.5, 1], labels=["× 0.1", "× 0.3", "median", "× 3", "× 10"])
    else:
        bar.set_label("loss − median")
