"""The judges of emoji and of stickers: trained on moved and recoloured real pictures, tested on held-out ones.

`fewstep train recogniser --out DIR` writes DIR/recogniser.onnx and its accuracies to DIR/recogniser.json; running the
same command again resumes an interrupted training.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fewstep.data.emoji import Augmentation, Emoji
from fewstep.data.stickers import Stickers, Variation
from fewstep.measure.judge_accuracy import judge_accuracy, sticker_judge_accuracy
from fewstep.measure.judges import Recogniser
from fewstep.measure.subjects import EmojiSubject, StickersSubject
from fewstep.training.classification import (
    Pool,
    RecogniserCheckpoints,
    RecogniserConfig,
    draw_pool,
    draw_sticker_pool,
    train_recogniser,
)
from fewstep.training.classifier_export import export_recogniser
from fewstep.training.saving import resolved

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecogniserRecipe:
    """Settings of the judge of emoji and its training: about six minutes on two CPU cores.

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
        dataset = Emoji(self.size, self.augmentation)

        def draw() -> Pool:
            return draw_pool(dataset, self.training.draws, self.training.seed)

        def test(judge: Recogniser) -> dict[str, Any]:
            return judge_accuracy(EmojiSubject(dataset, judge), self.draws)

        return _trained(out, draw, dataset, self.training, resolved(self, "recogniser"), test)


@dataclass(frozen=True)
class StickersRecogniserRecipe:
    """Settings of the judge of stickers and its training: about forty minutes of one CPU core.

    Args:
        size: Side in pixels of the pictures to judge, a multiple of 8 times `training.pool`.
        packages: Folder with the artists' packages; None to have npm fetch them.
        variation: How drawings are augmented: more strongly than in the training of the models to judge.
        training: Shape of the network and settings of its training.
        draws: Augmented test pictures per drawing.
    """

    size: int = 128
    packages: Path | None = None
    variation: Variation = field(default_factory=lambda: Variation(shrink=0.3, shift=1.0, flip=0.0, colour=0.3))
    training: RecogniserConfig = field(
        default_factory=lambda: RecogniserConfig(
            widths=(48, 96, 160), features=160, pool=2, draws=6, images=360_000, batch=128
        )
    )
    draws: int = 1

    def run(self, out: Path) -> dict[str, Any]:
        """Train, export and test on held-out augmentations; write and return the metrics.

        Raises:
            DataError: a package is missing.
        """
        dataset = Stickers(self.size, self.variation, self.packages, held_out=0)

        def draw() -> Pool:
            return draw_sticker_pool(dataset, self.training.draws, self.training.seed, self.variation.colour)

        def test(judge: Recogniser) -> dict[str, Any]:
            return sticker_judge_accuracy(StickersSubject(dataset, judge), self.draws)

        return _trained(out, draw, dataset, self.training, resolved(self, "stickers-recogniser"), test)


def _trained(
    out: Path,
    draw: Callable[[], Pool],
    dataset: Emoji | Stickers,
    config: RecogniserConfig,
    facts: Mapping[str, Any],
    test: Callable[[Recogniser], dict[str, Any]],
) -> dict[str, Any]:
    """Draw the training pictures, train, export and test a judge in `out`; write and return the metrics."""
    log.info("drawing %d pictures %d times", len(dataset), config.draws)
    started = time.monotonic()
    pool = draw()
    drawn = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    plain = json.loads(json.dumps(facts))
    kept = RecogniserCheckpoints(out / "checkpoints", plain)
    network = train_recogniser(pool, len(dataset.captions), config, kept)
    trained = time.monotonic()
    file = out / "recogniser.onnx"
    export_recogniser(network, dataset.captions, dataset.shape, file, pool.style_words)
    figures = {
        **test(Recogniser(file)),
        "parameters": sum(p.numel() for p in network.parameters()),
        "bytes": file.stat().st_size,
        "seconds": {"drawing": round(drawn - started, 1), "training": round(trained - drawn, 1)},
        "threads": torch.get_num_threads(),
        "recipe": plain,
    }
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    text = json.dumps(figures, indent=1, ensure_ascii=False)
    file.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    log.info("%s", json.dumps({name: value for name, value in figures.items() if name != "recipe"}, indent=1))
    return figures
