from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from fewstep.core.arrays import Array
from fewstep.core.jump import Jump, consecutive, euler_step, heun_step, implied_noise, jump
from fewstep.core.levels import CLEAN, PURE_NOISE, VE, Level, Linear, Trig, from_ratio
from fewstep.core.parameterisations import Targets
from oracles import Gaussian, Mixture
from subjects import PATHS, angles, noisiest, normal, slope, tensor

GAUSSIAN = Gaussian(np.array([0.3, -0.7]), np.array([0.5, 1.3]))
MIXTURE = Mixture.ring(std=0.25)
ORACLES = {"gaussian": GAUSSIAN, "mixture": MIXTURE}
KINDS = {"numpy": np.asarray, "torch": tensor}


def _start(name: str, size: int = 5) -> tuple[np.ndarray, Level]:
    at = noisiest(PATHS[name]).batch(size)
    return at.mix(0.5 * normal(size, 2, seed=1), normal(size, 2)), at


def _middle(name: str, share: float, size: int = 5) -> Level:
    path = PATHS[name]
    return path.level(path.cleanest + np.float64(share) * (path.noisiest - path.cleanest)).batch(size)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PATHS)
def test_equal_levels_give_x_back_to_the_bit_whatever_the_estimate(name: str, kind: str) -> None:
    x, estimate = KINDS[kind](normal(5, 2)), KINDS[kind](1e6 * normal(5, 2, seed=1))
    for level in (_start(name)[1], _middle(name, 0.4), CLEAN.batch(5)):
        np.testing.assert_array_equal(np.asarray(jump(x, level, level, estimate)), np.asarray(x))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("oracle", ORACLES)
@pytest.mark.parametrize("name", PATHS)
def test_a_jump_with_the_two_level_estimate_is_the_flow(name: str, oracle: str, kind: str) -> None:
    exact, (x, at) = ORACLES[oracle], _start(name)
    for to in (_middle(name, 0.7), _middle(name, 0.3), CLEAN.batch(5)):
        expected = exact.flow(x, at, to)
        jumped = jump(KINDS[kind](x), at, to, exact(KINDS[kind](x), at, to))
        np.testing.assert_allclose(np.asarray(jumped), expected, atol=1e-8)


@pytest.mark.parametrize("name", PATHS)
def test_jumps_compose(name: str) -> None:
    """The semigroup: (κ_r − κ_s)·D(s, r) = (κ_m − κ_s)·D(s, m) + (κ_r − κ_m)·D(x_m, m, r)."""
    (x, s), m, r = _start(name), _middle(name, 0.6), _middle(name, 0.2)
    x_m = jump(x, s, m, MIXTURE(x, s, m))
    first, second, whole = MIXTURE(x, s, m), MIXTURE(x_m, m, r), MIXTURE(x, s, r)
    np.testing.assert_allclose(jump(x_m, m, r, second), jump(x, s, r, whole), atol=1e-7)
    k_s, k_m, k_r = (level.clock[:, None] for level in (s, m, r))
    np.testing.assert_allclose((k_r - k_s) * whole, (k_m - k_s) * first + (k_r - k_m) * second, atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("name", PATHS)
def test_a_constant_estimate_needs_no_stops(name: str) -> None:
    (x, at), estimate = _start(name), normal(5, 2, seed=7)
    stopped = x
    levels = [at, _middle(name, 0.8), _middle(name, 0.4), CLEAN.batch(5)]
    for before, after in pairwise(levels):
        stopped = jump(stopped, before, after, estimate)
    np.testing.assert_allclose(stopped, estimate, atol=1e-12)


def test_on_the_trig_path_a_jump_is_a_rotation() -> None:
    """TrigFlow: with D = cos t·x − σd·sin t·F, x_r = cos(t − r)·x − σd·sin(t − r)·F."""
    path, x, f, t, r = Trig(0.5), normal(4, 2), normal(4, 2, seed=1), 1.1, 0.3
    estimate = np.cos(t) * x - 0.5 * np.sin(t) * f
    jumped = jump(x, path.level(np.float64(t)), path.level(np.float64(r)), estimate)
    np.testing.assert_allclose(jumped, np.cos(t - r) * x - 0.5 * np.sin(t - r) * f)


def test_the_jump_is_the_euler_step_of_edm_of_linear_flow_and_ddim() -> None:
    x, d = normal(4, 2), normal(4, 2, seed=1)
    np.testing.assert_allclose(jump(x, from_ratio(3.0), from_ratio(1.0), d), x + (1.0 - 3.0) * (x - d) / 3.0)
    t, r = np.float64(0.8), np.float64(0.3)
    np.testing.assert_allclose(jump(x, Linear().level(t), Linear().level(r), d), x + (r - t) * (x - d) / t)
    at, to = Level(0.6, 0.8), Level(0.8, 0.6)
    np.testing.assert_allclose(jump(x, at, to, d), 0.8 * d + 0.6 * (x - 0.6 * d) / 0.8)


def test_a_jump_does_not_depend_on_the_scale_it_starts_from() -> None:
    x, d, at, to = normal(4, 2), normal(4, 2, seed=1), Level(0.6, 0.8), Level(0.8, 0.6)
    np.testing.assert_allclose(jump(7 * x, at.scaled(7.0), to, d), jump(x, at, to, d))


@pytest.mark.parametrize("kind", KINDS)
def test_leaving_a_level_without_noise_is_an_error_even_for_one_sample(kind: str) -> None:
    x, at = KINDS[kind](normal(2, 2)), Level(np.array([0.5, 1.0]), np.array([0.5, 0.0]))
    noisier, louder = from_ratio(0.1).batch(2), Level(2.0, 0.0).batch(2)
    for to in (noisier, louder):
        with pytest.raises(ValueError, match="without noise"):
            jump(x, at, to, x)
    with pytest.raises(ValueError, match="without noise"):
        heun_step(GAUSSIAN, x, at, noisier, {})
    with pytest.raises(ValueError, match="without noise"):
        jump(x, at.like(tensor(0.0)), noisier, x)


def test_levels_of_one_jump_may_be_tensors_and_arrays() -> None:
    x, d = tensor(normal(3, 2)), tensor(normal(3, 2, seed=1))
    at, to = PURE_NOISE.batch(3), Level(0.7, 0.4).batch(3)
    expected = jump(x, at, to, d)
    for left, right in ((at.like(x), to), (at, to.like(x)), (at.like(x), to.like(x))):
        np.testing.assert_array_equal(jump(x, left, right, d), expected)
        np.testing.assert_allclose(
            heun_step(GAUSSIAN, x, left, right, {})[0], heun_step(GAUSSIAN, x, at, to, {})[0], atol=1e-12
        )


@pytest.mark.parametrize("at_alpha", [0.0, 0.5])
@pytest.mark.parametrize("to_sigma", [0.0, 0.5])
@pytest.mark.parametrize("step", ["jump", "heun"])
def test_gradients_are_finite_from_pure_noise_and_to_clean(step: str, at_alpha: float, to_sigma: float) -> None:
    x, d = tensor(normal(2, 2), requires_grad=True), tensor(normal(2, 2, seed=1), requires_grad=True)
    parts = [tensor([v, v], requires_grad=True) for v in (at_alpha, 1.0, 1.0, to_sigma)]
    at, to = Level(*parts[:2]), Level(*parts[2:])
    out = jump(x, at, to, d) if step == "jump" else heun_step(Gaussian(d, 0.7), x, at, to, {})[0]
    assert torch.isfinite(out).all()
    out.sum().backward()
    assert all(torch.isfinite(leaf.grad).all() for leaf in (x, d, *parts) if leaf.grad is not None)
    assert parts[0].grad is not None


@pytest.mark.parametrize("kind", KINDS)
def test_implied_noise_and_estimate_make_x_again(kind: str) -> None:
    x, d = KINDS[kind](normal(3, 2)), KINDS[kind](normal(3, 2, seed=1))
    at = Level(np.array([0.0, 0.6, 1.0]), np.array([1.0, 0.8, 0.0]))
    noise = implied_noise(x, at, d)
    np.testing.assert_allclose(np.asarray(at.mix(d, noise))[:2], np.asarray(x)[:2], atol=1e-12)
    assert (np.asarray(noise)[2] == 0).all()


def test_a_jump_to_less_noise_keeps_the_implied_noise() -> None:
    x, d, at, to = normal(3, 2), normal(3, 2, seed=1), Level(0.6, 0.8).batch(3), Level(0.9, 0.3).batch(3)
    np.testing.assert_allclose(implied_noise(jump(x, at, to, d), to, d), implied_noise(x, at, d))


def _error(oracle: Gaussian | Mixture, levels: Level, order: int, x: Array) -> float:
    state = x
    for _, at, to in consecutive(levels, len(x)):
        state = (euler_step if order == 1 else heun_step)(oracle, state, at, to, {})[0]
    exact = oracle.flow(x, levels[0].batch(len(x)), levels[-1].batch(len(x)))
    return float(np.mean(np.abs(state - exact)))


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("oracle", ORACLES)
@pytest.mark.parametrize("name", PATHS)
def test_euler_converges_at_order_1_and_heun_at_order_2(name: str, oracle: str, order: int) -> None:
    """From each path's noisy end (α = 0 on linear and trig) to a level in the middle of the data's structure."""
    steps, (x, _) = [16, 32, 64, 128], _start(name, 20)
    errors = [_error(ORACLES[oracle], angles(PATHS[name], n, 0.4), order, x) for n in steps]
    assert slope(steps, errors) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("name", ["linear", "trig", "trig_unit"])
def test_the_order_holds_from_pure_noise_all_the_way_to_clean(name: str, order: int) -> None:
    steps, (x, at) = [32, 64, 128, 256], _start(name, 20)
    assert (at.alpha == 0).all()
    errors = [_error(GAUSSIAN, angles(PATHS[name], n, 0.0), order, x) for n in steps]
    assert slope(steps, errors) == pytest.approx(order, abs=0.2)


def test_heun_over_the_ratio_is_edms_algorithm_1() -> None:
    x, s, r = 3 * normal(4, 2), 3.0, 1.2
    d = (x - GAUSSIAN.denoise(x, from_ratio(s).batch(4))) / s
    euler = x + (r - s) * d
    d2 = (euler - GAUSSIAN.denoise(euler, from_ratio(r).batch(4))) / r
    stepped, first = heun_step(GAUSSIAN, x, from_ratio(s).batch(4), from_ratio(r).batch(4), {}, "ratio")
    np.testing.assert_allclose(stepped, x + (r - s) * (d + d2) / 2)
    np.testing.assert_allclose(first, x - s * d)


@pytest.mark.parametrize("variable", ["angle", "ratio"])
def test_a_heun_step_does_not_depend_on_the_path_it_is_taken_on(variable: str) -> None:
    x, ve = 2 * normal(4, 2), [from_ratio(2.0).batch(4), from_ratio(0.7).batch(4)]
    reference = heun_step(GAUSSIAN, x, *ve, {}, variable)[0]
    for a, b in ((0.3, 1.0), (1.0, 0.2), (5.0, 5.0)):
        stepped = heun_step(GAUSSIAN, a * x, ve[0].scaled(a), ve[1].scaled(b), {}, variable)[0]
        np.testing.assert_allclose(stepped, b * reference)


def test_heun_over_the_ratio_refuses_pure_noise() -> None:
    with pytest.raises(ValueError, match="use 'angle'"):
        heun_step(GAUSSIAN, normal(2, 2), PURE_NOISE.batch(2), Level(0.5, 0.5).batch(2), {}, "ratio")


@pytest.mark.parametrize("variable", ["angle", "ratio"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_heun_step_of_mixed_ends_treats_each_sample_by_itself(kind: str, variable: str) -> None:
    x = normal(2, 2)
    at, to = Level(1.0, 2.0).batch(2), Level(np.array([1.0, 1.0]), np.array([0.7, 0.0]))
    both = np.asarray(heun_step(GAUSSIAN, KINDS[kind](x), at, to, {}, variable)[0])
    for i in range(2):
        alone = heun_step(GAUSSIAN, x[i : i + 1], at[i : i + 1], to[i : i + 1], {}, variable)[0]
        np.testing.assert_allclose(both[i : i + 1], alone, atol=1e-14)
    np.testing.assert_allclose(both[1], GAUSSIAN.denoise(x, at)[1], atol=1e-14)  # a step to clean is a jump


def test_steps_ask_only_for_the_denoiser_and_heun_asks_twice_except_at_the_end() -> None:
    calls: list[tuple[Level, Level]] = []

    class Counting:
        targets, epsilon = Targets.SAME, 0.0

        def __call__(self, x: Array, at: Level, to: Level, cond: object) -> Array:
            calls.append((at, to))
            return 0 * x

    x, at, to = normal(2, 2), VE().level(np.float64(2.0)).batch(2), VE().level(np.float64(1.0)).batch(2)
    for step, end, count in ((euler_step, to, 1), (heun_step, to, 2), (heun_step, CLEAN.batch(2), 1)):
        calls.clear()
        step(Counting(), x, at, end, {})
        assert len(calls) == count
        assert all(np.array_equal(a.sigma, b.sigma) and np.array_equal(a.alpha, b.alpha) for a, b in calls)


@pytest.mark.parametrize("ratios", [(0.1, 1.0, 80.0), (80.0, 1.0, 2.0), (1.0, math.inf)])
def test_a_grid_that_rises_is_refused(ratios: tuple[float, ...]) -> None:
    levels = [from_ratio(ratio) for ratio in ratios]
    grid = Level(
        np.array([float(level.alpha) for level in levels]), np.array([float(level.sigma) for level in levels])
    )
    with pytest.raises(ValueError, match="levels must go from the noisiest to clean"):
        next(consecutive(grid, 1))


def test_consecutive_walks_the_grid_in_pairs() -> None:
    grid = Level(np.array([0.0, 0.5, 1.0]), np.array([1.0, 0.5, 0.0]))
    pairs = list(consecutive(grid, 3))
    assert [index for index, _, _ in pairs] == [0, 1]
    assert pairs[0][1].alpha.tolist() == [0.0] * 3
    assert pairs[0][2].sigma.tolist() == pairs[1][1].sigma.tolist() == [0.5] * 3
    assert pairs[1][2].sigma.tolist() == [0.0] * 3
    assert Jump(0, pairs[0][1], pairs[0][2], normal(3, 2), normal(3, 2)).index == 0
