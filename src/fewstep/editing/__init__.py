"""Zero-shot editing: constraints on the data estimate between jumps, and starting points other than pure noise."""

from fewstep.editing.constraints import Constrained, Constraint, Known, Measurement
from fewstep.editing.fitting import Fitted
from fewstep.editing.projections import BlockMeans, Grey, Projected
from fewstep.editing.starts import grid_from, level_of

__all__ = [
    "BlockMeans",
    "Constrained",
    "Constraint",
    "Fitted",
    "Grey",
    "Known",
    "Measurement",
    "Projected",
    "grid_from",
    "level_of",
]
