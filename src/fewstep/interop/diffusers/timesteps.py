"""A diffusers scheduler's timesteps as levels, and what its network predicts.

Three kinds of table are known: variance preserving ones (ᾱ_t of the betas, DDPM 2006.11239, rescaled to a zero
terminal SNR where the scheduler says so, 2305.08891), flow matching's σ = t/1000 with its static or dynamic shift
(2403.03206 §3.1), and TrigFlow's t ∈ [0, π/2] (2410.11081). Which levels N steps visit is asked of the scheduler
itself, so every spacing that it has is had here.

A scheduler joins by one entry in `SCHEDULERS`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fewstep.core.arrays import Array, ArrayLike, ArrayT, per_sample
from fewstep.core.checks import check_share
from fewstep.core.grids import check_steps
from fewstep.core.levels import CLEAN, VP, Level, Linear, Path, Trig, from_ratio, place
from fewstep.core.parameterisations import Clipped, Data, Epsilon, Lcm, Parameterisation, Targets, V, Velocity
from fewstep.models.parts import ModelError

ZERO_SNR = 1e-12
"""ᾱ that stands for 0 in a table with a zero terminal SNR: α = 1e-6, below float32's rounding of x."""

_PREDICTIONS: dict[str, Callable[[VP], Parameterisation]] = {"epsilon": Epsilon, "v_prediction": V, "sample": Data}


@dataclass(frozen=True)
class SchedulerKind:
    """What is to be known about a scheduler class.

    Args:
        grid: from a scheduler whose timesteps are set, and its path, to the levels that it visits.
        flow: whether its path is the linear one, always.
        targets: to which level models sampled with it jump.
        path: of a scheduler with a path of its own; None for a VP table, or the linear path.
        boundary: whether its estimates have the boundary of latent consistency models.
        settings: of the scheduler that is asked for its grid.
        starts_at_sigma: whether it starts with σ·noise unless its timesteps are leading; others start with the noise.
    """

    grid: Callable[[Any, Path], Level]
    flow: bool = False
    targets: Targets = Targets.SAME
    path: Path | None = None
    boundary: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    starts_at_sigma: bool = False


@dataclass(frozen=True)
class Timetable:
    """A scheduler's table: its timesteps as levels and back, its grids, and its network's parameterisation.

    Args:
        scheduler: a diffusers scheduler, which is never stepped or changed.
        path: its noise path.
        kind: what its class is known for.
    """

    scheduler: Any
    path: Path
    kind: SchedulerKind

    @classmethod
    def of(cls, scheduler: Any) -> Timetable:
        """The table of a diffusers scheduler.

        Raises:
            ModelError: its class, its prediction or one of its settings is not supported.
        """
        name = type(scheduler).__name__
        if name not in SCHEDULERS:
            raise ModelError(f"the scheduler {name} is not supported: use one of {', '.join(sorted(SCHEDULERS))}")
        if scheduler.config.get("thresholding"):
            raise ModelError(f"the scheduler {name} has dynamic thresholding, which is not supported: turn it off")
        if scheduler.config.get("invert_sigmas"):
            raise ModelError(f"the scheduler {name} has inverted sigmas, which are not supported: turn them off")
        kind = SCHEDULERS[name]
        if kind.path is not None:
            return cls(scheduler, kind.path, kind)
        if kind.flow or scheduler.config.get("use_flow_sigmas"):
            return cls(scheduler, Linear(), kind)
        prediction = scheduler.config.prediction_type
        if prediction not in _PREDICTIONS:
            allowed = ", ".join(_PREDICTIONS)
            raise ModelError(f"the scheduler {name} predicts '{prediction}', which is not supported: use {allowed}")
        return cls(scheduler, _table(scheduler.alphas_cumprod), kind)

    @property
    def targets(self) -> Targets:
        """To which level models jump that are sampled with this scheduler: clean for LCM and SCM."""
        return self.kind.targets

    def level(self, timesteps: ArrayLike) -> Level:
        """The levels of these timesteps of the scheduler: 0 … 999 whole or between, or 0 … π/2 for TrigFlow's."""
        return self.path.level(np.asarray(timesteps, dtype=np.float64) / self._unit)

    def timestep(self, level: Level) -> Array:
        """The scheduler's timestep of any level, whatever its scale: the inverse of `level`."""
        return self.path.time(level) * self._unit

    @property
    def _unit(self) -> float:
        return float(self.scheduler.config.num_train_timesteps) if isinstance(self.path, Linear) else 1.0

    def levels(self, steps: int, tokens: int | None = None, sigmas: Sequence[float] | None = None) -> Level:
        """The levels that the scheduler visits in so many steps, and where it ends: N + 1 of them, float64 NumPy.

        The end is clean, or what the scheduler's settings make of it: DDIM without `set_alpha_to_one` ends at the
        table's first level, and so does TCD.

        Args:
            steps: N.
            tokens: of one image in the transformer: what a dynamic shift depends on.
            sigmas: σ of the N steps before the shift, where the pipeline gives them and not the scheduler (Flux).

        Raises:
            ValueError: steps are not possible with this scheduler, one step would begin at the clean end of the table
                (leading and linspaced timesteps), or `tokens` are missing.
        """
        check_steps(steps)
        # a scheduler of its own: the caller's may be at work
        own = type(self.scheduler).from_config(self.scheduler.config, **self.kind.settings)
        options: dict[str, Any] = {} if sigmas is None else {"sigmas": list(sigmas)}
        if own.config.get("use_dynamic_shifting"):
            if tokens is None:
                raise ValueError("the shift of this scheduler depends on the size of the image, which was not given")
            options["mu"] = dynamic_shift(tokens, own.config)
        if "intermediate_timesteps" in inspect.signature(own.set_timesteps).parameters and steps != 2:
            options["intermediate_timesteps"] = None
        own.set_timesteps(steps, **options)
        levels = self.kind.grid(own, self.path)
        if levels.ratio[0] < 1:
            raise ValueError(
                f"{steps} step of this scheduler begins at σ/α = {levels.ratio[0]:.2g}, where hardly any noise is: "
                "set its timestep_spacing to 'trailing', or take a grid of fewstep.core.grids on the table's path"
            )
        return levels

    def start(self, noise: ArrayT, first: Level) -> ArrayT:
        """The state [b, ...] at the first level that diffusers begins with: to draw what its pipelines draw.

        Most schedulers with a VP table begin with the noise itself, where fewstep begins with σ·noise and σ < 1; the
        difference grows the further from the noisy end the first timestep is.

        Args:
            noise: standard normal [b, ...].
            first: the first level of `levels`, [].
        """
        at_sigma = self.kind.starts_at_sigma and self.scheduler.config.timestep_spacing != "leading"
        return per_sample(first.sigma, noise) * noise if at_sigma else noise

    def parameterisation(self, time_scale: float = 1.0, clip: bool = True) -> Parameterisation:
        """How the output of this scheduler's network becomes a data estimate.

        Args:
            time_scale: what a flow network multiplies t ∈ [0, 1] with; networks on a VP table take its timesteps.
            clip: whether to clip estimates where the scheduler clips them (`clip_sample`).
        """
        settings = self.scheduler.config
        if not isinstance(self.path, VP):
            return Velocity(time_scale)
        inner = _PREDICTIONS[settings.prediction_type](self.path)
        if clip and settings.get("clip_sample"):
            inner = Clipped(inner, settings.get("clip_sample_range", 1.0))
        return Lcm(inner, timestep_scaling=settings.timestep_scaling) if self.kind.boundary else inner


def dynamic_shift(tokens: int, settings: Mapping[str, Any]) -> float:
    """μ of a shift that grows with the image (2403.03206 §5.3.2): on a line through two sizes in tokens."""
    low, high = settings.get("base_image_seq_len", 256), settings.get("max_image_seq_len", 4096)
    base, most = settings.get("base_shift", 0.5), settings.get("max_shift", 1.15)
    return float(base + (most - base) * (tokens - low) / (high - low))


def tcd_gammas(timetable: Timetable, levels: Level, eta: float) -> list[float]:
    """γ of each jump of `fewstep.samplers.flow_map` that is TCD's step with η (2402.19159 §3.3).

    TCD jumps to the timestep s = ⌊(1 − η)·t'⌋ and adds noise up to t', so that γ² = 1 − (α'·σ_s/(α_s·σ'))². The last
    jump takes none.

    Args:
        timetable: with a VP table.
        levels: N + 1 levels of `Timetable.levels`, [N + 1].
        eta: the share of the time, in [0, 1].
    """
    check_share("eta", eta)
    visited = levels[1:-1]
    # whole again after the way through the level, before the floor
    times = np.round(np.asarray(timetable.timestep(visited)), 6)
    reached = timetable.level(np.floor((1 - eta) * times))
    kept = np.asarray(reached.ratio) / np.asarray(visited.ratio)
    return [*np.sqrt(np.maximum(1 - kept**2, 0.0)).tolist(), 0.0]


def _table(alphas_cumprod: Any) -> VP:
    """The path of a table of ᾱ."""
    kept = np.maximum(np.asarray(alphas_cumprod.double().cpu()), ZERO_SNR)
    return VP(tuple((1 - kept / np.append(1.0, kept[:-1])).tolist()))


def _visited(scheduler: Any) -> Any:
    """The timesteps, each once: some schedulers evaluate the network twice at one."""
    return np.unique(scheduler.timesteps.double().cpu().numpy())[::-1]


def _append(levels: Level, end: Level) -> Level:
    ends = (levels.alpha, end.alpha), (levels.sigma, end.sigma)
    return Level(*(np.append(np.asarray(part), np.asarray(last)) for part, last in ends))


def _to_clean(scheduler: Any, path: Path) -> Level:
    return _append(path.level(_visited(scheduler)), CLEAN)


def _to_first(scheduler: Any, path: Path) -> Level:
    return _append(path.level(_visited(scheduler)), path.level(0.0))


def _to_final_alpha(scheduler: Any, path: Path) -> Level:
    """DDIM's end, which is clean or the table's first level, as `set_alpha_to_one` says."""
    final = np.float64(scheduler.final_alpha_cumprod)
    return _append(path.level(_visited(scheduler)), Level(np.sqrt(final), np.sqrt(1 - final)))


def _sigmas(scheduler: Any, path: Path) -> Level:
    """Of schedulers that have `sigmas`: σ/α on a VP table, t on the linear path; each once, in falling order."""
    sigmas = np.unique(scheduler.sigmas.double().cpu().numpy())[::-1]
    return Level(1 - sigmas, sigmas) if isinstance(path, Linear) else place(from_ratio(sigmas), path)


def _times(scheduler: Any, path: Path) -> Level:
    return path.level(scheduler.timesteps.double().cpu().numpy())


_FLOW = SchedulerKind(_sigmas, flow=True)
_BY_SIGMA = SchedulerKind(_sigmas)
_VE = SchedulerKind(_sigmas, starts_at_sigma=True)

SCHEDULERS: Mapping[str, SchedulerKind] = {
    "DDIMScheduler": SchedulerKind(_to_final_alpha),
    "DDPMScheduler": SchedulerKind(_to_clean),
    "DEISMultistepScheduler": _BY_SIGMA,
    "DPMSolverMultistepScheduler": _BY_SIGMA,
    "DPMSolverSinglestepScheduler": _BY_SIGMA,
    "EulerAncestralDiscreteScheduler": _VE,
    "EulerDiscreteScheduler": _VE,
    "FlowMapEulerDiscreteScheduler": _FLOW,
    "FlowMatchEulerDiscreteScheduler": _FLOW,
    "FlowMatchHeunDiscreteScheduler": _FLOW,
    "FlowMatchLCMScheduler": SchedulerKind(_sigmas, flow=True, targets=Targets.CLEAN),
    "HeunDiscreteScheduler": _VE,
    "LCMScheduler": SchedulerKind(_to_clean, targets=Targets.CLEAN, boundary=True),
    "LMSDiscreteScheduler": _VE,
    # its Runge-Kutta steps ask the network between two timesteps, where no level is visited
    "PNDMScheduler": SchedulerKind(_to_final_alpha, settings={"skip_prk_steps": True}),
    # SCM's x has its data's deviation σd taken out: x/σd is on the path with σd = 1, where the network's data lie
    "SCMScheduler": SchedulerKind(_times, targets=Targets.CLEAN, path=Trig(1.0)),
    "TCDScheduler": SchedulerKind(_to_first, targets=Targets.ANY),
    "UniPCMultistepScheduler": _BY_SIGMA,
}
"""The supported schedulers by class."""
