"""A chart of error against network evaluations, with one line per method. Needs matplotlib."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fewstep.lab.plane import GREY, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "osD^v<>pP*Xhd8"
LINES = {"fresh noise between": "-", "deterministic": "--", "solvers": ":"}
"""Line styles of the kinds of samplers."""


def picture(rows: Sequence[Mapping[str, Any]], floor: float = 1e-4) -> Figure:
    """A chart of error over evaluations, both logarithmic, with a panel for each kind of data and budget.

    Args:
        rows: mappings with data, budget, method, sampler, evaluations, error, errors and measure. Error bars reach
            from the smallest to the largest error over seeds.
        floor: smaller errors are drawn at this value, since an excess may be 0 or negative. Errors that are not
            numbers are left out.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    rows = [row for row in rows if math.isfinite(row["error"])]
    kinds = list(dict.fromkeys((row["data"], row["budget"]) for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    looks = {method: _look(index) for index, method in enumerate(methods)}
    figure = Figure(figsize=(5.6 * max(len(kinds), 1) + 3.4, 6.4))
    for axes, kind in zip(figure.subplots(1, max(len(kinds), 1), squeeze=False)[0], kinds, strict=False):
        _panel(axes, [row for row in rows if (row["data"], row["budget"]) == kind], looks, floor)
    handles = [Line2D([], [], ls="", label=method.replace("_", " "), **look) for method, look in looks.items()]
    for label in dict.fromkeys(_kind(row["sampler"]) for row in rows):
        handles.append(Line2D([], [], color=INK, ls=LINES[label], label=label))
    figure.legend(handles=handles, loc="outside right upper", fontsize=9)
    return figure


def _kind(sampler: str) -> str:
    return {"consistency": "fresh noise between", "flow_map": "deterministic"}.get(sampler, "solvers")


def _look(index: int) -> dict[str, Any]:
    """A colour and a marker; no two methods share both."""
    from matplotlib import colormaps

    return {"color": colormaps["tab10"](index % 10), "marker": MARKERS[index % len(MARKERS)]}


def _panel(axes: Axes, rows: Sequence[Mapping[str, Any]], looks: Mapping[str, dict[str, Any]], floor: float) -> None:
    from matplotlib.ticker import LogLocator

    axes.set(xscale="log", yscale="log", xlabel="evaluations of the network", ylabel=str(rows[0]["measure"]))
    budget = f"{rows[0]['budget']:,}".replace(",", "\u202f")
    axes.set_title(f"{rows[0]['data']}, {budget} evaluations per training")
    counts = sorted({row["evaluations"] for row in rows})
    ticks = [one for one, next in zip(counts, [*counts[1:], math.inf], strict=True) if next > 1.2 * one]
    axes.set_xticks(ticks, [str(tick) for tick in ticks], fontsize=9)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.grid(axis="y", color=GREY, alpha=0.25)
    for method, sampler in dict.fromkeys((row["method"], row["sampler"]) for row in rows):
        points = [row for row in rows if (row["method"], row["sampler"]) == (method, sampler)]
        shown = [max(row["error"], floor) for row in points]
        axes.errorbar(
            [row["evaluations"] for row in points],
            shown,
            yerr=[[value - max(min(row["errors"]), floor) for row, value in zip(points, shown, strict=True)],
                  [max(*row["errors"], floor) - value for row, value in zip(points, shown, strict=True)]],
            elinewidth=0.6,
            lw=1.1,
            ls=LINES[_kind(sampler)],
            ms=5.5,
            alpha=0.85,
            **looks[method],
        )  # fmt: skip
