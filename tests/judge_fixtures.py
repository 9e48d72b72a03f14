"""A judge of twelve fruits, trained for seconds, and models that it can judge: fixtures of the root conftest."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewstep.core.parameterisations import Targets
from fewstep.data.emoji import Emoji
from fewstep.generation import Model, load
from fewstep.measure.judges import Recogniser
from fewstep.measure.subjects import EmojiSubject
from fewstep.networks.recogniser import RecogniserNetwork
from fewstep.training.recogniser import RecogniserConfig, draw_pool, train_recogniser
from fewstep.training.recogniser_export import export_recogniser
from judging import FONTS, few_emoji, tiny_model

CONFIG = RecogniserConfig(widths=(24, 32, 48), features=32, draws=20, images=6400, batch=64, lr=8e-3)


@pytest.fixture(scope="session")
def emoji(tmp_path_factory: pytest.TempPathFactory) -> Emoji:
    """Twelve fruits, 16 pixels a side."""
    if not FONTS:
        pytest.skip("needs Debian's fonts-noto-color-emoji, unicode-data and unicode-cldr-core")
    return few_emoji(tmp_path_factory.mktemp("emoji"))


@pytest.fixture(scope="session")
def network(emoji: Emoji) -> RecogniserNetwork:
    """A judge trained for a few seconds."""
    pool = draw_pool(emoji, CONFIG.draws, seed=0)
    return train_recogniser(pool, len(emoji), CONFIG)


@pytest.fixture(scope="session")
def recogniser_file(emoji: Emoji, network: RecogniserNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("recogniser") / "recogniser.onnx"
    export_recogniser(network, emoji.captions, emoji.shape, file)
    return file


@pytest.fixture(scope="session")
def subject(emoji: Emoji, recogniser_file: Path) -> EmojiSubject:
    return EmojiSubject(emoji, Recogniser(recogniser_file, threads=1))


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory, emoji: Emoji, recogniser_file: Path) -> tuple[Model, Model]:
    """An untrained student and the untrained teacher that it names."""
    folder = tmp_path_factory.mktemp("models")
    teacher = tiny_model(folder / "tiny-teacher", Targets.SAME, emoji.captions)
    lineage = [{"teacher": "tiny-teacher", "hash": teacher.hash}]
    student = tiny_model(folder / "tiny", Targets.CLEAN, emoji.captions, lineage, recogniser_file)
    return load(student.directory, threads=1), load(teacher.directory, threads=1)
