"""The jump between two levels and the single solver steps made of it.

With y = x/σ and κ = α/σ every path's probability-flow ODE is dy/dκ = D(x, level), so a constant estimate
gives one formula for EDM's Euler step, DDIM and the linear flow's Euler step. Training and sampling both
call the functions of this module.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from array_api_compat import device

from fewstep.core.arrays import Array, ArrayT, Condition, divide, namespace, per_sample, reciprocal
from fewstep.core.levels import Level
from fewstep.core.parameterisations import Estimator


@dataclass(frozen=True)
class Jump:
    """One jump of a sampler.

    Args:
        index: 0 for the first jump.
        at: the level [b] it left.
        to: the level [b] it reached.
        x: the state [b, ...] at `to`.
        estimate: the data estimate [b, ...] it used: a preview of the result.
    """

    index: int
    at: Level
    to: Level
    x: Array
    estimate: Array


def jump(x: ArrayT, at: Level, to: Level, estimate: ArrayT) -> ArrayT:
    """Move x from one level to another along a constant estimate D: α'·D + (σ'/σ)·(x − α·D).

    Args:
        x: [b, ...] the state at `at`.
        at: where x is, [] or [b].
        to: where to go, [] or [b].
        estimate: [b, ...] the data estimate D.

    Returns:
        The state [b, ...] at `to`; x itself where both levels are equal.

    Raises:
        ValueError: a sample leaves a level without noise for another level.
    """
    at, to = at.with_kind_of(to), to.with_kind_of(at)
    check_leaves_noise(at, to)
    shrink = _noise_ratio(at, to)
    return per_sample(shrink, x) * x + per_sample(to.alpha - at.alpha * shrink, x) * estimate


def connecting_estimate(x: ArrayT, at: Level, to: Level, x_to: ArrayT) -> ArrayT:
    """The constant estimate whose jump brings x to x_to: (σ·x' − σ'·x)/(α'·σ − α·σ'); 0 where both levels are one.

    Along a trajectory it is the average of the denoiser over κ between both levels.
    """
    gap = to.alpha * at.sigma - at.alpha * to.sigma
    inverse = reciprocal(gap)
    return per_sample(at.sigma * inverse, x) * x_to - per_sample(to.sigma * inverse, x) * x


def check_leaves_noise(at: Level, to: Level) -> None:
    """Raise ValueError if a sample leaves σ = 0 for another level: nothing there says where to go.

    Levels on an accelerator are not looked at, since that would wait for it; nothing is raised there.
    """
    if _on_accelerator(at):
        return
    stuck = (at.sigma == 0) & ((to.sigma != 0) | (to.alpha != at.alpha))
    if bool(namespace(at.sigma).any(stuck)):
        raise ValueError("cannot jump from a level without noise (σ = 0) to another level: add noise to it")


def _on_accelerator(level: Level) -> bool:
    return str(device(level.sigma)) != "cpu"


def _noise_ratio(at: Level, to: Level) -> Array:
    """σ'/σ, and 1 where both levels are clean."""
    xp = namespace(at.sigma)
    return xp.where(at.sigma == 0, xp.ones_like(at.sigma), divide(to.sigma, at.sigma))


def implied_noise(x: ArrayT, at: Level, estimate: ArrayT) -> ArrayT:
    """The noise [b, ...] that x holds if `estimate` is the data: (x − α·D)/σ; 0 where σ = 0."""
    return per_sample(reciprocal(at.sigma), x) * (x - per_sample(at.alpha, x) * estimate)


def euler_step(estimator: Estimator, x: ArrayT, at: Level, to: Level, cond: Condition) -> tuple[ArrayT, ArrayT]:
    """One first-order step of the probability-flow ODE: a jump with the denoiser's estimate.

    Returns:
        The state at `to` and the estimate, both [b, ...]; one evaluation.
    """
    estimate = estimator(x, at, at, cond)
    return jump(x, at, to, estimate), estimate


StepVariable = Literal["angle", "ratio"]


def heun_step(
    estimator: Estimator,
    x: ArrayT,
    at: Level,
    to: Level,
    cond: Condition,
    variable: StepVariable = "angle",
    sigma_data: float = 0.5,
) -> tuple[ArrayT, ArrayT]:
    """One second-order step of the probability-flow ODE (Heun; EDM 2206.00364 alg. 1 without churn).

    Args:
        estimator: a denoiser.
        x: [b, ...] the state at `at`.
        at: where x is, [] or [b].
        to: where to go, [] or [b]; a step to σ = 0 is a jump.
        cond: the network's conditions.
        variable: `angle` integrates over atan2(σ, σd·α), finite at pure noise; `ratio` over σ/α as EDM does.
        sigma_data: σd of the angle.

    Returns:
        The state at `to` and the first estimate, both [b, ...]; two evaluations, one if all of `to` is clean and
        on the CPU.

    Raises:
        ValueError: a sample leaves a level without noise, or pure noise over σ/α, which is infinite there; on an
            accelerator nothing is looked at or raised.
    """
    at, to = at.with_kind_of(to), to.with_kind_of(at)
    check_leaves_noise(at, to)
    first = estimator(x, at, at, cond)
    last = to.sigma == 0
    xp = namespace(to.sigma)
    looked_at = not _on_accelerator(at)
    if looked_at and bool(xp.all(last)):
        return jump(x, at, to, first), first
    slope, chart = (_angle_slope, _AngleChart(sigma_data)) if variable == "angle" else (_ratio_slope, _RatioChart())
    if variable == "ratio" and looked_at and bool(xp.any(at.alpha == 0)):
        raise ValueError("Heun over 'ratio' cannot start at pure noise (α = 0), where σ/α is infinite: use 'angle'")
    y, start, end = chart.enter(x, at), chart.time(at), chart.time(to)
    width = per_sample(end - start, x)
    k1 = slope(y, start, first)
    guess = chart.leave(y + width * k1, to)
    k2 = slope(y + width * k1, end, estimator(guess, to, to, cond))
    stepped = chart.leave(y + width * 0.5 * (k1 + k2), to)
    if not looked_at or bool(xp.any(last)):
        mask = per_sample(last, x) > 0
        stepped = namespace(x).where(mask, jump(x, at, to, first), stepped)
    return stepped, first


@dataclass(frozen=True)
class _AngleChart:
    """x on the trig path's scale, over its time θ."""

    sigma_data: float

    def time(self, level: Level) -> Array:
        return level.angle(self.sigma_data)

    def enter(self, x: ArrayT, at: Level) -> ArrayT:
        return x * per_sample(self.sigma_data / at.magnitude(self.sigma_data), x)

    def leave(self, y: ArrayT, to: Level) -> ArrayT:
        return y * per_sample(to.magnitude(self.sigma_data) / self.sigma_data, y)


class _RatioChart:
    """x on the VE path's scale, over σ/α; not for α = 0."""

    def time(self, level: Level) -> Array:
        return level.ratio

    def enter(self, x: ArrayT, at: Level) -> ArrayT:
        return x * per_sample(reciprocal(at.alpha), x)

    def leave(self, y: ArrayT, to: Level) -> ArrayT:
        return y * per_sample(to.alpha, y)


def _angle_slope(y: ArrayT, time: Array, estimate: ArrayT) -> ArrayT:
    """dy/dθ = (cos θ·y − D)/sin θ; 0 at θ = 0, where no step begins."""
    xp = namespace(time)
    inverse = reciprocal(xp.sin(time))
    return per_sample(inverse * xp.cos(time), y) * y - per_sample(inverse, y) * estimate


def _ratio_slope(y: ArrayT, time: Array, estimate: ArrayT) -> ArrayT:
    """dy/dσ = (y − D)/σ; 0 at σ = 0, where no step begins."""
    return per_sample(reciprocal(time), y) * (y - estimate)


def consecutive(levels: Level, batch: int) -> Iterator[tuple[int, Level, Level]]:
    """Walk a grid of N + 1 levels as N pairs (index, from, to), each level shaped [batch].

    Raises:
        ValueError: the levels rise; not looked at on an accelerator.
    """
    rises = levels.sigma[1:] * levels.alpha[:-1] > levels.sigma[:-1] * levels.alpha[1:]
    if not _on_accelerator(levels) and bool(namespace(levels.sigma).any(rises)):
        raise ValueError("levels must go from the noisiest to clean, and these rise: turn them around")
    for index in range(len(levels) - 1):
        yield index, levels[index].batch(batch), levels[index + 1].batch(batch)
