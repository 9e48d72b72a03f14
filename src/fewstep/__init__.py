"""Image generation in one to four steps: train it, distil it, measure it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fewstep.engines.errors import EngineError
    from fewstep.generation import Edit, GeneratedImage, Model, Request, RequestError, Step, load
    from fewstep.models.parts import ModelError
    from fewstep.pictures import Record

__version__ = "0.1.0"
__all__ = [
    "Edit",
    "EngineError",
    "GeneratedImage",
    "Model",
    "ModelError",
    "Record",
    "Request",
    "RequestError",
    "Step",
    "__version__",
    "load",
]

_PLACES = {"EngineError": "engines.errors", "ModelError": "models.parts", "Record": "pictures"}


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used: `import fewstep` itself costs nothing."""
    if name in __all__:
        return getattr(import_module(f"fewstep.{_PLACES.get(name, 'generation')}"), name)
    raise AttributeError(f"module 'fewstep' has no attribute '{name}'")
