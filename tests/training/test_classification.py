"""The judge: right about real pictures, the same after export, and clear about what it cannot judge."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from fewstep.data.emoji import Emoji
from fewstep.data.styles import COLOURS, STYLES
from fewstep.generation import load
from fewstep.measure.judge_accuracy import judge_accuracy
from fewstep.measure.judges import Recogniser, RecogniserError
from fewstep.measure.subjects import EmojiSubject, matches
from fewstep.models.finding import BUILT_IN
from fewstep.networks.recogniser import RecogniserNetwork
from fewstep.pictures.pixels import from_image
from fewstep.training import classification as training
from fewstep.training.checkpoints import CheckpointError
from fewstep.training.classification import RecogniserCheckpoints

SHIPPED = BUILT_IN / "emoji" / "recogniser.onnx"


def test_real_glyphs_that_it_has_not_seen_are_judged_right(subject: EmojiSubject) -> None:
    figures = judge_accuracy(subject, draws=2)
    assert figures["glyph"] >= 0.9
    assert figures["pictures"] == 24
    assert figures["style"] >= 0.4  # against 1 in 6 by guessing; in seconds, at 16 pixels
    assert figures["colour"] >= 0.2  # against 1 in 12
    json.dumps(figures)


def test_the_shipped_recogniser_judges_real_glyphs_right(emoji: Emoji) -> None:
    everything = Emoji()
    subject = EmojiSubject(everything, Recogniser(SHIPPED))
    queries = subject.queries(len(everything), seed=3)
    assert matches(queries, subject.judge(subject.real(queries, 77))).mean() >= 0.95
    assert SHIPPED.stat().st_size <= 1_200_000


@pytest.mark.parametrize(("name", "asked", "right"), [("emoji", 200, 0.8), ("emoji-teacher", 16, 0.6)])
def test_the_shipped_models_draw_what_they_are_asked(emoji: Emoji, name: str, asked: int, right: float) -> None:
    model = load(name)
    subject = EmojiSubject(Emoji(), Recogniser(SHIPPED))
    queries = subject.queries(asked, seed=5)
    drawn = [model.generate(query.prompt, seed=i, background="transparent") for i, query in enumerate(queries)]
    pixels = np.stack([from_image(image, model.spec.pixels, model.spec.pixel_format) for image in drawn])
    assert matches(queries, subject.judge(pixels)).mean() >= right


def test_the_exported_recogniser_says_what_the_network_says(
    subject: EmojiSubject, network: RecogniserNetwork
) -> None:
    pixels = subject.real(subject.queries(9, seed=1), draw=5)
    verdict = subject.judge(pixels)
    with torch.no_grad():
        features, glyph, colour, style = network(torch.from_numpy(pixels))
    # float16 weights
    np.testing.assert_allclose(verdict.features, features.numpy(), atol=0.03)
    assert verdict.names == tuple(subject.dataset.captions[int(i)] for i in glyph.argmax(1))
    assert verdict.words["colour"] == tuple(("", *training.COLOURS)[int(i)] for i in colour.argmax(1))
    assert verdict.words["style"] == tuple(("", *training.STYLES)[int(i)] for i in style.argmax(1))


def test_features_have_unit_variance_over_what_it_was_trained_on(network: RecogniserNetwork, emoji: Emoji) -> None:
    pool = training.draw_pool(emoji, 20, seed=1)
    with torch.no_grad():
        features = network(pool.pictures.float() / 255)[0]
    assert 0.5 < float(features.std(dim=0).mean()) < 1.5


def test_pixels_outside_the_range_count_as_the_nearest_inside(subject: EmojiSubject) -> None:
    pixels = subject.real(subject.queries(4, seed=1), draw=5)
    beyond = pixels.copy()
    beyond[beyond >= 1] = 1.5
    beyond[beyond <= 0] = -0.5
    np.testing.assert_allclose(subject.judge(beyond).features, subject.judge(pixels).features, atol=1e-4)


def test_a_picture_is_judged_alike_alone_and_among_many(
    subject: EmojiSubject, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = subject.real(subject.queries(7, seed=1), draw=5)
    together = subject.judge(pixels).features
    monkeypatch.setattr("fewstep.measure.judges.PART", 2)
    np.testing.assert_allclose(subject.judge(pixels).features, together, atol=1e-4)


def test_the_file_is_small_and_tells_nothing_of_the_machine(recogniser_file: Path) -> None:
    model = onnx.load(recogniser_file)
    onnx.checker.check_model(model)
    assert {entry.key for entry in model.metadata_props} == {"names", "colours", "styles"}
    assert b".py" not in recogniser_file.read_bytes()
    weights = sum(int(np.prod(i.dims)) for i in model.graph.initializer)
    assert recogniser_file.stat().st_size < 2 * weights + 30_000


def test_half_a_million_parameters_are_enough() -> None:
    network = RecogniserNetwork(1052, len(COLOURS), len(STYLES))
    assert sum(p.numel() for p in network.parameters()) < 550_000


def test_the_pool_shows_every_word_and_ignores_colours_that_cannot_be_seen(emoji: Emoji) -> None:
    pool = training.draw_pool(emoji, 60, seed=0)
    assert Counter(pool.glyphs.tolist()) == dict.fromkeys(range(len(emoji)), 60)
    assert set(pool.colours.tolist()) == {training.IGNORED, *range(12)}
    assert set(pool.styles.tolist()) == set(range(8))
    hueless = [1 + list(training.STYLES).index(style) for style in ("outline", "silhouette", "night")]
    unseen = torch.isin(pool.styles, torch.tensor(hueless))
    assert bool((pool.colours[unseen] == training.IGNORED).all())
    assert bool((pool.colours[~unseen] != training.IGNORED).all())


def test_training_twice_gives_the_same_judge(emoji: Emoji) -> None:
    config = training.RecogniserConfig(widths=(8, 8, 8), features=8, images=96, batch=16)
    pool = training.draw_pool(emoji, 3, seed=0)
    one, other = (training.train_recogniser(pool, len(emoji), config).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_an_interrupted_training_ends_with_the_same_judge(emoji: Emoji, tmp_path: Path) -> None:
    config = training.RecogniserConfig(widths=(8, 8, 8), features=8, images=96, batch=16)
    pool = training.draw_pool(emoji, 3, seed=0)
    whole = training.train_recogniser(pool, len(emoji), config).state_dict()
    stopped = Stopped(tmp_path, {"seed": 0})
    with pytest.raises(KeyboardInterrupt):
        training.train_recogniser(pool, len(emoji), config, stopped, every=4)
    resumed = training.train_recogniser(
        pool, len(emoji), config, RecogniserCheckpoints(tmp_path, {"seed": 0})
    ).state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    with pytest.raises(CheckpointError, match="holds another run"):
        training.train_recogniser(pool, len(emoji), config, RecogniserCheckpoints(tmp_path, {"seed": 1}))


class Stopped(RecogniserCheckpoints):
    """Keeps once and is then interrupted."""

    def save(self, step: int, network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        super().save(step, network, optimizer)
        raise KeyboardInterrupt


def test_a_system_that_tells_no_affinity_is_judged_on_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert Recogniser(SHIPPED).shape[0] == 4


def test_a_missing_recogniser_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(RecogniserError, match="fewstep train recogniser"):
        Recogniser(tmp_path / "recogniser.onnx")


def test_a_file_that_is_no_recogniser_is_named(tmp_path: Path, recogniser_file: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(recogniser_file.read_bytes()[:1000])
    with pytest.raises(RecogniserError, match=r"cannot load.*broken\.onnx"):
        Recogniser(broken)
    model = onnx.load(recogniser_file)
    del model.metadata_props[:]
    onnx.save(model, broken)
    with pytest.raises(RecogniserError, match="lacks colours, names, styles"):
        Recogniser(broken)


def test_pictures_of_another_size_are_refused(subject: EmojiSubject) -> None:
    with pytest.raises(RecogniserError, match=r"\(4, 16, 16\), got \(4, 8, 8\)"):
        subject.judge(np.zeros((1, 4, 8, 8), dtype=np.float32))
