"""The description and weights of a model that no engine could run: enough to write, read and damage."""

from __future__ import annotations

from typing import Any

import numpy as np

from fewstep.core.parameterisations import Edm, Targets
from fewstep.models.codecs import Identity
from fewstep.models.conditioning import Conditioning
from fewstep.models.saved import ModelSpec

WEIGHTS = {"w": np.arange(6, dtype=np.float16).reshape(2, 3), "b": np.float32([1.5])}


def spec(**values: Any) -> ModelSpec:
    defaults: dict[str, Any] = {
        "name": "points",
        "network": {"kind": "mlp", "config": {"dims": 2}},
        "parameterisation": Edm(),
        "targets": Targets.CLEAN,
        "conditioning": Conditioning(Identity()),
        "pixels": (2,),
        "pixel_format": "points",
        "sampler": "consistency",
        "steps": 1,
    }
    return ModelSpec(**{**defaults, **values})
