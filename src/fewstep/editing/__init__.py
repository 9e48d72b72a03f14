"""Zero-shot editing: constraints on the data estimate between jumps, and starts other than pure noise."""

from fewstep.editing.constraints import Constrained, Constraint, Known
from fewstep.editing.fitting import Fitted
from fewstep.editing.starts import grid_from, level_of

__all__ = ["Constrained", "Constraint", "Fitted", "Known", "grid_from", "level_of"]
