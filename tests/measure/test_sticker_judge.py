"""Stickers as a subject: what is asked, what is held out, and a judge of things and artists trained in seconds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewstep.data.emoji import ANNOTATIONS, EMOJI_TEST
from fewstep.data.stickers import STYLES, Stickers, Variation
from fewstep.data.styles import COLOURS
from fewstep.measure.judges import Recogniser, RecogniserError
from fewstep.measure.subjects import StickersSubject, matches
from fewstep.recipes.recogniser import StickersRecogniserRecipe
from fewstep.training.classification import IGNORED, RecogniserConfig, draw_sticker_pool
from sticker_packages import packages, pin

MISSING = [file for file in (EMOJI_TEST, ANNOTATIONS) if not Path(file).is_file()]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}")
pytest.importorskip("resvg_py")

CONFIG = RecogniserConfig(widths=(16, 24, 32), features=16, pool=2, draws=24, images=4800, batch=48, lr=8e-3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Mapping[str, Any]]:
    """A folder with packages and a judge of three things by seven artists, and the judge's metrics."""
    folder = tmp_path_factory.mktemp("judge")
    with pytest.MonkeyPatch.context() as patch:
        pin(patch, packages(folder / "packages"), folder / "cache")
        recipe = StickersRecogniserRecipe(
            size=32, packages=folder / "packages", variation=Variation(colour=0.15), training=CONFIG, draws=2
        )
        return folder, recipe.run(folder / "run")


@pytest.fixture
def subject(trained: tuple[Path, Mapping[str, Any]], monkeypatch: pytest.MonkeyPatch) -> StickersSubject:
    folder, _ = trained
    pin(monkeypatch, packages(folder / "packages"), folder / "cache")
    dataset = Stickers(32, Variation(shrink=0.15, shift=0.5, colour=0), folder / "packages", held_out=3)
    return StickersSubject(dataset, Recogniser(folder / "run" / "recogniser.onnx", threads=1))


def test_the_judge_tells_things_and_artists_apart(trained: tuple[Path, Mapping[str, Any]]) -> None:
    folder, figures = trained
    assert figures["thing"] >= 0.6  # against a third by guessing; the 3D ones are all one disc
    assert figures["style"] >= 0.5  # against a seventh
    assert figures["both"] <= min(figures["thing"], figures["style"])
    assert figures["colour"] >= 0.2  # against a twelfth
    assert figures["pictures"] == 2 * 21
    assert set(figures["thing_by_style"]) == set(figures["style_by_style"]) == set(STYLES)
    assert json.loads((folder / "run" / "recogniser.json").read_text(encoding="utf-8")) == figures


def test_queries_ask_for_each_drawing_that_was_shown_by_its_name_and_style(subject: StickersSubject) -> None:
    dataset = subject.dataset
    queries = subject.queries(len(dataset.shown), seed=3)
    assert {query.index for query in queries} == set(dataset.shown)
    for query in queries:
        assert query.style == STYLES[query.label or 0] == STYLES[dataset.rendered.styles[query.index]]
        assert query.prompt == query.name == dataset.captions[dataset.rendered.things[query.index]]
        assert query.colour == ""
    real = subject.real(queries, draw=0)
    assert real.shape == (len(queries), 4, 32, 32)
    assert not np.array_equal(real, subject.real(queries, draw=1))
    assert matches(queries, subject.judge(real)).mean() >= 0.3  # both right; a twentieth by guessing


def test_held_out_queries_were_never_shown(subject: StickersSubject) -> None:
    dataset = subject.dataset
    styled, coloured = (subject.held_out(kind, 100, seed=0) for kind in ("style", "colour"))
    assert {query.index for query in styled} == set(range(21)) - set(dataset.shown)
    assert coloured
    for query in coloured:
        assert query.index in dataset.shown
        assert query.colour in COLOURS
        assert dataset.is_held_out(dataset.rendered.things[query.index], query.colour)
        assert query.prompt.startswith(query.colour)
        assert query.style != "outline"
    assert "apple" not in " ".join(query.name for query in coloured)  # a red apple is red in its name
    assert len(subject.held_out("style", 1, seed=0)) == 1
    assert subject.held_out("style", 0, seed=0) == []


def test_a_judge_of_other_things_or_another_size_is_refused(subject: StickersSubject) -> None:
    with pytest.raises(RecogniserError, match=r"judges pictures of shape \(4, 32, 32\), the data have \(4, 64, 64\)"):
        StickersSubject(replace(subject.dataset, size=64), subject.recogniser)
    judge = subject.recogniser
    judge.names = ("red apple", "rocket")
    with pytest.raises(RecogniserError, match=r"does not know \d+ of \d+ stickers, such as"):
        StickersSubject(subject.dataset, judge)


def test_the_pool_shows_every_drawing_and_ignores_colours_of_lines(subject: StickersSubject) -> None:
    pool = draw_sticker_pool(replace(subject.dataset, held_out=0), 8, seed=0, colour=0.5)
    assert pool.style_words == STYLES
    assert len(pool.pictures) == 8 * 21
    lines = pool.styles == 1 + STYLES.index("outline")
    assert bool((pool.colours[lines] == IGNORED).all())
    assert 0.3 < (pool.colours[~lines] > 0).float().mean() < 0.7
