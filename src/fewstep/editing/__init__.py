"""Zero-shot editing: constraints on the data estimate between jumps, and starts other than pure noise."""

from fewstep.editing.constraints import Constrained, Constraint, Known
from fewstep.editing.starts import grid_from, level_of

__all__ = ["Constrained", "Constraint", "Known", "grid_from", "level_of"]
