"""Colours, styles and sketches do what their words say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fewstep.data.styles import COLOURS, STYLES, join, outline, pastel, pixel_art, recolour, silhouette, sketch, split


def disc(size: int = 32, colour: tuple[float, float, float] = (0.8, 0.3, 0.2)) -> Any:
    """A shaded disc on nothing."""
    rows, columns = np.mgrid[0:size, 0:size] - (size - 1) / 2
    alpha = (np.hypot(rows, columns) < size * 0.35).astype(np.float32)[None]
    shade = 0.7 + 0.3 * (rows / size)
    return join(np.array(colour)[:, None, None] * shade[None], alpha)


def is_premultiplied(image: Any) -> bool:
    return bool(
        image.dtype == np.float32
        and image.min() >= 0
        and image.max() <= 1 + 1e-6
        and np.all(image[:3] <= image[3:] + 1e-6)
    )


@pytest.mark.parametrize("name", STYLES)
@pytest.mark.parametrize("size", [16, 32, 64])
def test_a_style_keeps_shape_and_premultiplication(name: str, size: int) -> None:
    styled = STYLES[name](disc(size))
    assert styled.shape == (4, size, size)
    assert is_premultiplied(styled)
    assert styled[3].any()


@pytest.mark.parametrize("name", STYLES)
def test_a_style_changes_the_picture_and_leaves_nothing_empty(name: str) -> None:
    assert not np.allclose(STYLES[name](disc()), disc(), atol=0.02)
    assert not STYLES[name](np.zeros((4, 32, 32), dtype=np.float32)).any()


@pytest.mark.parametrize("colour", [c for c in COLOURS if c not in {"black", "white", "gray"}])
def test_a_recoloured_picture_is_nearest_to_its_colour(colour: str) -> None:
    straight, alpha = split(recolour(disc(), colour))
    mean = (straight * alpha).sum(axis=(1, 2)) / alpha.sum()
    nearest = min(COLOURS, key=lambda name: float(np.square(mean - COLOURS[name]).sum()))
    assert nearest == colour


def test_recolouring_keeps_the_shape_and_the_order_of_tones() -> None:
    image = disc()
    painted = recolour(image, "blue")
    assert np.array_equal(painted[3], image[3])
    column = painted[:3, 8:24, 16].sum(axis=0)
    assert np.all(np.diff(column) >= -1e-6)


def test_splitting_and_joining_is_the_identity() -> None:
    image = disc()
    assert np.allclose(join(*split(image)), image, atol=1e-6)


def test_an_outline_is_empty_inside() -> None:
    drawn = outline(disc())
    assert drawn[3, 16, 16] < 0.1
    assert drawn[3].max() > 0.9


def test_a_silhouette_has_one_dark_colour_and_the_same_shape() -> None:
    image = disc()
    assert np.array_equal(silhouette(image)[3], image[3])
    assert silhouette(image)[:3].max() < 0.1


def test_pastel_is_lighter_and_less_saturated() -> None:
    before, after = split(disc())[0][:, 16, 16], split(pastel(disc()))[0][:, 16, 16]
    assert after.mean() > before.mean()
    assert np.ptp(after) < np.ptp(before)


def test_pixel_art_has_large_pixels_and_hard_edges() -> None:
    art = pixel_art(disc(48), cells=12)
    blocks = art.reshape(4, 12, 4, 12, 4)
    assert np.ptp(blocks, axis=(2, 4)).max() == 0
    assert set(np.unique(art[3])) <= {0.0, 1.0}


def test_sketches_differ_by_hand_and_repeat_by_seed() -> None:
    drawn = [sketch(disc(), np.random.default_rng(seed)) for seed in range(8)]
    assert all(is_premultiplied(image) for image in drawn)
    assert len({image.tobytes() for image in drawn}) == 8
    assert np.array_equal(drawn[3], sketch(disc(), np.random.default_rng(3)))
