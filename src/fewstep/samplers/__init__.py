"""Samplers: generators of jumps, one file each. `SAMPLERS` names them."""

from collections.abc import Callable, Iterator

from fewstep.core.jump import Jump
from fewstep.samplers.consistency import consistency
from fewstep.samplers.euler import euler
from fewstep.samplers.heun import heun

SAMPLERS: dict[str, Callable[..., Iterator[Jump]]] = {"consistency": consistency, "euler": euler, "heun": heun}

__all__ = ["SAMPLERS", "consistency", "euler", "heun"]
