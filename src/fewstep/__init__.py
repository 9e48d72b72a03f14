"""Image generation in one to four steps: train it, distil it, measure it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fewstep.generation import Edit, Model, Request, load

__version__ = "0.1.0"
__all__ = ["Edit", "Model", "Request", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used: `import fewstep` itself costs nothing."""
    if name in {"Edit", "Model", "Request", "load"}:
        from fewstep import generation

        return getattr(generation, name)
    raise AttributeError(f"module 'fewstep' has no attribute '{name}'")
