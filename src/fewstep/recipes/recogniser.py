"""The judge of emoji: trained on shifted, recoloured and restyled real glyphs, tested on held-out ones.

Budget: about six minutes on two CPU cores. `fewstep train recogniser --out DIR` writes DIR/recogniser.onnx and its
accuracies to DIR/recogniser.json; running the same command again resumes an interrupted training.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fewstep.data.emoji import Augmentation, Emoji
from fewstep.measure.judge_accuracy import judge_accuracy
from fewstep.measure.judges import Recogniser
from fewstep.measure.subjects import EmojiSubject
from fewstep.training.classification import RecogniserCheckpoints, RecogniserConfig, draw_pool, train_recogniser
from fewstep.training.classifier_export import export_recogniser
from fewstep.training.saving import resolved

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecogniserRecipe:
    """Settings of the recogniser and its training.

    Args:
        size: Side in pixels of the pictures to judge, a multiple of 8.
        augmentation: How glyphs are augmented in training: more strongly than in the training of the models to judge.
        training: Shape of the network and settings of its training.
        draws: Augmented test pictures per glyph.
    """

    size: int = 32
    augmentation: Augmentation = field(
        default_factory=lambda: Augmentation(shift=0.18, turn=18.0, shrink=0.5, still=0.25)
    )
    training: RecogniserConfig = field(default_factory=RecogniserConfig)
    draws: int = 2

    def run(self, out: Path) -> dict[str, Any]:
        """Train, export and test on held-out pictures; write and return the metrics."""
        started = time.monotonic()
        dataset = Emoji(self.size, self.augmentation)
        log.info("drawing %d glyphs %d times", len(dataset), self.training.draws)
        pool = draw_pool(dataset, self.training.draws, self.training.seed)
        drawn = time.monotonic()
        facts = json.loads(json.dumps(resolved(self, "recogniser")))
        network = train_recogniser(
            pool, len(dataset), self.training, RecogniserCheckpoints(out / "checkpoints", facts)
        )
        trained = time.monotonic()
        file = out / "recogniser.onnx"
        export_recogniser(network, dataset.captions, dataset.shape, file)
        figures = {
            **judge_accuracy(EmojiSubject(dataset, Recogniser(file)), self.draws),
            "parameters": sum(p.numel() for p in network.parameters()),
            "bytes": file.stat().st_size,
            "seconds": {"drawing": round(drawn - started, 1), "training": round(trained - drawn, 1)},
            "threads": torch.get_num_threads(),
            "recipe": facts,
        }
        shutil.rmtree(out / "checkpoints", ignore_errors=True)
        text = json.dumps(figures, indent=1, ensure_ascii=False)
        file.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
        log.info("%s", json.dumps({name: value for name, value in figures.items() if name != "recipe"}, indent=1))
        return figures
