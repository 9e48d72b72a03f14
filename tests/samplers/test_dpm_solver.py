"""DPM-Solver++(2M) against diffusers' on the same levels, and from pure noise, where its step is infinite."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler

from fewstep.core.grids import from_ratios, uniform
from fewstep.core.levels import VE, Linear, Trig
from fewstep.core.levels import Path as NoisePath
from fewstep.core.parameterisations import Targets
from fewstep.samplers import dpm_solver, euler
from oracles import Gaussian, Mixture
from subjects import normal


@pytest.mark.parametrize("steps", [3, 8, 20])
def test_it_is_diffusers_on_the_levels_of_a_ddpm_table(steps: int) -> None:
    theirs = DPMSolverMultistepScheduler(
        beta_schedule="scaled_linear", prediction_type="sample", final_sigmas_type="zero", lower_order_final=False
    )
    theirs.set_timesteps(steps)
    mixture = Mixture.ring(targets=Targets.SAME)
    levels = from_ratios(theirs.sigmas[:-1].double().numpy())
    x = float(levels.sigma[0]) * normal(8, 2)
    *_, ours = dpm_solver(mixture, x, levels, {})
    state = torch.from_numpy(x / np.sqrt(1 + float(levels.sigma[0]) ** 2))
    for index, timestep in enumerate(theirs.timesteps):
        level = levels[index].batch(8)
        scale = np.sqrt(1 + level.sigma[:, None] ** 2)
        estimate = mixture.denoise(state.numpy() * scale, level)
        state = theirs.step(torch.from_numpy(estimate), timestep, state).prev_sample
    np.testing.assert_allclose(ours.x, state.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("path", [Linear(), Trig()], ids=["linear", "trig"])
def test_from_pure_noise_the_first_two_steps_are_eulers(path: NoisePath) -> None:
    oracle, levels = Gaussian(0.2, 0.6), uniform(path, 6)
    x = float(levels.sigma[0]) * normal(4, 3)
    ours, theirs = (list(sampler(oracle, x, levels, {})) for sampler in (dpm_solver, euler))
    for first, second in zip(ours[:2], theirs[:2], strict=True):
        np.testing.assert_allclose(first.x, second.x, atol=1e-12)
    assert all(np.isfinite(jump.x).all() for jump in ours)


def test_it_is_nearer_to_the_flow_than_euler() -> None:
    mixture = Mixture.ring(targets=Targets.SAME)
    levels = from_ratios(np.geomspace(80.0, 0.02, 20))
    at, x = VE().level(80.0).batch(64), 80.0 * normal(64, 2)
    end = mixture.flow(x, at, levels[-1].batch(64))
    errors = [np.abs(list(sampler(mixture, x, levels, {}))[-1].x - end).mean() for sampler in (dpm_solver, euler)]
    assert errors[0] < 0.5 * errors[1]
