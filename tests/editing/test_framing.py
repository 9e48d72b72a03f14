"""Sketches anywhere are shown to the model where things stood in training, and pictures laid back to the sketch."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from fewstep.core.parameterisations import Targets
from fewstep.editing.framing import NEAREST, Framed, Window, framed, window_of
from fewstep.generation import Edit, Model, Request, RequestError, load
from fewstep.models.components import Component, Sketch
from fewstep.models.saved import read
from judging import tiny_model
from tiny_models import TinyModels

NATIVE = (32, 32)


def disc(left: float, top: float, right: float, bottom: float, side: int = 128) -> Image.Image:
    """A red disc on nothing, in fractions of the side."""
    picture = Image.new("RGBA", (side, side))
    box = [side * place for place in (left, top)] + [side * place - 1 for place in (right, bottom)]
    ImageDraw.Draw(picture).ellipse(box, fill=(200, 30, 30, 255))
    return picture


def box_of(picture: Image.Image) -> Any:
    """Left, top, right, bottom of what is covered, in fractions."""
    covered = picture.getchannel("A").point(lambda alpha: 255 * (alpha > 127)).getbbox()
    assert covered is not None
    return np.array(covered) / picture.width


def test_a_small_sketch_in_a_corner_is_shown_large_and_central() -> None:
    shown, window = framed(disc(0.0625, 0.0625, 0.5, 0.5), 0.875, NATIVE)
    assert window == Window(0.03125, 0.03125, 0.5)
    assert shown.size == NATIVE
    np.testing.assert_allclose(box_of(shown), [0.0625, 0.0625, 0.9375, 0.9375], atol=1 / 32)
    assert shown.getpixel((16, 16)) == (200, 30, 30, 255)


@given(st.floats(-0.5, 0.6), st.floats(-0.5, 0.6), st.floats(0.4, 1.0))
def test_what_is_laid_back_stands_where_the_sketch_does(left: float, top: float, side: float) -> None:
    window = Window(left, top, side)
    back = window.inverse.inverse
    np.testing.assert_allclose(back.rounded, window.rounded, atol=2e-4)
    native = disc(0.1, 0.1, 0.9, 0.9, 64)
    laid = Framed(window).laid_back(native, (256, 256))
    assert (laid.size, laid.mode) == ((256, 256), "RGBA")
    wanted = np.clip([left + 0.1 * side, top + 0.1 * side, left + 0.9 * side, top + 0.9 * side], 0, 1)
    if (wanted[2:] - wanted[:2]).min() > 0.1:
        found = box_of(laid)
        if wanted.min() > 0 and wanted.max() < 1:  # a disc that is cut has another box
            np.testing.assert_allclose(found, wanted, atol=0.02)


def test_a_sketch_that_stands_well_is_left_as_it_is() -> None:
    for sketch in (
        disc(0.04, 0.04, 0.96, 0.96),
        disc(0.05, 0.03, 0.97, 0.95),
        disc(0, 0, 1, 1),
        Image.new("RGBA", (40, 40)),
    ):
        shown, window = framed(sketch, 0.92, NATIVE)
        assert window is None
        assert shown is sketch


@pytest.mark.parametrize(
    ("reaches", "stands_well"), [(1.0, True), (0.876953125, True), (0.875, False), (0.75, False)]
)
def test_what_is_less_than_one_of_the_models_pixels_off_stands_well(reaches: float, stands_well: bool) -> None:
    """A square from the corner to `reaches`, shown to a model of 8 pixels a side: 0.875 is one pixel off exactly."""
    sketch = Image.new("RGBA", (1024, 1024))
    sketch.paste((0, 0, 0, 255), (0, 0, int(1024 * reaches), int(1024 * reaches)))
    window = window_of(sketch, 1.0, 8)
    assert window == (None if stands_well else Window(0.0, 0.0, reaches))


def test_a_dot_is_not_magnified_to_a_thing() -> None:
    window = window_of(disc(0.5, 0.5, 0.54, 0.54), 0.92, 32)
    assert window is not None
    assert 1 / window.side == pytest.approx(2.5)  # as docs/studio.md says
    assert window.left + window.side / 2 == pytest.approx(0.52, abs=0.01)


@pytest.mark.parametrize(("alpha", "left"), [(0, 0.25), (20, 0.25), (90, 0.0)])
def test_a_pale_stroke_is_drawn_and_the_soft_edge_of_one_is_not(alpha: int, left: float) -> None:
    """A square of ink in the middle, and to its left something fainter."""
    sketch = Image.new("RGBA", (128, 128))
    sketch.paste((0, 0, 0, alpha), (0, 32, 32, 96))
    sketch.paste((0, 0, 0, 255), (32, 32, 96, 96))
    window = window_of(sketch, 1.0, 32)
    assert window is not None
    assert (window.left, window.left + window.side) == (left, 0.75)


def test_a_thing_that_fills_more_than_things_did_is_shown_no_smaller_than_it_is() -> None:
    window = window_of(disc(0.1, 0.0, 1.0, 0.9), 0.5, 32)
    assert window is not None
    assert window.side == 1.0


def test_a_sketch_is_looked_at_finer_than_the_model_draws() -> None:
    """A square that begins and ends a quarter of the model's pixel off is not shown as if it began on one."""
    sketch = Image.new("RGBA", (1024, 1024))
    sketch.paste((0, 0, 0, 255), (104, 104, 616, 616))
    _, window = framed(sketch, 1.0, NATIVE)
    assert window is not None
    np.testing.assert_allclose(window.rounded, [104 / 1024, 104 / 1024, 0.5], atol=1 / 256)


def test_paper_of_any_shape_is_nothing() -> None:
    paper = Image.new("RGB", (400, 200), "white")
    ImageDraw.Draw(paper).ellipse((40, 60, 119, 139), outline="black", width=6)
    shown, window = framed(paper, 1.0, NATIVE)
    assert window is not None
    np.testing.assert_allclose(window.rounded, [0.0, 0.3, NEAREST], atol=0.005)
    assert shown.getpixel((0, 0))[3] == 0
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    assert framed(photo, 0.92, NATIVE)[1] is None  # something everywhere


def test_a_long_strip_is_not_squared_at_its_full_length() -> None:
    strip = Image.new("RGBA", (20_000, 4), (0, 0, 0, 255))
    shown, window = framed(strip, 0.92, NATIVE)  # as a square of its own length it would take 1.6 GB
    assert window is None
    assert shown is strip
    dash = Image.new("RGBA", (20_000, 400))
    dash.paste((0, 0, 0, 255), (0, 0, 8_000, 400))
    _, window = framed(dash, 0.92, NATIVE)
    assert window is not None
    np.testing.assert_allclose(window.rounded, [0.2 - 0.4 / 0.92 / 2, 0.5 - 0.4 / 0.92 / 2, 0.4 / 0.92], atol=0.01)
    assert dash.size == (20_000, 400)  # what was given stays as it was


@pytest.fixture(scope="module")
def sketcher(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A tiny model whose things fill 0.9 of the side."""
    directory = tmp_path_factory.mktemp("framing") / "sketcher"
    saved = tiny_model(directory, Targets.CLEAN, ["red apple"], control=True)
    description = json.loads((saved.directory / "model.json").read_text())
    description["components"]["sketch"] = {"kind": "sketch", "fills": 0.9}
    (saved.directory / "model.json").write_text(json.dumps(description))
    return load(saved.directory, threads=1)


def changed(sketcher: Model, directory: Path, sketch: Any, **said: Any) -> Path:
    """A copy whose model.json says something else, of sketches in the component `sketch`."""
    for file in sketcher.saved.directory.iterdir():
        (directory / file.name).write_bytes(file.read_bytes())
    description = json.loads((directory / "model.json").read_text())
    components = {**description["components"], "sketch": {"kind": "sketch", **sketch}}
    (directory / "model.json").write_text(json.dumps({**description, **said, "components": components}))
    return directory


def test_a_picture_is_drawn_in_the_window_and_laid_back(sketcher: Model) -> None:
    sketch, native = disc(0.1, 0.2, 0.6, 0.7), sketcher.native_size
    plan = sketcher.plan(Request("red apple", seed=1, control=sketch))
    assert isinstance(plan.delivery.layout, Framed)
    shown, window = framed(sketch, 0.9, native)
    np.testing.assert_allclose(plan.conditions.control[3], np.asarray(shown)[..., 3] / 255, atol=1e-6)
    inside = sketcher.generate("red apple", seed=1, control=shown, control_frame=False)
    whole = sketcher.generate("red apple", seed=1, control=sketch)
    assert whole.size == native
    np.testing.assert_array_equal(np.asarray(whole), np.asarray(plan.delivery.layout.laid_back(inside, native)))
    assert window is not None
    assert whole.record.sampler_settings["control_window"] == window.rounded
    assert "control_window" not in inside.record.sampler_settings
    large = sketcher.generate("red apple", seed=1, control=sketch, size=(96, 96), background="white")
    assert (large.size, large.mode) == ((96, 96), "RGB")
    assert large.getpixel((0, 95)) == (255, 255, 255)  # beyond the window nothing is drawn


def test_who_wants_no_window_gets_none(sketcher: Model) -> None:
    sketch = disc(0.1, 0.2, 0.6, 0.7)
    assert sketcher.plan(Request("red apple", seed=1, control=sketch, control_frame=False)).delivery.layout is None
    assert sketcher.plan(Request("red apple", seed=1, control=sketch, control_strength=0)).delivery.layout is None
    edited = sketcher.plan(Request("red apple", seed=1, control=sketch, edit=Edit(disc(0, 0, 1, 1, 32))))
    assert not isinstance(edited.delivery.layout, Framed)  # an edited image says where things stand
    with pytest.raises(RequestError, match="control_frame must be true or false, got the text 'no'"):
        Request(control_frame="no")  # type: ignore[arg-type]


@pytest.mark.parametrize("fills", [0, 1.5, -0.2])
def test_a_model_says_a_share(sketcher: Model, tmp_path: Path, fills: float) -> None:
    with pytest.raises(ValueError, match="fills must be above 0 and at most 1"):
        read(changed(sketcher, tmp_path, {"fills": fills}))


def test_a_model_may_have_another_scale_for_sketches(sketcher: Model, tmp_path: Path) -> None:
    model = load(changed(sketcher, tmp_path, {"guidance": 3.0}, guidance=2.0), threads=1)
    sketch = disc(0, 0, 1, 1)
    for choices, scale in (
        ({}, 2.0),
        ({"control": sketch}, 3.0),
        ({"control": sketch, "control_strength": 0}, 2.0),  # left out: to the bit as without
        ({"control": sketch, "guidance": 1.5}, 1.5),
    ):
        assert model.plan(Request("red apple", seed=1, **choices)).conditions.guidance == scale


def test_a_scale_for_sketches_is_checked_as_the_other(sketcher: Model, tiny: TinyModels, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a sketch's guidance must be in the distilled range"):
        read(changed(sketcher, tmp_path, {"guidance": 40.0}))
    teacher = tiny.teacher.spec
    spec = replace(teacher, components={**teacher.components, "sketch": Component(Sketch(guidance=2.0))})
    with pytest.raises(ValueError, match="needs a model that takes a control image"):
        spec.check()
