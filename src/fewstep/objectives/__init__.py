"""Training objectives, one file each, named by what the field calls them."""

from fewstep.objectives.consistency_distillation import ConsistencyDistillation
from fewstep.objectives.consistency_training import ConsistencyTraining
from fewstep.objectives.diffusion import Diffusion
from fewstep.objectives.easy_consistency import EasyConsistency
from fewstep.objectives.flow_matching import FlowMatching
from fewstep.objectives.objective import Batch, Loss, Objective

__all__ = [
    "Batch",
    "ConsistencyDistillation",
    "ConsistencyTraining",
    "Diffusion",
    "EasyConsistency",
    "FlowMatching",
    "Loss",
    "Objective",
]
