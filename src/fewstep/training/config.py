"""The settings of a training run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args

from fewstep.core.checks import check_choice
from fewstep.training.calling import Precision
from fewstep.training.ema import EmaConfig
from fewstep.training.optimizers import OptimizerConfig


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how a network is trained.

    Args:
        images: Training images in all.
        batch: Images in a micro-batch of each process.
        accumulate: Micro-batches per optimiser step.
        precision: Precision of the network's arithmetic; weights, losses and averages are float32. auto is bf16 on
            GPUs, and on CPUs that multiply it fast, else float32.
        clip: Largest norm of each network's gradient; inf for no clipping.
        seed: Random seed.
        optimizer: Optimiser of all trained networks.
        optimizers: Optimisers that override it for networks by name: "student", or a module of the objective.
        ema: Moving average of the weights, which is what is saved.
        checkpoint_every: Steps between checkpoints; 0 for none but the last.
        preview_every: Steps between previews; 0 for none but the last.
        log_every: Steps between reports; 0 for none but the last.
        keep: Number of checkpoints to keep.
        channels_last: Whether to use the channels-last memory format, which is faster on CPUs and GPUs.
        workers: Processes that load batches, if a GPU has to wait for them; 0 for a thread.
        graphs: Whether to run the network as a CUDA graph, which is several times as fast for small networks. Not for
            objectives that use forward-mode derivatives or call the student twice in a step.
    """

    images: int
    batch: int = 64
    accumulate: int = 1
    precision: Precision = "float32"
    clip: float = 1.0
    seed: int = 0
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    optimizers: Mapping[str, OptimizerConfig] = field(default_factory=dict)
    ema: EmaConfig = field(default_factory=EmaConfig)
    checkpoint_every: int = 500
    preview_every: int = 0
    log_every: int = 50
    keep: int = 3
    channels_last: bool = True
    workers: int = 0
    graphs: bool = False

    def __post_init__(self) -> None:
        for name in ("images", "batch", "accumulate", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.workers < 0:
            raise ValueError(f"workers must be at least 0, got {self.workers}")
        if self.graphs and self.accumulate > 1:
            raise ValueError("graphs and accumulate exclude each other: a graph writes each gradient over the last")
        check_choice("precision", self.precision, *get_args(Precision))
        if not self.clip > 0:
            raise ValueError(f"clip must be above 0 (inf for no clipping), got {self.clip}")

    def steps(self, world: int) -> int:
        """Total number of optimiser steps."""
        return max(1, math.ceil(self.images / (self.batch * self.accumulate * world)))
