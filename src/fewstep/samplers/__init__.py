"""Samplers: generators of jumps, one file each. `SAMPLERS` names them."""

from fewstep.samplers.consistency import consistency
from fewstep.samplers.euler import euler
from fewstep.samplers.heun import heun

SAMPLERS = {"consistency": consistency, "euler": euler, "heun": heun}

__all__ = ["SAMPLERS", "consistency", "euler", "heun"]
