"""Samplers: generators of jumps, one file each. `SAMPLERS` names them, `NEEDS` what each needs of a model."""

from collections.abc import Callable, Iterator

from fewstep.core.jump import Jump
from fewstep.core.parameterisations import Targets
from fewstep.samplers.consistency import consistency
from fewstep.samplers.euler import euler
from fewstep.samplers.heun import heun

SAMPLERS: dict[str, Callable[..., Iterator[Jump]]] = {"consistency": consistency, "euler": euler, "heun": heun}
NEEDS: dict[str, Targets] = {"consistency": Targets.CLEAN, "euler": Targets.SAME, "heun": Targets.SAME}

__all__ = ["NEEDS", "SAMPLERS", "consistency", "euler", "heun"]
