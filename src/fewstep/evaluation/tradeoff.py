"""A picture of error against evaluations, one line a method. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fewstep.evaluation.plane import BLUE, GREEN, GREY, INK, ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"consistency": GREEN, "flow_map": BLUE}
"""Of few-step samplers; solvers are orange."""

MARKERS = "osD^v<>pP*Xhd8"


def picture(rows: Sequence[Mapping[str, Any]], floor: float = 1e-4) -> Figure:
    """Error over evaluations, both logarithmic, a panel for each kind of data.

    Args:
        rows: with data, method, sampler, evaluations, error, spread and measure.
        floor: errors below are drawn here: a distance in excess of another may be 0 and less.
    """
    from matplotlib.figure import Figure

    kinds = list(dict.fromkeys(row["data"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    figure = Figure(figsize=(6.2 * len(kinds) + 0.6, 6.4))
    panels = figure.subplots(1, len(kinds), squeeze=False)[0]
    for axes, kind in zip(panels, kinds, strict=True):
        _panel(axes, [row for row in rows if row["data"] == kind], methods, floor)
    handles = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2 + len(kinds), fontsize=9)
    return figure


def _panel(axes: Axes, rows: Sequence[Mapping[str, Any]], methods: Sequence[str], floor: float) -> None:
    axes.set(xscale="log", yscale="log", xlabel="evaluations of the network", ylabel=str(rows[0]["measure"]))
    axes.set_title(str(rows[0]["data"]))
    ticks = sorted({row["evaluations"] for row in rows})
    axes.set_xticks(ticks, [str(tick) for tick in ticks], fontsize=9)
    axes.minorticks_off()
    axes.grid(axis="y", color=GREY, alpha=0.25)
    lines = list(dict.fromkeys((row["method"], row["sampler"]) for row in rows))
    for method, sampler in lines:
        points = [row for row in rows if (row["method"], row["sampler"]) == (method, sampler)]
        shown = [max(row["error"], floor) for row in points]
        axes.errorbar(
            [row["evaluations"] for row in points],
            shown,
            yerr=[[min(row["spread"], value - floor) for row, value in zip(points, shown, strict=True)],
                  [row["spread"] for row in points]],
            label=f"{method.replace('_', ' ')}, {sampler.replace('_', ' ')}",
            color=COLOURS.get(sampler, ORANGE),
            ecolor=INK,
            elinewidth=0.6,
            lw=1.1,
            ls="-" if sampler != "flow_map" else "--",
            marker=MARKERS[methods.index(method) % len(MARKERS)],
            ms=5,
            alpha=0.85,
        )  # fmt: skip
