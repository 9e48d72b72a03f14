"""The description and weights of a model that no engine could run: enough to write, read and damage."""

from __future__ import annotations

from typing import Any

import numpy as np

from fewstep.core.parameterisations import Edm, Targets
from fewstep.models.codecs import Identity
from fewstep.models.components import components
from fewstep.models.conditioning import Conditioning
from fewstep.models.spec import ModelSpec

WEIGHTS = {"w": np.arange(6, dtype=np.float16).reshape(2, 3), "b": np.float32([1.5])}


NETWORK: dict[str, Any] = {"kind": "mlp", "config": {"dims": 2}}


def spec(conditioning: Conditioning | None = None, **values: Any) -> ModelSpec:
    """Of points in the plane; `values` are fields of ModelSpec."""
    defaults: dict[str, Any] = {
        "name": "points",
        "components": components(NETWORK, conditioning or Conditioning(Identity())),
        "parameterisation": Edm(),
        "targets": Targets.CLEAN,
        "pixels": (2,),
        "pixel_format": "points",
        "sampler": "consistency",
        "steps": 1,
    }
    return ModelSpec(**{**defaults, **values})
