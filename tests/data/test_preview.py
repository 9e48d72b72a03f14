"""The contact sheet shows what training sees."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from fewstep.data.dataset import DataError, Example, examples
from fewstep.data.digits import Digits
from fewstep.data.preview import CELL, CHECKS, MARGIN, contact_sheet
from fewstep.data.toys import Mixture, ring


@dataclass
class Plain:
    """One colour; RGBA where `pixel` has four numbers."""

    pixel: tuple[float, ...]
    caption: str = ""
    label: int | None = None
    side: int = 16
    name: str = "plain"
    classes: int = 0
    captions: list[str] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.pixel), self.side, self.side)

    def __len__(self) -> int:
        return 4

    def example(self, index: int, rng: np.random.Generator) -> Example:
        data = np.ones(self.shape, dtype=np.float32) * np.array(self.pixel, dtype=np.float32)[:, None, None]
        return Example(data, self.caption, self.label)


def test_the_first_picture_is_the_first_example_of_training() -> None:
    sheet = np.asarray(contact_sheet(Digits(8), n=6, columns=3, seed=5))
    first = examples(Digits(8), 6, seed=5, step=0)[0].data[0]
    shown = sheet[MARGIN : MARGIN + CELL : 16, MARGIN : MARGIN + CELL : 16, 0]
    assert np.array_equal(shown, (first * 255).round().astype(np.uint8))


def test_transparency_lies_on_a_checkerboard() -> None:
    sheet = np.asarray(contact_sheet(Plain((0, 0, 0, 0)), n=1))
    inside = sheet[MARGIN : MARGIN + CELL, MARGIN : MARGIN + CELL].reshape(-1, 3)
    assert {tuple(pixel) for pixel in inside.tolist()} == set(CHECKS)
    half = np.asarray(contact_sheet(Plain((0.5, 0, 0, 0.5)), n=1))
    assert half[MARGIN, MARGIN].tolist() == [255, 128, 128]


def test_captions_are_written_beneath_and_make_room_for_themselves() -> None:
    bare = contact_sheet(Plain((0, 0, 1)), n=2)
    short = contact_sheet(Plain((0, 0, 1), "sea"), n=2)
    long = contact_sheet(Plain((0, 0, 1), "a very deep sea with fish in it that nobody ever saw " * 9), n=2)
    endless = contact_sheet(Plain((0, 0, 1), "x" * 500), n=2)
    assert bare.width == short.width == long.width == endless.width
    assert bare.height < short.height < long.height
    assert short.height == endless.height
    beneath = np.asarray(long)[MARGIN + CELL + 2 :]
    assert beneath.min() < 60
    assert (beneath[:, : MARGIN // 2] == 255).all()
    assert (beneath[:, -MARGIN // 2 :] == 255).all()


def test_a_label_stands_in_for_a_caption() -> None:
    assert contact_sheet(Plain((0, 0, 1), label=3)).height > contact_sheet(Plain((0, 0, 1))).height


def test_no_more_than_an_epoch_is_shown() -> None:
    assert contact_sheet(Plain((0, 0, 1)), n=100, columns=10).width == MARGIN + 4 * (CELL + MARGIN)


def test_the_sheet_takes_scale_and_background() -> None:
    sheet = contact_sheet(Plain((0, 0, 1), "light text"), n=1, scale=20, background="#102030")
    assert sheet.width == 2 * MARGIN + 16 * 20
    assert sheet.getpixel((0, 0)) == (16, 32, 48)
    assert np.asarray(sheet)[MARGIN + 320 + 2 :].max() > 200


def test_points_are_drawn_as_a_scatter_plot() -> None:
    sheet = np.asarray(contact_sheet(ring(), n=500)).astype(int)
    coloured = np.abs(sheet - sheet.mean(axis=2, keepdims=True)).max(axis=2) > 20
    assert 0.01 < coloured.mean() < 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n must be at least 1, got 0"),
        ({"columns": 0}, "columns must be at least 1, got 0"),
        ({"scale": -1}, "scale must be at least 1, got -1"),
        ({"background": "nope"}, "background must be a colour such as 'white' or '#202020', got 'nope'"),
    ],
)
def test_a_wrong_setting_names_what_would_be_right(options: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        contact_sheet(Plain((0, 0, 1)), **options)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(DataError, match=r"only images .* can be shown, got \[3\]"):
        contact_sheet(Mixture([1], [[0, 0, 0]], 1))
