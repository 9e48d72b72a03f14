"""A judge of twelve fruits, trained for seconds, and models that it can judge: fixtures of the root conftest."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fewstep.core.parameterisations import Targets
from fewstep.data.emoji import Emoji
from fewstep.generation import Model, load
from fewstep.measure.judges import Recogniser
from fewstep.measure.subjects import EmojiSubject
from fewstep.networks.recogniser import RecogniserNetwork
from fewstep.training.classification import RecogniserConfig, draw_pool, train_recogniser
from fewstep.training.classifier_export import export_recogniser
from judging import FONTS, few_emoji, tiny_model, write_few_emoji
from once import Once

CONFIG = RecogniserConfig(widths=(24, 32, 48), features=32, draws=20, images=6400, batch=64, lr=8e-3)


@pytest.fixture(scope="session")
def emoji(once: Once) -> Emoji:
    """Twelve fruits, 16 pixels a side."""
    if not FONTS:
        pytest.skip("needs Debian's fonts-noto-color-emoji, unicode-data and unicode-cldr-core")
    return few_emoji(once("emoji", write_few_emoji))


@pytest.fixture(scope="session")
def judge_folder(emoji: Emoji, once: Once) -> Path:
    """A judge trained for a few seconds: its weights and its file."""

    def build(folder: Path) -> None:
        pool = draw_pool(emoji, CONFIG.draws, seed=0)
        network = train_recogniser(pool, len(emoji), CONFIG)
        torch.save(network, folder / "network.pt")
        export_recogniser(network, emoji.captions, emoji.shape, folder / "recogniser.onnx")

    return once("judge", build)


@pytest.fixture(scope="session")
def network(judge_folder: Path) -> RecogniserNetwork:
    loaded = torch.load(judge_folder / "network.pt", weights_only=False)
    assert isinstance(loaded, RecogniserNetwork)
    return loaded


@pytest.fixture(scope="session")
def recogniser_file(judge_folder: Path) -> Path:
    return judge_folder / "recogniser.onnx"


@pytest.fixture(scope="session")
def subject(emoji: Emoji, recogniser_file: Path) -> EmojiSubject:
    return EmojiSubject(emoji, Recogniser(recogniser_file, threads=1))


@pytest.fixture(scope="session")
def pair(once: Once, emoji: Emoji, recogniser_file: Path) -> tuple[Model, Model]:
    """An untrained student and the untrained teacher that it names."""

    def build(folder: Path) -> None:
        teacher = tiny_model(folder / "tiny-teacher", Targets.SAME, emoji.captions)
        lineage = [{"teacher": "tiny-teacher", "hash": teacher.hash}]
        tiny_model(folder / "tiny", Targets.CLEAN, emoji.captions, lineage, recogniser_file)

    folder = once("judged-models", build)
    return load(folder / "tiny", threads=1), load(folder / "tiny-teacher", threads=1)
