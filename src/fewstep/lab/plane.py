"""Figures in the plane, where every answer is known, for docs/concepts.md. Needs matplotlib.

The data are eight Gaussians in a ring; the estimators are exact (`Exact`), or exact up to a fault that the figure
names. States are drawn on the trig path, which keeps the scale of the data from pure noise to clean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fewstep.core import grids, randomness
from fewstep.core.arrays import Array, Condition, per_sample
from fewstep.core.guidance import Guided
from fewstep.core.jump import jump
from fewstep.core.levels import CLEAN, VE, Level, Linear, Trig
from fewstep.core.levels import Path as NoisePath
from fewstep.core.parameterisations import Targets
from fewstep.data.toys import Mixture, ring
from fewstep.lab.exact import Exact
from fewstep.samplers import consistency, euler, heun

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, INK, GREY = "#0072B2", "#D55E00", "#009E73", "#222222", "#8A8A8A"
"""Flow, denoiser, consistency, text, noise: the first three are from Okabe and Ito's colour-blind-safe palette."""

TRIG = Trig()
NOISE = TRIG.level(TRIG.noisiest)
STYLE: Any = {
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.1,
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.wspace": 0.03,
    "savefig.dpi": 100,
}


def save(figure: Figure, file: Path) -> None:
    """Write a figure as PNG, without date and program version, so that the same figure gives the same bytes."""
    figure.savefig(file, metadata={"Software": None})


@contextmanager
def style() -> Iterator[None]:
    """A context with the style of all figures; matplotlib's settings are restored afterwards.

    Raises:
        ImportError: matplotlib is missing; the message says how to install it.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("drawing the pictures needs matplotlib: pip install 'fewstep[lab]'") from error
    matplotlib.use("agg")
    with matplotlib.rc_context(STYLE):
        yield


def trajectories(seed: int = 7, count: int = 16) -> Figure:
    """The exact flow, its approximation by a few Euler steps, and the one jump of the consistency function."""
    exact, start = Exact(ring()), NOISE.sigma * _spread(seed, count)
    curves = exact.trajectory(start, NOISE, CLEAN)
    denoiser = replace(exact, targets=Targets.SAME)
    steps = [start, *(j.x for j in euler(denoiser, start, grids.uniform(TRIG, 3), {}))]
    straight = np.stack(steps)
    (one,) = consistency(exact, start, grids.uniform(TRIG, 1), {}, _no_noise)
    figure, axes = _figure(3, height=4.1)
    for ax in axes:
        _plane(ax, exact.mixture)
    _curves(axes[0], curves, BLUE)
    axes[0].set_title("The flow itself\n200 steps")
    for ax in axes[1:]:
        _curves(ax, curves, BLUE, alpha=0.22, ends=False)
    axes[1].plot(straight[..., 0], straight[..., 1], "o-", color=ORANGE, lw=1.3, ms=3, mec="none")
    _ends(axes[1], straight, ORANGE)
    axes[1].set_title("Euler with the denoiser\n3 evaluations")
    for ax, end in zip(axes, (curves[-1], straight[-1], one.x), strict=True):
        ax.set_xlabel(f"mean distance to the flow's end: {np.linalg.norm(end - curves[-1], axis=1).mean():.2f}")
    jumped = np.stack([start, np.asarray(one.x)])
    axes[2].plot(jumped[..., 0], jumped[..., 1], "-", color=GREEN, lw=1.3)
    _ends(axes[2], jumped, GREEN)
    axes[2].set_title("The consistency function\n1 evaluation")
    return figure


def paths(seed: int = 7, count: int = 4, steps: int = 240) -> Figure:
    """The same trajectories on three paths, each in its own time and scale, and as y = x/σ over κ = α/σ, where all
    agree."""
    denoiser, noise = Exact(ring(), targets=Targets.SAME), _spread(seed, count)
    drawn: list[tuple[str, str, NoisePath, Level]] = [
        ("VE", "σ", VE(), grids.karras(steps)),
        ("Linear", "t", Linear(), grids.uniform(Linear(), steps)),
        ("Trig", "t", TRIG, grids.uniform(TRIG, steps)),
    ]
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.4, 7.0))
    rooms = figure.subplot_mosaic([["VE", "Linear", "Trig"], ["common"] * 3], height_ratios=(1, 1.25))
    common = rooms["common"]
    looks: list[dict[str, Any]] = [
        {"color": BLUE, "lw": 7, "alpha": 0.3, "solid_capstyle": "round"},
        {"color": ORANGE, "lw": 2.2},
        {"color": INK, "lw": 0, "marker": "o", "ms": 3.6, "mec": "none", "markevery": 0.035},
    ]
    for (name, letter, path, levels), look in zip(drawn, looks, strict=True):
        ax = rooms[name]
        x = noise * float(levels.sigma[0])
        states = np.stack([x, *(np.asarray(j.x) for j in heun(denoiser, x, levels, {}))])
        times = np.array([float(path.time(levels[i])) for i in range(steps + 1)])
        if name == "VE":
            ax.set_xscale("log")
            ax.set_yscale("asinh", linear_width=1.0)
            ax.set_yticks([-100, -10, -1, 0, 1, 10, 100], ["−100", "−10", "−1", "0", "1", "10", "100"])
            ax.minorticks_off()
            times = np.maximum(times, path.cleanest)
        ax.plot(times, states[..., 0], color=BLUE if name == "VE" else look["color"], lw=1.6)
        ax.invert_xaxis()
        ax.set_title(name)
        ax.set_xlabel(f"time {letter}:  noise → clean")
        seen = np.asarray(levels.clock < 9.0)
        y = states[seen] / np.asarray(levels.sigma[seen])[:, None, None]
        lines = common.plot(np.asarray(levels.clock)[seen], y[..., 0], **look)
        lines[0].set_label(name)
    rooms["VE"].set_ylabel("x, first coordinate")
    common.set_title("All three over one clock:  dy/dκ = D")
    common.set_xlabel("κ = α/σ:  pure noise at 0, clean at ∞")
    common.set_ylabel("y = x/σ")
    common.set_xlim(-0.05, 6.5)
    common.set_ylim(*_limits(common, 6.5))
    common.legend(loc="upper left", ncols=3)
    return figure


def estimates(seed: int = 7) -> Figure:
    """The outputs of denoiser, flow map and consistency function along one trajectory, and where their jumps land."""
    exact, start = Exact(ring()), NOISE.sigma * _bent(seed)
    states, levels = exact.trajectory(start, NOISE, CLEAN)[:-1, 0], exact.between(NOISE, CLEAN)[:-1]
    here, there = 50, 140
    along = Level(*(np.stack([getattr(level, part) for level in levels]) for part in ("alpha", "sigma")))
    r, clean = levels[there].batch(len(states)), CLEAN.batch(len(states))
    kinds = [
        ("denoiser: to = s", ORANGE, exact(states, along, along, {}), r),
        ("flow map: to = r", BLUE, exact(states[: there + 1], along[: there + 1], r[: there + 1], {}), r),
        ("consistency function: to = clean", GREEN, exact(states, along, clean, {}), clean),
    ]
    figure, (left, right) = _figure(2, height=5.2, widths=(1, 1.3))
    _plane(left, exact.mixture)
    _curves(left, states[:, None], GREY, ends=False)
    x, s = states[here : here + 1], levels[here]
    for _, colour, answers, target in kinds:
        _arrow(left, x[0], jump(x, s, target[0], answers[here : here + 1])[0], colour)
    _zoom(left, np.concatenate([states, exact(x, s, s, {})]))
    for place, letter in ((here, "s"), (there, "r"), (-1, "clean")):
        left.plot(*states[place], "o", color=INK, ms=5, zorder=5)
        left.annotate(letter, states[place], xytext=(-7, 3), textcoords="offset points", ha="right", weight="bold")
    left.set_title("Three jumps from one state")
    axis = int(np.argmax(np.ptp(np.asarray(kinds[0][2]), axis=0)))
    for name, colour, answers, _ in kinds:
        right.plot(
            np.asarray(along.angle())[: len(answers)], np.asarray(answers)[:, axis], color=colour, lw=2.4, label=name
        )
    for place, letter in ((here, "s"), (there, "r")):
        angle = float(levels[place].angle())
        right.axvline(angle, color=GREY, lw=1, ls=":")
        right.annotate(
            letter, (angle, 1), xycoords=("data", "axes fraction"), xytext=(4, -10), textcoords="offset points"
        )
    ratios = (10.0, 2.0, 1.0, 0.5, 0.2, 0.0)
    right.set_xticks([float(np.arctan(ratio)) for ratio in ratios], [f"{ratio:g}" for ratio in ratios])
    right.set_xlim(np.pi / 2, 0)
    right.set_xlabel("σ/α of the state:  noise → clean")
    right.set_ylabel(f"estimate of the data, coordinate {axis + 1}")
    right.set_title("Their answers all along the trajectory")
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


@dataclass(frozen=True)
class Rounded:
    """A consistency function as a network learns it: the exact one, averaged over a small neighbourhood of x.

    Where the exact function jumps from one component of the data to the next, this one changes smoothly.

    Args:
        exact: the estimator to round.
        width: the neighbourhood's standard deviation in units of σ.
        draws: number of points to average over.
    """

    exact: Exact
    width: float = 0.15
    draws: int = 16
    targets: Targets = Targets.CLEAN
    epsilon: float = 0.0

    def __call__(self, x: Any, at: Level, to: Level, cond: Condition) -> Any:
        shifts = _noise(1, self.draws)
        around = x[None] + self.width * per_sample(at.sigma, x)[None] * shifts[:, None]
        many = around.reshape(-1, x.shape[-1])
        times = self.draws
        answers = self.exact(many, _repeat(at, times), _repeat(to, times), cond)
        return answers.reshape(around.shape).mean(axis=0)


def renoising(seed: int = 7, count: int = 300, between: float = 0.25) -> Figure:
    """Two consistency steps with an imperfect consistency function: jump, re-noise, jump."""
    mixture = ring()
    function = Rounded(Exact(mixture, steps=60))
    start, fresh = _noise(seed, count), _noise(seed + 1, count)
    levels = grids.from_ratios([float("inf"), between])
    first, second = consistency(function, start, levels, {}, lambda draw: fresh)
    figure, axes = _figure(3, height=4.3)
    shown = [
        (first.estimate, GREEN, "1. Jump: one step's result"),
        (first.x, GREY, f"2. Re-noise to σ/α = {between:g}"),
        (second.estimate, GREEN, "3. Jump again: two steps' result"),
    ]
    for ax, (points, colour, title) in zip(axes, shown, strict=True):
        _plane(ax, mixture)
        ax.plot(*np.asarray(points).T, "o", color=colour, ms=3.2, alpha=0.75, mec="none")
        ax.set_title(title)
    for ax, points in ((axes[0], first.estimate), (axes[2], second.estimate)):
        ax.set_xlabel(f"{_off(points, mixture):.0%} of the points lie off the data")
    axes[1].set_xlabel("fresh noise: what was wrong is drawn anew")
    worst = np.argsort(-_distance(first.estimate, mixture))[:3]
    for points, ax in ((first.estimate, axes[0]), (first.x, axes[1]), (second.estimate, axes[2])):
        ax.plot(*np.asarray(points)[worst].T, "o", color="none", mec=ORANGE, mew=1.8, ms=9)
    return figure


@dataclass(frozen=True)
class _Classed:
    """A conditional denoiser: label 1 is three neighbours in the ring, label 0 the whole ring."""

    whole: Mixture
    part: Mixture
    targets: Targets = Targets.SAME
    epsilon: float = 0.0

    def __call__(self, x: Any, at: Level, to: Level, cond: Condition) -> Any:
        chosen = np.asarray(cond["label"])[:, None] == 1
        return np.where(chosen, self.part.denoise(x, at), self.whole.denoise(x, at))


def guidance(seed: int = 7, count: int = 240) -> Figure:
    """The effect of a growing guidance scale on samples of one class."""
    from matplotlib.patches import Circle

    whole = ring()
    part = Mixture(np.ones(3), whole.means[1:4], whole.stds[1:4], scaled=False)
    start = NOISE.sigma * _noise(seed, count)
    cond, null = {"label": np.ones(count)}, {"label": np.zeros(1)}
    figure, axes = _figure(3, height=4.3)
    for ax, weight in zip(axes, (1.0, 2.0, 5.0), strict=True):
        *_, last = heun(Guided(_Classed(whole, part), null, weight), start, grids.uniform(TRIG, 100), cond)
        _plane(ax, whole)
        ax.plot(*np.asarray(last.x).T, "o", color=BLUE, ms=3.2, alpha=0.75, mec="none")
        for mean, std in zip(part.means, part.stds, strict=True):
            ax.add_patch(Circle(mean, 3 * std, fill=False, color=INK, lw=1.2))
        ax.set_title(f"w = {weight:g}")
        ax.set_xlabel(f"spread of the points: {np.asarray(last.x).std(axis=0).mean():.2f}")
    return figure


DRAWINGS: dict[str, Callable[[int], Figure]] = {
    "trajectories": trajectories,
    "paths": paths,
    "estimates": estimates,
    "renoising": renoising,
    "guidance": guidance,
}
"""The figures by name, each a function of the seed."""


def _noise(seed: int, count: int) -> Any:
    return randomness.noise(seed, (count, 2)).astype(np.float64)


def _limits(ax: Axes, right: float) -> tuple[float, float]:
    """Limits of the vertical axis that hold the lines up to x = right, with a margin of a twelfth."""
    seen = [np.asarray(line.get_ydata())[np.asarray(line.get_xdata()) <= right] for line in ax.get_lines()]
    low, high = min(float(y.min()) for y in seen), max(float(y.max()) for y in seen)
    return low - (high - low) / 12, high + (high - low) / 12


def _spread(seed: int, count: int) -> Any:
    """Noise [count, 2] with one draw in each of `count` equal sectors, so that a few points show all directions."""
    drawn = _noise(seed, count)
    radius, turn = np.linalg.norm(drawn, axis=1), np.arctan2(*drawn.T) / (2 * np.pi) % 1.0
    angle = 2 * np.pi * (np.arange(count) + turn) / count
    return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _no_noise(draw: int) -> Array:
    raise AssertionError("one step needs no fresh noise")


def _bent(seed: int, tries: int = 64) -> Any:
    """Among random starts, the one [1, 2] whose trajectory is the farthest from straight."""
    exact, starts = Exact(ring(), steps=60), _noise(seed, tries)
    states = exact.trajectory(NOISE.sigma * starts, NOISE, CLEAN)
    length = np.linalg.norm(np.diff(states, axis=0), axis=2).sum(axis=0)
    best = int(np.argmax(length - np.linalg.norm(states[-1] - states[0], axis=1)))
    return starts[best : best + 1]


def _zoom(ax: Axes, points: Any, margin: float = 0.12) -> None:
    """Show the square around points [n, 2]."""
    low, high = points.min(axis=0), points.max(axis=0)
    middle, half = (low + high) / 2, float((high - low).max()) / 2 + margin
    ax.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half))


def _repeat(level: Level, times: int) -> Level:
    return Level(np.tile(np.asarray(level.alpha), times), np.tile(np.asarray(level.sigma), times))


def _distance(points: Any, mixture: Mixture) -> Any:
    """Distance to the nearest component's centre, in its standard deviations."""
    apart = np.linalg.norm(points[:, None] - mixture.means, axis=2) / mixture.stds
    return apart.min(axis=1)


def _off(points: Any, mixture: Mixture, limit: float = 3.0) -> float:
    """The share of points farther than `limit` standard deviations from every centre (1 % for the data itself)."""
    return float((_distance(points, mixture) > limit).mean())


def _figure(columns: int, height: float, widths: tuple[float, ...] | None = None) -> tuple[Figure, list[Axes]]:
    """A figure of page width with one row of axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.4, height))
    return figure, list(figure.subplots(1, columns, squeeze=False, width_ratios=widths).ravel())


def _plane(ax: Axes, mixture: Mixture, reach: float = 1.25) -> None:
    """Draw the data's density as a pale background, both axes to one scale, without ticks."""
    side = np.linspace(-reach, reach, 200)
    points = np.stack(np.meshgrid(side, side), axis=-1)
    apart = ((points[:, :, None] - mixture.means) ** 2).sum(axis=3) / mixture.stds**2
    density = (mixture.weights * np.exp(-0.5 * apart)).sum(axis=2) / mixture.weights.max()
    ax.contourf(side, side, density, levels=[0.02, 0.14, 0.6, 2.0], colors=["#EDEDED", "#DEDEDE", "#CBCBCB"])
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[], aspect="equal")
    for spine in ax.spines.values():
        spine.set(visible=True, color="#D0D0D0")


def _curves(ax: Axes, states: Any, colour: str, alpha: float = 1.0, ends: bool = True) -> None:
    ax.plot(states[..., 0], states[..., 1], color=colour, lw=1.5, alpha=alpha)
    if ends:
        _ends(ax, states, colour)


def _ends(ax: Axes, states: Any, colour: str) -> None:
    """Mark where states [n, b, 2] begin (hollow: noise) and end (filled)."""
    ax.plot(*states[0].T, "o", color="white", mec=GREY, ms=5)
    ax.plot(*states[-1].T, "o", color=colour, ms=5.5, mec="white", mew=0.6)


def _arrow(ax: Axes, start: Any, end: Any, colour: str) -> None:
    ax.annotate(
        "", end, xytext=start,
        arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 2, "shrinkA": 3, "shrinkB": 0, "mutation_scale": 14},
    )  # fmt: skip
