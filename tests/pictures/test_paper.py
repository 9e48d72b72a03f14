"""The paper of a drawing is what has the colour of most of its border."""

from __future__ import annotations

import pytest
from PIL import Image

from fewstep.pictures.paper import on_nothing, paper_colour, without_paper

PAPER, INK = (240, 236, 220), (20, 20, 30)


def drawing(on_the_border: int, side: int = 16) -> Image.Image:
    """A sheet with a square of ink in its middle, and so many pixels of its border inked: no corner, which counts
    twice of the 4·side that a border has."""
    sheet = Image.new("RGB", (side, side), PAPER)
    sheet.paste(INK, (6, 6, 10, 10))
    places = [(x, y) for y in (0, side - 1) for x in range(1, side - 1)]
    for place in places[:on_the_border]:
        sheet.putpixel(place, INK)
    return sheet


@pytest.mark.parametrize(("on_the_border", "is_paper"), [(0, True), (15, True), (16, True), (17, False), (28, False)])
def test_three_quarters_of_the_border_make_a_sheet_of_paper(on_the_border: int, is_paper: bool) -> None:
    picture = drawing(on_the_border)  # 16 of 64 are a quarter
    cleared = without_paper(picture, 64)
    if not is_paper:
        assert cleared is picture
        return
    assert cleared.getpixel((3, 3)) == (*PAPER, 0)
    assert cleared.getpixel((7, 7)) == (*INK, 255)


@pytest.mark.parametrize(("darker", "alpha"), [(0, 0), (24, 0), (25, 255)])
def test_paper_may_differ_by_what_a_camera_makes_of_one_colour(darker: int, alpha: int) -> None:
    picture = drawing(0)
    picture.putpixel((3, 3), (PAPER[0], PAPER[1] - darker, PAPER[2]))
    assert without_paper(picture, 64).getchannel("A").getpixel((3, 3)) == alpha


def test_a_large_sheet_is_looked_at_no_finer_than_asked() -> None:
    assert without_paper(drawing(0, side=100), 40).size == (40, 40)


@pytest.mark.parametrize(("side", "looked_at"), [(16, 512), (512, 512), (550, 550)])
def test_paper_is_looked_for_at_512_pixels_or_the_models_own_side(side: int, looked_at: int) -> None:
    assert on_nothing(drawing(0, side=600), side).size == (looked_at, looked_at)


def test_the_paper_has_the_colour_of_most_of_the_border() -> None:
    import numpy as np

    assert paper_colour(np.asarray(drawing(20))).tolist() == list(PAPER)


def test_a_drawing_that_is_transparent_already_keeps_its_pixels() -> None:
    picture = drawing(0).convert("RGBA")
    picture.putpixel((0, 0), (*PAPER, 254))
    assert on_nothing(picture, 16).tobytes() == picture.tobytes()
