"""What a network has learned obeys the house identity, on every path and within the error stated here: with y = x/σ and
κ = α/σ, dy/dκ = D(x, s, s), and D(x, s, r) is its average over κ from s to r.

Two flow maps of one mixture, by MeanFlow from the exact denoiser and by shortcuts from data, some seconds of training
each. The root mean square of the data is 0.6.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path as Files
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fewstep.core.arrays import Array, Condition
from fewstep.core.levels import Level, Path, from_ratio, place
from fewstep.core.parameterisations import Edm, Estimator, Targets
from fewstep.networks.mlp import MLP, MLPConfig
from fewstep.objectives import Batch, MeanFlow, Objective, Shortcut
from fewstep.objectives.times import LogitNormal, TwoTimes
from fewstep.training.ema import EmaConfig
from fewstep.training.loop import TrainingConfig, train
from fewstep.training.optimizers import OptimizerConfig
from once import Once
from oracles import Mixture
from students import student_of
from subjects import PATHS, normal

DATA = Mixture.ring(std=0.25)
TIMES = TwoTimes(LogitNormal(0.0, 1.5), 0.5)
OBJECTIVES: dict[str, tuple[Objective, int, int]] = {
    "MeanFlow": (MeanFlow(TIMES, replace(DATA, targets=Targets.SAME), power=0.5), 400, 128),
    "shortcut": (Shortcut(TIMES, decay=0.99), 500, 256),
}
"""With steps and batch."""

ERROR = 0.15
"""How far either may be from the exact map, root mean square; the exact denoiser in its place is 0.26 away."""

SIZES = MLPConfig(width=96, depth=2, embedding=64)

SIZE = 128
S, R = np.geomspace(0.8, 12.0, SIZE), 0.25 + 0.4 * np.linspace(0, 1, SIZE) ** 2
"""σ/α of both ends of a jump."""


@dataclass(frozen=True)
class Draws:
    """Fresh points of the mixture at each step."""

    def stream(self, first: int, last: int, batch: int, rank: int, world: int) -> Iterator[Batch]:
        for step in range(first, last):
            yield Batch(torch.from_numpy(DATA.sample(np.random.default_rng((step, rank)), batch)).float())


def learn(folder: Files) -> None:
    for name, (objective, steps, batch) in OBJECTIVES.items():
        torch.manual_seed(0)
        config = TrainingConfig(
            images=steps * batch,
            batch=batch,
            optimizer=OptimizerConfig(kind="adamw", lr=5e-3, warmup=50, decay_from=0.3),
            ema=EmaConfig(sigma_rel=0.1),
            checkpoint_every=0,
        )
        average = train(MLP(SIZES), Edm(), objective, Draws(), config, folder / f"{name}-run")
        torch.save(average.state_dict(), folder / f"{name}.pt")


@pytest.fixture(scope="module")
def maps(once: Once) -> dict[str, Estimator]:
    """The learned maps, in float64."""
    folder, learned = once("flow-maps", learn), {}
    for name in OBJECTIVES:
        network = MLP(SIZES)
        network.load_state_dict(torch.load(folder / f"{name}.pt"))
        learned[name] = student_of(network.double(), Targets.ANY)
    return learned


@dataclass(frozen=True)
class Blind:
    """A map that does not look where it is to jump: the denoiser."""

    inner: Estimator
    targets: Targets = Targets.ANY
    epsilon: float = 0.0

    def __call__(self, x: Array, at: Level, to: Level, cond: Condition) -> Array:
        return self.inner(x, at, at, cond)


def _levels(path: Path, *ratios: Any) -> list[Level]:
    return [place(from_ratio(torch.from_numpy(values)), path) for values in ratios]


def _start(at: Level) -> Tensor:
    x: Tensor = at.mix(
        torch.from_numpy(DATA.sample(np.random.default_rng(1), SIZE)), torch.from_numpy(normal(SIZE, 2))
    )
    return x


def _rms(values: Tensor) -> float:
    return float(values.square().mean().sqrt())


def _column(values: Any) -> Any:
    return values[:, None]


@torch.no_grad()
def _average_off(model: Estimator, path: Path, steps: int = 60) -> float:
    """D(x, s, r) beside the integral of dy/dκ = D(x, s, s), by midpoints in the path's own time."""
    s, r = _levels(path, S, R)
    x = _start(s)
    begin, width = path.time(s), path.time(r) - path.time(s)
    y = x / _column(s.sigma)
    for step in range(steps):
        here, middle, there = (path.level(begin + width * (step + part) / steps) for part in (0.0, 0.5, 1.0))
        half = y + _column(middle.clock - here.clock) * model(y * _column(here.sigma), here, here, {})
        y = y + _column(there.clock - here.clock) * model(half * _column(middle.sigma), middle, middle, {})
    average = (y - x / _column(s.sigma)) / _column(r.clock - s.clock)
    return _rms(model(x, s, r, {}) - average)


@torch.no_grad()
def _semigroup_off(model: Estimator, path: Path) -> float:
    """(κ_r − κ_s)·D(s, r) = (κ_m − κ_s)·D(s, m) + (κ_r − κ_m)·D(x_m, m, r), for the average D."""
    s, m, r = _levels(path, S, np.sqrt(S * R), R)
    x = _start(s)
    first = model(x, s, m, {})
    x_m = _column(m.sigma) * (x / _column(s.sigma) + _column(m.clock - s.clock) * first)
    parts = _column(m.clock - s.clock) * first + _column(r.clock - m.clock) * model(x_m, m, r, {})
    return _rms(model(x, s, r, {}) - parts / _column(r.clock - s.clock))


@torch.no_grad()
def _derivative_off(model: Estimator, path: Path) -> float:
    """D(s, r) = D(s, s) + (κ_r − κ_s)·dD(s, r)/dκ_s, the derivative by differences along the trajectory; for the
    average velocity of the linear path, as it is learned, which takes (1 + κ_s)/(1 + κ_r) of it."""
    s, r = _levels(path, S, R)
    x, step = _start(s), 1e-4
    here = model(x, s, s, {})
    after, before = _levels(path, S * (1 - step), S * (1 + step))
    ahead, behind = (
        model(_column(near.sigma) * (x / _column(s.sigma) + _column(near.clock - s.clock) * here), near, r, {})
        for near in (after, before)
    )
    rate = (ahead - behind) / _column(after.clock - before.clock)
    off = model(x, s, r, {}) - here - _column(r.clock - s.clock) * rate
    return _rms(off * _column((1 + s.clock) / (1 + r.clock)))


IDENTITIES = {
    "average": (_average_off, 0.15),
    "semigroup": (_semigroup_off, 0.06),
    "derivative": (_derivative_off, 0.22),
}
"""With the error within which a learned map obeys each, root mean square."""


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("identity", IDENTITIES)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_learned_map_is_an_average_over_kappa(
    maps: dict[str, Estimator], name: str, identity: str, path: str
) -> None:
    off, error = IDENTITIES[identity]
    assert off(maps[name], PATHS[path]) < error < off(Blind(maps[name]), PATHS[path])


def test_both_learn_the_flow_of_the_mixture_and_agree(maps: dict[str, Estimator]) -> None:
    s, r = _levels(PATHS["ve"], S, R)
    x = _start(s)
    exact = DATA(x, s, r)
    with torch.no_grad():
        ours, theirs = (model(x, s, r, {}) for model in maps.values())
    assert _rms(ours - exact) < ERROR
    assert _rms(theirs - exact) < ERROR
    assert _rms(ours - theirs) < ERROR
    assert _rms(DATA.denoise(x, s) - exact) > 1.5 * ERROR
