"""Training pictures of the latent model, one thing or two, and the sketches made from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fewstep.data.emoji import ANNOTATIONS, EMOJI_TEST
from fewstep.data.line_drawings import line_drawing
from fewstep.data.scenes import Scenes
from fewstep.data.stickers import PLAIN, STYLES, Pose, Stickers, Variation
from fewstep.data.styles import COLOURS, recolour
from sticker_packages import packages, pin

MISSING = [file for file in (EMOJI_TEST, ANNOTATIONS) if not Path(file).is_file()]
needs_names = pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}")
SIDE = 64


@pytest.fixture
def stickers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stickers:
    pytest.importorskip("resvg_py")
    pin(monkeypatch, packages(tmp_path / "packages"), tmp_path / "cache")
    return Stickers(SIDE, PLAIN, tmp_path / "packages", held_out=2)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def disc(radius: float = 20, colour: tuple[float, float, float] = (0.8, 0.2, 0.1)) -> np.ndarray:
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    alpha = (np.hypot(rows, columns) < radius).astype(np.float32)
    return np.concatenate([np.array(colour, np.float32)[:, None, None] * alpha, alpha[None]])


def test_sketches_are_pictures_that_stay_near_what_they_show() -> None:
    near = disc(28)[3] > 0
    kinds = set()
    for seed in range(200):
        drawn = line_drawing(disc(), rng(seed))
        assert drawn.image.shape == (4, SIDE, SIDE)
        assert drawn.image.dtype == np.float32
        assert np.all(drawn.image >= 0)
        assert np.all(drawn.image[:3] <= drawn.image[3:] + 1e-6)
        assert drawn.image[3].max() <= 1 + 1e-6
        assert not drawn.image[3][~near].any()
        kinds.add(drawn.painted)
    assert kinds == {True, False}


def test_lines_are_dark_and_paint_has_the_colours_of_the_picture() -> None:
    for seed in range(100):
        drawn = line_drawing(disc(), rng(seed))
        alpha = drawn.image[3]
        if not (alpha > 0.9).any():
            continue
        colours = (drawn.image[:3] / np.maximum(alpha, 1e-3))[:, alpha > 0.9]
        is_red = np.abs(colours - np.array([[0.8], [0.2], [0.1]])).max(axis=0) < 0.02
        is_dark = colours.max(axis=0) <= 0.3 + 1e-6
        assert np.mean(is_red | is_dark) > 0.9
        assert is_red.any() == drawn.painted


def test_an_artists_line_drawing_is_traced() -> None:
    traced = np.zeros((4, SIDE, SIDE), np.float32)
    traced[3, 30:34, 12:52] = 1
    hits = [line_drawing(disc(), rng(seed), traced).image[3, 31:33, 24:40].mean() > 0.3 for seed in range(200)]
    without = [line_drawing(disc(), rng(seed)).image[3, 31:33, 24:40].mean() > 0.3 for seed in range(200)]
    painted = 0.25 + 0.15  # the kinds that cover the middle anyway
    assert np.mean(hits) > np.mean(without) + 0.2
    assert np.mean(without) < painted + 0.1


def test_an_empty_picture_has_an_empty_sketch() -> None:
    empty = np.zeros((4, SIDE, SIDE), np.float32)
    assert not any(line_drawing(empty, rng(seed)).image.any() for seed in range(50))


@needs_names
def test_plain_scenes_are_the_drawings(stickers: Stickers) -> None:
    scenes = Scenes(stickers, moved=0, colour=0, pairs=0)
    for index, place in enumerate(stickers.shown):
        scene = scenes.scene(index, rng(index))
        assert np.array_equal(scene.pixels, stickers.picture(place))
        assert scene.facts.style == stickers.rendered.styles[place]
        assert (scene.facts.colour, scene.facts.beside) == (None, None)


@needs_names
def test_two_things_stand_side_by_side_and_are_named_in_their_order(stickers: Stickers) -> None:
    scenes = Scenes(stickers, moved=1, colour=1, pairs=1)
    for seed in range(20):
        scene = scenes.scene(0, rng(seed))
        facts = scene.facts
        assert facts.colour is None
        halves = scene.pixels[..., : SIDE // 2], scene.pixels[..., SIDE // 2 :]
        for half, thing in zip(halves, (facts.thing, facts.beside), strict=True):
            place = next(
                place
                for place in stickers.shown
                if stickers.glyphs[stickers.rendered.things[place]].text == thing
                and stickers.rendered.styles[place] == facts.style
            )
            whole = stickers.picture(place, SIDE // 2)
            assert half[3].sum() == pytest.approx(whole[3].sum(), rel=0.25)
            assert half[3].sum() > 0
        assert scene.sketch.shape == (4, SIDE, SIDE)
        assert facts.moved
        assert np.all(scene.sketch[:3] <= scene.sketch[3:] + 1e-6)


@needs_names
def test_a_share_of_scenes_is_moved(stickers: Stickers) -> None:
    moving = replace(stickers, variation=Variation(shrink=0.5, shift=1))
    scenes = Scenes(moving, moved=0.3, colour=0, pairs=0)
    drawn = [scenes.scene(0, rng(seed)) for seed in range(200)]
    still = stickers.picture(stickers.shown[0])
    assert [np.array_equal(scene.pixels, still) for scene in drawn] == [not scene.facts.moved for scene in drawn]
    assert np.mean([scene.facts.moved for scene in drawn]) == pytest.approx(0.3, abs=0.1)


@needs_names
def test_a_scene_is_recoloured_as_its_facts_say_and_never_in_a_colour_held_out(stickers: Stickers) -> None:
    scenes = Scenes(stickers, moved=0, colour=1, pairs=0)
    place = stickers.shown[0]
    seen = set()
    for seed in range(80):
        scene = scenes.scene(0, rng(seed))
        seen.add(scene.facts.colour)
        plain = stickers.picture(place)
        expected = plain if scene.facts.colour is None else recolour(plain, scene.facts.colour)
        assert np.array_equal(scene.pixels, expected)
    thing = stickers.rendered.things[place]
    assert seen - {None} == {word for word in COLOURS if not stickers.is_held_out(thing, word)}


@needs_names
def test_line_art_is_the_outline_of_the_same_shapes_in_the_same_pose(stickers: Stickers) -> None:
    for place in stickers.shown:
        art = stickers.line_art(place)
        style = STYLES[stickers.rendered.styles[place]]
        assert (art is None) == (style in ("noto", "twemoji", "classic"))
        if art is not None:
            assert STYLES[stickers.rendered.styles[art]] == "outline"
            assert stickers.rendered.things[art] == stickers.rendered.things[place]
    moved = stickers.posed(stickers.shown[0], Pose(32, 8, 16))
    assert np.array_equal(moved[:, 16:48, 8:40], stickers.picture(stickers.shown[0], 32))
    assert not moved[:, :16].any()
    assert not moved[..., 40:].any()
