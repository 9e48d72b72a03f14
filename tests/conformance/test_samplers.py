"""What every sampler must do. A new one joins by its line in `fewstep.samplers.SAMPLERS` and one in `TABLE`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from fewstep.core.arrays import Array
from fewstep.core.grids import karras, trailing, uniform
from fewstep.core.jump import Jump
from fewstep.core.levels import VP, Level, place
from fewstep.core.parameterisations import Targets, UnsupportedTarget
from fewstep.core.randomness import Noise
from fewstep.samplers import SAMPLERS
from oracles import Constant, Gaussian, Mixture
from subjects import PATHS, STEPS, angles, noisiest, normal, slope, tensor


@dataclass(frozen=True)
class Case:
    """How to call a sampler.

    Args:
        needs: the targets it needs.
        order: its order of convergence to the flow, or None if it draws fresh noise or jumps as it was taught.
        within: how near to it the measured order is.
        options: keyword arguments made from the noise source of the batch.
    """

    needs: Targets
    order: int | None = None
    within: float = 0.25
    options: Callable[[Callable[[int], Array]], Mapping[str, Any]] = field(default=lambda noise: {})


TABLE = {
    "consistency": Case(Targets.CLEAN, options=lambda noise: {"noise": noise}),
    "consistency, half renewed": Case(Targets.CLEAN, options=lambda noise: {"noise": noise, "gamma": 0.5}),
    "consistency, deterministic": Case(Targets.CLEAN, options=lambda noise: {"noise": noise, "gamma": 0.0}),
    "ddim": Case(Targets.SAME, order=1),
    "dpm_solver": Case(Targets.SAME, order=2, within=0.35),  # its first and last steps are of first order: h²·ln h
    "euler": Case(Targets.SAME, order=1),
    "flow_map": Case(Targets.ANY, options=lambda noise: {"noise": noise}),
    "flow_map, half renewed": Case(Targets.ANY, options=lambda noise: {"noise": noise, "gamma": 0.5}),
    "heun": Case(Targets.SAME, order=2),
}
SHAPE = (3, 2, 2)
ORACLE = Gaussian(0.2, 0.6)
GRIDS = {
    **{f"uniform_{name}": lambda n, path=path: uniform(path, n) for name, path in PATHS.items()},
    **{f"karras_on_{name}": lambda n, path=path: place(karras(n), path) for name, path in PATHS.items()},
    "trailing": lambda n: trailing(VP.scaled_linear(), n),
}


def test_what_a_sampler_needs_is_published() -> None:
    assert {name.split(",")[0]: case.needs for name, case in TABLE.items()} == {
        name: sampler.needs for name, sampler in SAMPLERS.items()
    }


def _sample(name: str, estimator: Any, levels: Level, x: Array, seeds: list[int]) -> list[Jump]:
    noise = Noise(seeds, tuple(x.shape[1:]), x)
    case = TABLE[name]
    return list(SAMPLERS[name.split(",")[0]].run(estimator, x, levels, {}, **case.options(noise)))


def _start(levels: Level, seeds: list[int]) -> np.ndarray:
    return float(levels.sigma[0]) * Noise(seeds, SHAPE)(0).astype(np.float64)


def test_every_sampler_is_in_the_table() -> None:
    assert {name.split(",")[0] for name in TABLE} == set(SAMPLERS), "register each sampler in TABLE"


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", TABLE)
def test_n_steps_are_n_jumps_along_the_grid_and_all_finite(name: str, grid: str, steps: int) -> None:
    levels = GRIDS[grid](steps)
    jumps = _sample(name, ORACLE, levels, _start(levels, [1, 2]), [1, 2])
    assert [jump.index for jump in jumps] == list(range(steps))
    for i, jump in enumerate(jumps):
        for level, at in ((jump.at, levels[i]), (jump.to, levels[i + 1])):
            np.testing.assert_array_equal(level.alpha, np.full(2, at.alpha))
            np.testing.assert_array_equal(level.sigma, np.full(2, at.sigma))
        assert jump.x.shape == jump.estimate.shape == (2, *SHAPE)
        assert np.isfinite(jump.x).all()
        assert np.isfinite(jump.estimate).all()
    assert jumps[-1].to.sigma.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", TABLE)
def test_the_precision_of_the_start_is_kept_and_single_is_near_double(
    name: str, path: str, kind: str, dtype: str
) -> None:
    levels = uniform(PATHS[path], 4)
    start = _start(levels, [1, 2])
    reference = _sample(name, ORACLE, levels, start, [1, 2])[-1].x
    x = start.astype(dtype) if kind == "numpy" else tensor(start, dtype=getattr(torch, dtype))
    jumps = _sample(name, ORACLE, levels, x, [1, 2])
    assert all(jump.x.dtype == jump.estimate.dtype == x.dtype for jump in jumps)
    np.testing.assert_allclose(np.asarray(jumps[-1].x), reference, atol=1e-12 if dtype == "float64" else 1e-4)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", TABLE)
def test_levels_may_be_tensors(name: str, steps: int) -> None:
    levels = uniform(PATHS["trig"], steps)
    x = tensor(_start(levels, [1, 2]))
    ours, theirs = (_sample(name, ORACLE, grid, x, [1, 2])[-1].x for grid in (levels, levels.like(x)))
    np.testing.assert_allclose(theirs, ours, atol=1e-14)


@pytest.mark.parametrize("have", list(Targets))
@pytest.mark.parametrize("name", TABLE)
def test_a_model_without_the_targets_is_refused_by_naming_both(name: str, have: Targets) -> None:
    levels, needs = uniform(PATHS["linear"], 2), TABLE[name].needs
    x = _start(levels, [1])
    if have in (needs, Targets.ANY):
        _sample(name, Constant(0.0, have), levels, x, [1])
        return
    with pytest.raises(UnsupportedTarget, match=f"'{needs.value}'.*'{have.value}'"):
        _sample(name, Constant(0.0, have), levels, x, [1])


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", TABLE)
def test_a_constant_estimate_is_reached_exactly(name: str, path: str, steps: int) -> None:
    levels = uniform(PATHS[path], steps)
    data = normal(*SHAPE)
    jumps = _sample(name, Constant(data), levels, _start(levels, [1, 2]), [1, 2])
    for jump in jumps:
        np.testing.assert_array_equal(jump.estimate, np.stack([data, data]))
    np.testing.assert_array_equal(jumps[-1].x, np.stack([data, data]))


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("name", TABLE)
def test_an_image_does_not_depend_on_its_batch(name: str, kind: str) -> None:
    levels = uniform(PATHS["trig"], 4)

    def draw(seeds: list[int]) -> Array:
        start = _start(levels, seeds)
        return np.asarray(_sample(name, ORACLE, levels, start if kind == "numpy" else tensor(start), seeds)[-1].x)

    batch = draw([11, 12, 13])
    for i, seed in enumerate([11, 12, 13]):
        np.testing.assert_array_equal(batch[i], draw([seed])[0])


@pytest.mark.parametrize("name", TABLE)
def test_the_points_of_the_trajectory_and_not_the_paths_scale_decide(name: str) -> None:
    """The same σ/α on three paths: the same images."""
    grid = place(karras(4, 0.1, 10.0), PATHS["linear"])
    results = []
    for path in ("ve", "linear", "trig_unit"):
        levels = place(grid, PATHS[path])
        results.append(_sample(name, ORACLE, levels, _start(levels, [1, 2]), [1, 2])[-1].x)
    np.testing.assert_allclose(results[1], results[0], atol=1e-12)
    np.testing.assert_allclose(results[2], results[0], atol=1e-12)


@pytest.mark.parametrize("oracle", ["gaussian", "mixture"])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", [name for name, case in TABLE.items() if case.order])
def test_a_solver_converges_to_the_flow_at_its_order(name: str, path: str, oracle: str) -> None:
    exact = ORACLE if oracle == "gaussian" else Mixture.ring(std=0.25)
    steps, size = [16, 32, 64], 12
    at = noisiest(PATHS[path]).batch(size)
    x = at.mix(0.5 * normal(size, 2, seed=1), normal(size, 2))
    errors = []
    for n in steps:
        levels = angles(PATHS[path], n, 0.4)
        end = _sample(name, exact, levels, x, [0] * size)[-1].x
        errors.append(float(np.mean(np.abs(end - exact.flow(x, at, levels[-1].batch(size))))))
    assert slope(steps, errors) == pytest.approx(TABLE[name].order, abs=TABLE[name].within)


@pytest.mark.parametrize("name", [name for name, case in TABLE.items() if case.needs is Targets.CLEAN])
def test_one_step_from_pure_noise_is_the_consistency_function(name: str) -> None:
    exact, levels = Mixture.ring(), uniform(PATHS["linear"], 1)
    x = normal(8, 2)
    jumped = _sample(name, exact, levels, x, list(range(8)))[-1].x
    np.testing.assert_allclose(jumped, exact.flow(x, levels[0].batch(8), levels[1].batch(8)), atol=1e-7)
