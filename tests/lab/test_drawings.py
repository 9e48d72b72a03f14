"""The pictures of the documentation: drawn, the same each time, small, and right where a number is shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewstep.cli import pictures as command
from fewstep.core.levels import CLEAN, from_ratio
from fewstep.data.styles import SKETCHES
from fewstep.data.toys import ring
from fewstep.generation import Edit
from fewstep.lab import plane, sheets
from fewstep.lab.exact import Exact
from fewstep.pictures.pixels import to_image, to_pixels
from fewstep.pictures.sheet import CELL, FONT, GAP, LEFT, Row, sheet
from subjects import normal
from tiny_models import SIDE, TinyModels, onnx

LARGEST = 150_000  # bytes of one picture


def test_the_command_knows_every_drawing() -> None:
    assert set(command.PLANE) == set(plane.DRAWINGS)


@pytest.mark.parametrize("name", ["trajectories", "guidance"])
def test_a_drawing_is_the_same_file_each_time(name: str, tmp_path: Path) -> None:
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        assert command.pictures(tmp_path / folder, only=(name,)) == 0
    one, other = ((tmp_path / folder / f"{name}.png").read_bytes() for folder in ("one", "other"))
    assert one == other
    assert len(one) <= LARGEST


def test_the_drawings_in_the_repository_are_small() -> None:
    files = list((Path(__file__).parents[2] / "docs" / "pictures").glob("*.png"))
    assert {f"{name}.png" for name in plane.DRAWINGS} <= {file.name for file in files}
    assert [file.name for file in files if file.stat().st_size > LARGEST and file.name != "demo.png"] == []


@pytest.mark.parametrize(
    ("choices", "message"),
    [({"only": ("cats",)}, "there is no picture 'cats'"), ({"out": Path("nowhere")}, "not a directory")],
)
def test_a_wrong_choice_is_said_before_anything_is_drawn(choices: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, OSError), match=message):
        command.pictures(**{"out": tmp_path, **choices})
    assert list(tmp_path.iterdir()) == []


def test_a_rounded_consistency_function_without_width_is_the_exact_one() -> None:
    exact, x, at = Exact(ring(), steps=20), normal(5, 2), from_ratio(1.0).batch(5)
    rounded = plane.Rounded(exact, width=0.0, draws=3)
    np.testing.assert_allclose(rounded(x, at, CLEAN.batch(5), {}), exact(x, at, CLEAN.batch(5), {}), atol=1e-12)


def test_a_sheet_has_room_for_every_image_and_text() -> None:
    rows = [Row("one", "1 evaluation", [Image.new("RGB", (32, 32), "red")] * 3) for _ in range(2)]
    page = sheet(rows, above=["a", "b", "c"], below=[["1", "2", "3"]])
    red = np.all(np.asarray(page) == (255, 0, 0), axis=2)
    assert red.sum() == 6 * (3 * 32) ** 2


def test_a_filled_half_keeps_the_other_and_costs_two_evaluations_a_correction(tiny: TinyModels) -> None:
    page = np.asarray(sheets.filled(onnx(tiny.student), onnx(tiny.teacher), seed=1, fits=(0, 2)))
    side = CELL // SIDE * SIDE
    top = [GAP + row * (side + GAP) for row in range(4)]
    kept, plain, fitted, before = (page[y : y + side, LEFT : LEFT + side].astype(int) for y in top)
    for row in (kept, plain, fitted):
        np.testing.assert_allclose(row[:, : side // 2], before[:, : side // 2], atol=1)
    assert (kept[:, side // 2 :] == 211).all()  # light grey
    assert not np.array_equal(plain[:, side // 2 :], before[:, side // 2 :])


def cell(page: Image.Image, row: int, column: int, head: int) -> Image.Image:
    """One image of a sheet, at the model's own size."""
    side = CELL // SIDE * SIDE
    left, top = LEFT + column * (side + GAP), head + row * (side + GAP)
    return page.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.NEAREST)


def on_white(image: Image.Image) -> Image.Image:
    page = Image.new("RGB", image.size, "white")
    page.paste(image.convert("RGBA"), mask=image.convert("RGBA"))
    return page


HEAD = FONT + 12


def test_a_sheet_of_sketches_has_what_the_model_draws_below_each(tiny: TinyModels) -> None:
    student, teacher = onnx(tiny.student), onnx(tiny.teacher)
    page = sheets.sketched(student, teacher, seed=1)
    prompt = sheets.PROMPTS[2]
    pixels = to_pixels(teacher.generate(prompt, seed=1), student.spec.pixels, student.spec.pixel_format)
    for row, draw in enumerate(SKETCHES.values()):
        sketch = to_image(draw(pixels, np.random.default_rng([1, 2])), student.spec.pixel_format)
        drawn = student.generate(prompt, seed=1, steps=1, control=sketch, background="white")
        assert cell(page, 2 * row, 2, HEAD).tobytes() == on_white(sketch).tobytes()
        assert cell(page, 2 * row + 1, 2, HEAD).tobytes() == drawn.convert("RGB").tobytes()


def test_a_sheet_of_styles_has_a_row_for_each_that_the_model_knows(tiny: TinyModels) -> None:
    student = onnx(tiny.student)
    page = sheets.styled(student, seed=1)
    styles = ("", *student.spec.vocabulary.styles)
    assert page.height == HEAD + len(styles) * (CELL // SIDE * SIDE + GAP)
    for row, style in enumerate(styles):
        drawn = student.generate(f"{style} red apple".strip(), seed=1, steps=1, background="white")
        assert cell(page, row, 0, HEAD).tobytes() == drawn.convert("RGB").tobytes()


def test_a_sheet_of_edits_goes_out_from_what_stands_above_each(tiny: TinyModels) -> None:
    student, teacher = onnx(tiny.student), onnx(tiny.teacher)
    page = sheets.edited(student, teacher, seed=1)
    prompt = sheets.PROMPTS[1]
    before = teacher.generate(prompt, seed=1)
    grey = before.convert("LA").convert("RGBA")
    edits = (Edit.colorize(grey), Edit.super_resolve(before.reduce(4)))
    for row, edit in zip((1, 3), edits, strict=True):
        drawn = student.generate(prompt, seed=1, steps=1, edit=edit, background="white")
        assert cell(page, row, 1, HEAD).tobytes() == drawn.convert("RGB").tobytes()
    way = student.generate(prompt, seed=1, steps=1, background="white")
    assert cell(page, 6, 5, HEAD).tobytes() == way.convert("RGB").tobytes()  # the last of apple to cat


def test_a_sheet_of_sketches_needs_a_model_that_takes_them(tiny: TinyModels) -> None:
    teacher = onnx(tiny.teacher)
    for make in (sheets.sketched, sheets.edited):
        with pytest.raises(ValueError, match="by prompt and sketch"):
            make(teacher, teacher, 1)
