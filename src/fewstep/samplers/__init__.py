"""Samplers: generators of jumps, one per file. `SAMPLERS` holds them by name."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from fewstep.core.jump import Jump
from fewstep.core.parameterisations import Targets
from fewstep.samplers.consistency import consistency
from fewstep.samplers.dpm_solver import dpm_solver
from fewstep.samplers.euler import euler
from fewstep.samplers.flow_map import flow_map
from fewstep.samplers.heun import heun

ddim = euler
"""DDIM (2010.02502) with η = 0, which is the same loop."""


@dataclass(frozen=True)
class Sampler:
    """A sampler and its requirements.

    Args:
        run: the generator, called with an estimator, x, levels and conditions.
        needs: the jumps that the model must support.
        gamma: the default share of fresh noise; None for a sampler that takes no fresh noise.
    """

    run: Callable[..., Iterator[Jump]]
    needs: Targets
    gamma: float | None = None


SAMPLERS: Mapping[str, Sampler] = {
    "consistency": Sampler(consistency, Targets.CLEAN, gamma=1.0),
    "ddim": Sampler(ddim, Targets.SAME),
    "dpm_solver": Sampler(dpm_solver, Targets.SAME),
    "euler": Sampler(euler, Targets.SAME),
    "flow_map": Sampler(flow_map, Targets.ANY, gamma=0.0),
    "heun": Sampler(heun, Targets.SAME),
}

__all__ = ["SAMPLERS", "Sampler", "consistency", "ddim", "dpm_solver", "euler", "flow_map", "heun"]
