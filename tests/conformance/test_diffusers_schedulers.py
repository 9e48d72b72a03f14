"""fewstep's samplers and diffusers' schedulers step the same network from the same noise, state by state.

A pair of a scheduler and a sampler joins by one entry in `PAIRS`. Conventions that differ are mapped, not tolerated:

- Euler and Heun of diffusers hold x on the VE path's scale, SCM holds σd·x.
- DDIM without `set_alpha_to_one` and TCD end at the table's first level; the grid ends there too.
- TCD's η is a share of the timestep: its γ differs from step to step (`tcd_gammas`), so each step is a sampling of one.
- Heun of diffusers integrates over σ/α: `variable="ratio"`.
- DPM-Solver++ rounds the timesteps of Karras' σ before it asks the network, and not σ itself: asked at the timestep of
  its σ (`unrounded`), it agrees; as it is, the states differ by up to 8e-4 here.
- DDIM goes from t to t − ⌊1000/N⌋, which is its next timestep only for leading timesteps, and for trailing ones if N
  divides 1000; for others, and for linspaced ones, it leaves its own grid, and no solver of the flow can agree.
- DDIM with `clip_sample` goes on with the network's noise, not with the one that the clipped estimate implies: they
  agree with `use_clipped_model_output`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMapEulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchLCMScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    SCMScheduler,
    TCDScheduler,
)
from diffusers.schedulers import scheduling_flow_match_lcm, scheduling_lcm, scheduling_scm, scheduling_tcd
from torch import Tensor

from diffusers_parts import EXAMPLES, VP_SETTINGS, as_pipelines_call, conditions, network, start
from fewstep.core.jump import Jump
from fewstep.core.levels import Level
from fewstep.core.parameterisations import Parameterised
from fewstep.core.randomness import Noise
from fewstep.interop.diffusers.networks import estimator
from fewstep.interop.diffusers.timesteps import Timetable, tcd_gammas
from fewstep.samplers import consistency, dpm_solver, euler, flow_map, heun

# their own use of NumPy
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SEEDS = [3, 4]
NO_CLIP = {**VP_SETTINGS, "clip_sample": False}
ZERO_SNR = {**NO_CLIP, "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}

Sampling = Callable[[Parameterised, Tensor, Level, Mapping[str, Tensor], Noise, Timetable], Iterator[Jump]]


@dataclass(frozen=True)
class Pair:
    """A scheduler and the sampler that does the same.

    Args:
        scheduler: builds it.
        ours: the sampler.
        network: an example in `diffusers_parts`.
        steps: how many; each has its test.
        levels: options of `Timetable.levels`.
        options: the same for `set_timesteps`.
        scale: their x over ours, at a level.
        module: whose noise is replaced by ours.
        step: options of the scheduler's `step`.
        unrounded: whether their network is asked at the timestep of the level, where the scheduler rounds it.
    """

    scheduler: Callable[[], Any]
    ours: Sampling
    network: str = "sd"
    steps: tuple[int, ...] = (1, 2, 4, 8)
    levels: Callable[[int], Mapping[str, Any]] = lambda steps: {}
    options: Callable[[int], Mapping[str, Any]] = lambda steps: {}
    scale: Callable[[Level], Any] = lambda level: 1.0
    module: ModuleType | None = None
    step: Mapping[str, Any] = field(default_factory=dict)
    unrounded: bool = False


def _euler(model: Any, x: Any, levels: Level, cond: Any, noise: Noise, table: Timetable) -> Iterator[Jump]:
    return euler(model, x, levels, cond)


def _heun(model: Any, x: Any, levels: Level, cond: Any, noise: Noise, table: Timetable) -> Iterator[Jump]:
    return heun(model, x, levels, cond, variable="ratio")


def _dpm_solver(model: Any, x: Any, levels: Level, cond: Any, noise: Noise, table: Timetable) -> Iterator[Jump]:
    return dpm_solver(model, x, levels, cond)


def _consistency(model: Any, x: Any, levels: Level, cond: Any, noise: Noise, table: Timetable) -> Iterator[Jump]:
    return consistency(model, x, levels, cond, noise)


def _flow_map(model: Any, x: Any, levels: Level, cond: Any, noise: Noise, table: Timetable) -> Iterator[Jump]:
    return flow_map(model, x, levels, cond)


def _tcd(eta: float) -> Sampling:
    def run(model: Any, x: Any, levels: Level, cond: Any, noise: Noise, table: Timetable) -> Iterator[Jump]:
        for i, gamma in enumerate(tcd_gammas(table, levels, eta)):
            (jump,) = flow_map(model, x, levels[i : i + 2], cond, lambda _, i=i: noise(i + 1), gamma)
            x = jump.x
            yield jump

    return run


def _flux_sigmas(steps: int) -> dict[str, Any]:
    return {"sigmas": np.linspace(1.0, 1 / steps, steps)}


def _ve(level: Level) -> Any:
    return 1 / level.alpha


DYNAMIC = {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15}
MU_16, MU_64 = (0.5 + 0.65 * (tokens - 256) / (4096 - 256) for tokens in (16, 64))

PAIRS: Mapping[str, Pair] = {
    "ddim, leading as in SD 1.5": Pair(
        lambda: DDIMScheduler(**NO_CLIP, steps_offset=1, set_alpha_to_one=False, timestep_spacing="leading"), _euler,
        steps=(2, 4, 8),
    ),
    "ddim, trailing": Pair(lambda: DDIMScheduler(**NO_CLIP, timestep_spacing="trailing"), _euler),
    "ddim, v with zero SNR": Pair(lambda: DDIMScheduler(**ZERO_SNR, timestep_spacing="trailing"), _euler),
    "ddim, x0": Pair(lambda: DDIMScheduler(**NO_CLIP, prediction_type="sample", timestep_spacing="trailing"), _euler, steps=(1, 4)),
    "ddim, clipped pixels": Pair(
        lambda: DDIMScheduler(**{**NO_CLIP, "clip_sample": True}, timestep_spacing="trailing"), _euler, "unet", step={"use_clipped_model_output": True}
    ),
    "ddim, classes": Pair(lambda: DDIMScheduler(**NO_CLIP), _euler, "unet_of_classes", steps=(2,)),
    "ddim, LCM's network": Pair(lambda: DDIMScheduler(**NO_CLIP), _euler, "lcm", steps=(2,)),
    "ddim, SDXL": Pair(lambda: DDIMScheduler(**NO_CLIP), _euler, "sdxl", steps=(2,)),
    "ddim, DiT": Pair(lambda: DDIMScheduler(**NO_CLIP), _euler, "dit", steps=(2,)),
    "ddim, PixArt": Pair(lambda: DDIMScheduler(**NO_CLIP), _euler, "pixart", steps=(2,)),
    "ddim, PixArt with sizes": Pair(lambda: DDIMScheduler(**NO_CLIP), _euler, "pixart_of_sizes", steps=(2,)),
    "euler, leading as in SDXL": Pair(
        lambda: EulerDiscreteScheduler(**VP_SETTINGS, steps_offset=1, timestep_spacing="leading"), _euler, "sdxl", scale=_ve,
        steps=(2, 4, 8),
    ),
    "euler, trailing": Pair(
        lambda: EulerDiscreteScheduler(**VP_SETTINGS, timestep_spacing="trailing"), _euler, scale=_ve
    ),
    "euler, linspace": Pair(lambda: EulerDiscreteScheduler(**VP_SETTINGS), _euler, scale=_ve, steps=(2, 4, 8)),
    "euler, Karras": Pair(lambda: EulerDiscreteScheduler(**VP_SETTINGS, use_karras_sigmas=True), _euler, scale=_ve, steps=(2, 4, 8)),
    "euler, v": Pair(
        lambda: EulerDiscreteScheduler(**VP_SETTINGS, prediction_type="v_prediction"), _euler, scale=_ve, steps=(2,)
    ),
    "heun": Pair(lambda: HeunDiscreteScheduler(**VP_SETTINGS, timestep_spacing="trailing"), _heun, scale=_ve),
    "dpm-solver++ 2m": Pair(
        lambda: DPMSolverMultistepScheduler(**VP_SETTINGS, timestep_spacing="trailing"), _dpm_solver
    ),
    "dpm-solver++ 2m, Karras": Pair(
        lambda: DPMSolverMultistepScheduler(**VP_SETTINGS, use_karras_sigmas=True), _dpm_solver, unrounded=True, steps=(2, 4, 8)
    ),
    "dpm-solver++ 2m, flow as in Sana": Pair(
        lambda: DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
        _dpm_solver,
        "sana",
    ),
    "lcm": Pair(
        lambda: LCMScheduler(**NO_CLIP, original_inference_steps=50), _consistency, "lcm", module=scheduling_lcm
    ),
    "lcm, v": Pair(
        lambda: LCMScheduler(**NO_CLIP, prediction_type="v_prediction"), _consistency, module=scheduling_lcm, steps=(1, 4)
    ),
    "tcd, η 0": Pair(
        lambda: TCDScheduler(**NO_CLIP), _tcd(0.0), module=scheduling_tcd, step={"eta": 0.0}
    ),
    "tcd, η 0.3": Pair(
        lambda: TCDScheduler(**NO_CLIP), _tcd(0.3), "sdxl", module=scheduling_tcd, step={"eta": 0.3}
    ),
    "tcd, η 1": Pair(
        lambda: TCDScheduler(**NO_CLIP), _tcd(1.0), module=scheduling_tcd, step={"eta": 1.0}
    ),
    "flow match euler, SD3": Pair(lambda: FlowMatchEulerDiscreteScheduler(shift=3.0), _euler, "sd3"),
    "flow match euler, schnell": Pair(
        lambda: FlowMatchEulerDiscreteScheduler(), _euler, "flux", levels=_flux_sigmas, options=_flux_sigmas, steps=(1, 4)
    ),
    "flow match euler, Flux with dynamic shift": Pair(
        lambda: FlowMatchEulerDiscreteScheduler(shift=3.0, **DYNAMIC), _euler, "flux_of_guidance",
        levels=lambda steps: {**_flux_sigmas(steps), "tokens": 16}, options=lambda steps: {**_flux_sigmas(steps), "mu": MU_16},
    ),
    "flow match euler, linear dynamic shift to a terminal": Pair(
        lambda: FlowMatchEulerDiscreteScheduler(**DYNAMIC, time_shift_type="linear", shift_terminal=0.02), _euler, "sana",
        steps=(2, 4), levels=lambda steps: {"tokens": 64}, options=lambda steps: {"mu": MU_64},
    ),
    "flow match euler, FLUX.3": Pair(lambda: FlowMatchEulerDiscreteScheduler(shift=6.93), _euler, "flux3", steps=(1, 4)),
    "flow match lcm": Pair(
        lambda: FlowMatchLCMScheduler(shift=3.0), _consistency, "sd3", module=scheduling_flow_match_lcm
    ),
    "flow map euler": Pair(lambda: FlowMapEulerDiscreteScheduler(shift=5.0), _flow_map, "flux3_flow_map"),
    "scm": Pair(
        lambda: SCMScheduler(), _consistency, "sana_sprint", module=scheduling_scm, scale=lambda level: 0.5,
        options=lambda steps: {} if steps == 2 else {"intermediate_timesteps": None},
    ),
}  # fmt: skip


net = cache(network)


def test_every_network_is_stepped_by_a_scheduler() -> None:
    assert {pair.network for pair in PAIRS.values()} == set(EXAMPLES)


def _theirs(pair: Pair, steps: int, noise: Noise, monkeypatch: pytest.MonkeyPatch, cond: Any) -> list[Tensor]:
    """Their states [b, c, h, w]: the start, and one after each time that the network was asked."""
    scheduler = pair.scheduler()
    scheduler.set_timesteps(steps, **pair.options(steps))
    draws = iter(range(1, steps + 1))
    if pair.module is not None:
        monkeypatch.setattr(pair.module, "randn_tensor", lambda *args, **kwargs: noise(next(draws)))
    trig = scheduler.config.sigma_data if isinstance(scheduler, SCMScheduler) else None
    times = [float(t) for t in scheduler.timesteps][: -1 if trig else None]
    states = [start(pair.network) * float(getattr(scheduler, "init_noise_sigma", 1.0)) * (trig or 1.0)]
    asked_at = times
    if pair.unrounded:
        table = Timetable.of(scheduler)
        asked_at = [float(t) for t in table.timestep(table.levels(steps))]
    for i, t in enumerate(scheduler.timesteps[: len(times)]):
        x = states[-1]
        scale = getattr(scheduler, "scale_model_input", lambda x, t: x)
        inner = x / trig if trig else scale(x, t)
        to = {"to": torch.tensor([*times, 0.0][i + 1])} if pair.network == "flux3_flow_map" else {}
        output = as_pipelines_call(pair.network, net(pair.network), inner, asked_at[i], {**cond, **to})
        states.append(scheduler.step(output * (trig or 1.0), t, x, **pair.step).prev_sample)
    return [*states[:-1:2], states[-1]] if isinstance(scheduler, HeunDiscreteScheduler) else states


CASES = [(name, steps) for name, pair in PAIRS.items() for steps in pair.steps]


@pytest.mark.parametrize(("name", "steps"), CASES)
def test_both_go_through_the_same_states(name: str, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = PAIRS[name]
    cond = conditions(pair.network, 2)
    noise = Noise(SEEDS, EXAMPLES[pair.network].shape, start(pair.network))
    table = Timetable.of(pair.scheduler())
    levels = table.levels(steps, **pair.levels(steps))
    model = estimator(net(pair.network), table)
    with torch.no_grad():
        states = _theirs(pair, steps, noise, monkeypatch, cond)
        jumps = list(pair.ours(model, states[0] / float(pair.scale(levels[0])), levels, cond, noise, table))
    assert len(jumps) == len(states) - 1 == steps
    differences = []
    for jump, state in zip(jumps, states[1:], strict=True):
        theirs = state / float(pair.scale(jump.to[0]))
        differences.append(float((jump.x - theirs).abs().max() / theirs.abs().max().clip(1.0)))
    print(f"{name}, {steps} steps: {max(differences):.1e}")
    assert max(differences) < 1e-4
