"""Edits of models whose data are latents, not pixels: masks by cells, and a clear refusal of what needs pixels."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fewstep.editing.edits import Edit
from fewstep.editing.errors import RequestError
from fewstep.editing.masks import open_data
from fewstep.models.codecs import PixelCodec, SpaceToDepth

SHAPE = (1, 8, 12)


@dataclass(frozen=True)
class Averages:
    """A codec that loses something: the mean of each 4 × 4 cell, and its negative."""

    channels: int = 2

    def encode(self, pixels: Any) -> Any:
        b, _, h, w = pixels.shape
        means = pixels.mean(axis=1).reshape(b, h // 4, 4, w // 4, 4).mean(axis=(2, 4))
        return np.stack([means, -means][: self.channels], axis=1)

    def decode(self, data: Any) -> Any:
        return np.repeat(np.repeat(data[:, :1], 4, axis=2), 4, axis=3)

    def shape(self, pixels: Any) -> tuple[int, ...]:
        return (self.channels, pixels[1] // 4, pixels[2] // 4)


@dataclass(frozen=True)
class OneVector(Averages):
    """A codec whose data have no places."""

    def shape(self, pixels: Any) -> tuple[int, ...]:
        return (6,)


def model(codec: Any) -> Any:
    return SimpleNamespace(name="latents", codec=codec, pixels=SHAPE, pixel_format="grey", sigma_max=80.0)


def one_open(row: int, column: int) -> Any:
    free = np.zeros(SHAPE[1:])
    free[row, column] = 1
    return free


@pytest.mark.parametrize(("row", "column", "cell"), [(0, 0, (0, 0)), (3, 4, (0, 1)), (4, 3, (1, 0)), (7, 11, (1, 2))])
def test_a_position_is_open_if_any_pixel_of_its_cell_is(row: int, column: int, cell: tuple[int, int]) -> None:
    expected = np.zeros((1, 2, 2, 3))
    expected[0, :, cell[0], cell[1]] = 1
    np.testing.assert_array_equal(open_data(one_open(row, column), Averages(), SHAPE), expected)


def test_a_pixel_codecs_data_are_open_pixel_by_pixel() -> None:
    codec = SpaceToDepth(4)
    opened = open_data(one_open(5, 6), codec, SHAPE)
    np.testing.assert_array_equal(codec.unmask(opened)[0, 0], one_open(5, 6))
    assert opened.sum() == 1


def test_a_mask_on_data_without_places_is_refused() -> None:
    with pytest.raises(RequestError, match=r"mask needs data on a grid .* 12x8 pixels .* shape \[6\]") as error:
        open_data(one_open(0, 0), OneVector(), SHAPE)
    assert error.value.field == "mask"


def test_cells_that_do_not_divide_the_image_are_refused() -> None:
    with pytest.raises(RequestError, match="equal cells"):
        open_data(np.zeros((11, 12)), Averages(), (1, 11, 12))


def test_what_a_mask_keeps_is_kept_in_latents() -> None:
    assert not isinstance(Averages(), PixelCodec)
    image = Image.fromarray(np.arange(96, dtype=np.uint8).reshape(8, 12) * 2)
    mask = Image.new("L", (12, 8), 0)
    mask.putpixel((5, 1), 255)
    prepared = Edit(image, mask).prepared(model(Averages()))
    assert prepared.known is not None
    estimate = np.full((1, 2, 2, 3), 9.0, dtype=np.float32)
    kept = prepared.known(estimate, None)  # type: ignore[arg-type]
    encoded = Averages().encode(np.asarray(image, dtype=np.float32)[None, None] / 255)
    opened = np.zeros((1, 2, 2, 3), dtype=bool)
    opened[0, :, 0, 1] = True
    np.testing.assert_array_equal(kept, np.where(opened, estimate, encoded))


@pytest.mark.parametrize(
    ("name", "edit", "pixels"),
    [
        ("super-resolve", Edit.super_resolve, (6, 4)),
        ("denoise", lambda image: Edit.denoise(image, noise=0.1), (12, 8)),
    ],
)
def test_an_edit_of_single_pixels_names_what_is_missing(name: str, edit: Any, pixels: tuple[int, int]) -> None:
    with pytest.raises(RequestError, match=rf"the edit '{name}' constrains single pixels, .*\(Averages\)") as error:
        edit(Image.new("L", pixels, 100)).prepared(model(Averages()))
    assert error.value.field == "edit"


def test_colours_need_pixels_too() -> None:
    spec = model(Averages())
    spec.pixels, spec.pixel_format = (3, 8, 12), "rgb"
    with pytest.raises(RequestError, match="the edit 'colorize' constrains single pixels"):
        Edit.colorize(Image.new("RGB", (12, 8))).prepared(spec)
