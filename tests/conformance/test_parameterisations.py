"""What every parameterisation must do. A new one joins by its line in `CASES`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    CMStochasticIterativeScheduler,
    DDIMScheduler,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
    LCMScheduler,
)

from fewstep.core.arrays import Array, Condition
from fewstep.core.grids import leading, trailing
from fewstep.core.jump import jump
from fewstep.core.levels import CLEAN, PURE_NOISE, VP, Level, Linear, from_ratio, place
from fewstep.core.parameterisations import (
    Clipped,
    Data,
    Edm,
    Epsilon,
    Lcm,
    Parameterisation,
    Parameterised,
    Targets,
    V,
    Velocity,
)
from fewstep.samplers import euler
from oracles import Gaussian, Mixture
from subjects import PATHS, noisiest, normal, tensor


@dataclass(frozen=True)
class Case:
    """A parameterisation and what its network knows.

    Args:
        parameterisation: the thing itself.
        native: from the network's time [b] to the level that its own x then has.
        low, high: the σ/α that its network can tell apart.
    """

    parameterisation: Parameterisation
    native: Callable[[Any], Level]
    low: float = 0.0
    high: float = float("inf")


def _unit(level: Level, sigma_data: float) -> Level:
    return level.scaled(1 / level.magnitude(sigma_data))


def _angle(sigma_data: float) -> Callable[[Any], Level]:
    return lambda time: Level(np.cos(time) / sigma_data, np.sin(time))


def _table(make: Callable[[VP], Parameterisation], path: VP) -> Case:
    return Case(make(path), path.level, *(float(path.level(np.float64(t)).ratio) for t in (0, path.noisiest)))


CASES = {
    "edm": Case(Edm(), _angle(0.5)),
    "edm_unit": Case(Edm(1.0), _angle(1.0)),
    "edm_quarter_log": Case(
        Edm(time="quarter_log"), lambda time: _unit(from_ratio(np.exp(4 * time)), 0.5), 1e-9, 1e9
    ),
    "edm_thousand_quarter_log": Case(
        Edm(epsilon=0.002, time="thousand_quarter_log"),
        lambda t: _unit(from_ratio(np.exp(t / 250)), 0.5),
        0.0021,
        1e9,
    ),
    "edm_pinned": Case(Edm(epsilon=0.002), _angle(0.5), 0.0021),
    "epsilon": _table(Epsilon, VP.scaled_linear()),
    "epsilon_ddpm": _table(Epsilon, VP.ddpm()),
    "v": _table(V, VP.scaled_linear()),
    "v_cosine": _table(V, VP.cosine()),
    "data": _table(Data, VP.scaled_linear()),
    "lcm": _table(lambda path: Lcm(Epsilon(path)), VP.scaled_linear()),
    "lcm_v": _table(lambda path: Lcm(V(path), 0.3, 2.0), VP.cosine()),
    "velocity": Case(Velocity(), Linear().level),
    "velocity_1000": Case(Velocity(1000.0), lambda time: Linear().level(time / 1000)),
    "clipped": Case(Clipped(Edm(epsilon=0.002), 100.0), _angle(0.5), 0.0021),  # within the bound
}
ORACLES = {"gaussian": Gaussian(0.2, 0.6), "mixture": Mixture.ring()}
ENDS = Level(np.array([0.0, 0.5, 1.0]), np.array([1.0, 0.5, 0.0]))


@dataclass(frozen=True)
class Wrapped:
    """An exact oracle as a raw network: it sees the network's x and times, and answers with the output that stands
    for the oracle's estimate."""

    case: Case
    oracle: Gaussian | Mixture

    def __call__(self, x: Array, time_at: Array, time_to: Array, cond: Condition) -> Array:
        at, to = self.case.native(time_at), self.case.native(time_to)
        return self.case.parameterisation.output(x, self.oracle(x, at, to), at)


def _levels(case: Case, path: str, size: int) -> Level:
    """Levels of the path within what the network can tell apart, from the noisy end down."""
    high = min(case.high, float(noisiest(PATHS[path]).ratio))
    noisy = PURE_NOISE if high == float("inf") else _unit(from_ratio(high * (1 - 1e-9)), 1.0)
    low = max(case.low * (1 + 1e-9), 0.03)
    theta = np.linspace(float(noisy.angle()), np.arctan(low), size)[1:]
    falling = Level(np.append(noisy.alpha, np.cos(theta)), np.append(noisy.sigma, np.sin(theta)))
    return place(falling, PATHS[path])


@pytest.mark.parametrize("oracle", ORACLES)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", CASES)
def test_an_exact_network_makes_the_exact_estimator_on_every_path(name: str, path: str, oracle: str) -> None:
    case, exact = CASES[name], ORACLES[oracle]
    at = _levels(case, path, 8)
    x = at.mix(0.5 * normal(8, 2), normal(8, 2, seed=1))
    estimator = Parameterised(Wrapped(case, exact), case.parameterisation, Targets.ANY)
    for to in (at, Level(at.alpha[[2, 3, 4, 5, 6, 7, 7, 7]], at.sigma[[2, 3, 4, 5, 6, 7, 7, 7]])):
        np.testing.assert_allclose(estimator(x, at, to, {}), exact(x, at, to), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", [np.asarray, tensor])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", CASES)
def test_output_and_estimate_are_inverse_where_there_is_noise(name: str, path: str, kind) -> None:
    case = CASES[name]
    at = _levels(case, path, 8)
    x, data, output = (kind(normal(8, 2, seed=i)) for i in range(3))
    there = case.parameterisation.estimate(x, case.parameterisation.output(x, data, at), at)
    np.testing.assert_allclose(np.asarray(there), np.asarray(data), atol=1e-10)
    back = case.parameterisation.output(x, case.parameterisation.estimate(x, output, at), at)
    np.testing.assert_allclose(np.asarray(back), np.asarray(output), atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_the_scale_of_x_does_not_matter(name: str) -> None:
    p, at = CASES[name].parameterisation, _levels(CASES[name], "cosine", 6)
    x, output, scale = normal(6, 2), normal(6, 2, seed=1), np.geomspace(0.01, 30, 6)
    for ours, theirs in zip(
        p.inputs(scale[:, None] * x, at.scaled(scale), at.scaled(3.0)), p.inputs(x, at, at), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)
    scaled = p.estimate(scale[:, None] * x, output, at.scaled(scale))
    np.testing.assert_allclose(scaled, p.estimate(x, output, at), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(
        p.output(scale[:, None] * x, x, at.scaled(scale)), p.output(x, x, at), rtol=1e-8, atol=1e-8
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CASES)
def test_pure_noise_and_clean_are_finite_forward_and_backward(name: str, dtype: torch.dtype) -> None:
    p = CASES[name].parameterisation
    leaves = [tensor(normal(3, 2, seed=i), dtype=dtype, requires_grad=True) for i in range(2)]
    parts = [tensor(values, requires_grad=True) for values in (ENDS.alpha, ENDS.sigma)]
    at = Level(*parts)
    values = [*p.inputs(leaves[0], at, at), p.estimate(*leaves, at), p.output(*leaves, at)]
    for value in values:
        assert value.dtype == dtype
        assert torch.isfinite(value).all()
    sum(value.sum() for value in values[:-1]).backward()
    assert all(torch.isfinite(leaf.grad).all() for leaf in (*leaves, *parts))


@pytest.mark.parametrize("name", CASES)
def test_clean_data_are_their_own_estimate_whatever_the_network_says(name: str) -> None:
    x, output = normal(2, 2), 1e3 * normal(2, 2, seed=1)
    p = CASES[name].parameterisation
    np.testing.assert_allclose(p.estimate(x, output, CLEAN.batch(2)), x)
    np.testing.assert_allclose(p.estimate(2 * x, output, CLEAN.scaled(2.0).batch(2)), x)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.parameterisation.epsilon > 0])
def test_the_boundary_is_pinned_where_the_parameterisation_says(name: str, path: str) -> None:
    p, cleanest = CASES[name].parameterisation, PATHS[path].level(np.float64(PATHS[path].cleanest))
    at = from_ratio(p.epsilon).batch(2).scaled(float(cleanest.alpha))  # the path's scale, not clamped to its ends
    x, output = normal(2, 2), 1e3 * normal(2, 2, seed=1)
    np.testing.assert_allclose(p.estimate(x, output, at), x / at.alpha[:, None])
    assert np.abs(p.estimate(x, output, from_ratio(0.01).batch(2)) - x).max() > 1


@pytest.mark.parametrize("name", CASES)
def test_numbers_are_the_same_in_numpy_and_torch(name: str) -> None:
    p, x, output = CASES[name].parameterisation, normal(3, 2), normal(3, 2, seed=1)
    for levels in (ENDS, ENDS.like(tensor(0.0))):
        ours = [*p.inputs(x, ENDS, ENDS), p.estimate(x, output, ENDS), p.output(x, output, ENDS)]
        tensors = tensor(x), tensor(output)
        theirs = [*p.inputs(tensors[0], levels, levels), p.estimate(*tensors, levels), p.output(*tensors, levels)]
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(np.asarray(b), a, atol=1e-12)


# Parity with diffusers.


def test_edm_with_its_boundary_equals_diffusers_consistency_models() -> None:
    theirs = CMStochasticIterativeScheduler()
    p = Edm(sigma_data=0.5, epsilon=0.002, time="thousand_quarter_log")
    for sigma in (0.002, 0.01, 0.5, 3.0, 80.0):
        x, f, at = normal(2, 2), normal(2, 2, seed=1), from_ratio(sigma).batch(2)
        c_skip, c_out = theirs.get_scalings_for_boundary_condition(sigma)
        np.testing.assert_allclose(p.estimate(x, f, at), c_skip * x + c_out * f, rtol=1e-9)
        scaled, time, _ = p.inputs(x, at, at)
        np.testing.assert_allclose(scaled, x / np.sqrt(sigma**2 + 0.25))
        np.testing.assert_allclose(time, theirs.sigma_to_t(np.array([sigma, sigma])), rtol=1e-9)


def test_edm_equals_diffusers_edm_preconditioning() -> None:
    theirs, p = EDMEulerScheduler(sigma_data=0.5), Edm(time="quarter_log")
    for sigma in (0.01, 0.5, 3.0, 80.0):
        x, f, at = tensor(normal(2, 2)), tensor(normal(2, 2, seed=1)), from_ratio(sigma).batch(2)
        s = tensor(sigma)
        np.testing.assert_allclose(p.estimate(x, f, at), theirs.precondition_outputs(x, f, s), rtol=1e-9)
        np.testing.assert_allclose(p.inputs(x, at, at)[0], theirs.precondition_inputs(x, s), rtol=1e-9)
        np.testing.assert_allclose(p.inputs(x, at, at)[1], [float(theirs.precondition_noise(s))] * 2, rtol=1e-6)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_lcm_equals_diffusers_latent_consistency_boundary(prediction: str) -> None:
    theirs = LCMScheduler(prediction_type=prediction, beta_start=0.00085, beta_end=0.012)
    theirs.set_timesteps(4)
    path = VP.scaled_linear()
    p = Lcm({"epsilon": Epsilon, "v_prediction": V, "sample": Data}[prediction](path))
    for t in (int(t) for t in theirs.timesteps):
        x, f = (tensor(normal(2, 2, seed=seed), dtype=torch.float32) for seed in (0, 1))
        theirs._step_index = None
        denoised = theirs.step(f, t, x).denoised
        np.testing.assert_allclose(p.estimate(x, f, path.level(float(t)).batch(2)), denoised, rtol=1e-4, atol=1e-5)
    at_end = path.level(0.0).batch(2)
    np.testing.assert_allclose(p.estimate(x, 1e3 * f, at_end), x, rtol=1e-6)  # 10·t = 0 keeps x, noise and all


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("steps", [1, 2, 4, 8])
@pytest.mark.parametrize("spacing", ["trailing", "leading"])
def test_euler_with_epsilon_or_v_equals_diffusers_ddim(prediction: str, steps: int, spacing: str) -> None:
    """The whole of DDIM, estimate by estimate and state by state."""
    path = VP.scaled_linear()
    theirs = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction,
        clip_sample=False,
        set_alpha_to_one=True,
        timestep_spacing=spacing,
        steps_offset=0,
    )
    theirs.set_timesteps(steps)
    levels = (trailing if spacing == "trailing" else leading)(path, steps)
    p = Epsilon(path) if prediction == "epsilon" else V(path)

    def network(x: Array, time_at: Array, time_to: Array, cond: Condition) -> Array:
        return torch.sin(3 * x) + time_at[:, None] / 1000

    x = tensor(normal(3, 2))
    state = x
    jumps = euler(Parameterised(network, p), x, levels, {})
    for t, jumped in zip(theirs.timesteps, jumps, strict=True):
        step = theirs.step(network(state, t.double().expand(3), t, {}), t, state)
        np.testing.assert_allclose(jumped.estimate, step.pred_original_sample, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(jumped.x, step.prev_sample, rtol=1e-3, atol=1e-4)
        state = step.prev_sample


def test_velocity_equals_diffusers_flow_match_euler() -> None:
    theirs = FlowMatchEulerDiscreteScheduler()
    theirs.set_timesteps(4)
    state = tensor(normal(3, 2), dtype=torch.float32)
    for i, t in enumerate(theirs.timesteps):
        at, to = (Level(1 - s, s).batch(3) for s in (float(theirs.sigmas[j]) for j in (i, i + 1)))
        v = tensor(normal(3, 2, seed=i), dtype=torch.float32)
        after = theirs.step(v, t, state).prev_sample
        np.testing.assert_allclose(jump(state, at, to, Velocity().estimate(state, v, at)), after, atol=1e-5)
        np.testing.assert_allclose(Velocity(1000.0).inputs(state, at, at)[1], [float(t)] * 3, rtol=1e-5)
        state = after


def test_the_jump_on_ve_equals_diffusers_edm_euler() -> None:
    theirs, p = EDMEulerScheduler(sigma_data=0.5), Edm(time="quarter_log")
    theirs.set_timesteps(4)
    sigmas = theirs.sigmas.double().numpy()
    state = tensor(80 * normal(3, 2), dtype=torch.float32)
    for i, t in enumerate(theirs.timesteps):
        at, to = (Level(1.0, float(sigmas[j])).batch(3) for j in (i, i + 1))
        f = tensor(normal(3, 2, seed=i), dtype=torch.float32)
        theirs.scale_model_input(state, t)
        after = theirs.step(f, t, state).prev_sample
        np.testing.assert_allclose(jump(state, at, to, p.estimate(state, f, at)), after, rtol=1e-4, atol=1e-5)
        state = after
