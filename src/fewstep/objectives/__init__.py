"""Training objectives, one file each, under their usual names."""

from fewstep.objectives.consistency_distillation import ConsistencyDistillation
from fewstep.objectives.consistency_training import ConsistencyTraining
from fewstep.objectives.continuous_consistency import ContinuousConsistency
from fewstep.objectives.diffusion import Diffusion
from fewstep.objectives.distribution_matching import DistributionMatching
from fewstep.objectives.easy_consistency import EasyConsistency
from fewstep.objectives.flow_map_distillation import FlowMapDistillation
from fewstep.objectives.flow_map_distribution_matching import FlowMapDistributionMatching
from fewstep.objectives.flow_matching import FlowMatching
from fewstep.objectives.learned_guidance import LearnedGuidance
from fewstep.objectives.mean_flow import MeanFlow
from fewstep.objectives.objective import Batch, Loss, Objective, Step, mean_loss, noised
from fewstep.objectives.shortcut import Shortcut
from fewstep.objectives.truncated_consistency import TruncatedConsistency

__all__ = [
    "Batch",
    "ConsistencyDistillation",
    "ConsistencyTraining",
    "ContinuousConsistency",
    "Diffusion",
    "DistributionMatching",
    "EasyConsistency",
    "FlowMapDistillation",
    "FlowMapDistributionMatching",
    "FlowMatching",
    "LearnedGuidance",
    "Loss",
    "MeanFlow",
    "Objective",
    "Shortcut",
    "Step",
    "TruncatedConsistency",
    "mean_loss",
    "noised",
]
