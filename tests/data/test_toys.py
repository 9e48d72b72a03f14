"""2-D toys: the scale training assumes, and moments that agree with the closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from fewstep.data.dataset import DataError, examples
from fewstep.data.toys import Mixture, checkerboard, ring, spiral, two_moons
from picture_cases import rng, same

TOYS = {
    "ring": ring(),
    "ring of 3": ring(3, std=0.4),
    "mixture": Mixture([1, 2, 5], [[0, 0], [3, 1], [-1, 4]], [0.1, 0.5, 1.0]),
    "checkerboard": checkerboard(),
    "two moons": two_moons(),
    "blurred moons": two_moons(noise=0.3),
    "spiral": spiral(),
    "long spiral": spiral(turns=3.2, noise=0.5),
}


@pytest.mark.parametrize("name", TOYS)
def test_points_are_centred_with_standard_deviation_one_half(name: str) -> None:
    points = TOYS[name].sample(200_000, rng())
    assert (points.dtype, points.shape) == (np.float32, (200_000, 2))
    assert points.mean(axis=0) == pytest.approx([0, 0], abs=0.01)
    assert points.std() == pytest.approx(0.5, abs=0.003)


@pytest.mark.parametrize("name", TOYS)
def test_an_example_is_fresh_and_fixed_by_its_rng(name: str) -> None:
    toy = TOYS[name]
    assert toy.shape == (2,)
    assert same(toy.example(0, rng(1)), toy.example(5, rng(1)))
    assert not same(toy.example(0, rng(1)), toy.example(0, rng(2)))
    assert toy.example(0, rng()).data.shape == (2,)


def test_a_mixture_shows_the_moments_of_what_it_draws() -> None:
    toy = TOYS["mixture"]
    batch = examples(toy, 20_000, seed=0, step=0)
    points, labels = np.stack([e.data for e in batch]), np.array([e.label for e in batch])
    assert toy.classes == 3
    for component in range(3):
        own = points[labels == component]
        assert len(own) / len(points) == pytest.approx(toy.weights[component], abs=0.015)
        assert own.mean(axis=0) == pytest.approx(toy.means[component], abs=0.03)
        assert own.std(axis=0) == pytest.approx(np.full(2, toy.stds[component]), rel=0.06)


def test_an_unscaled_mixture_keeps_its_means_and_stds() -> None:
    toy = Mixture([1, 1], [[5.0, 0, 1], [7.0, 0, 1]], 0.5, scaled=False)
    assert toy.shape == (3,)
    assert toy.means.tolist() == [[5, 0, 1], [7, 0, 1]]
    assert toy.stds.tolist() == [0.5, 0.5]
    assert toy.sample(20_000, rng()).mean(axis=0) == pytest.approx([6, 0, 1], abs=0.03)


def test_a_ring_is_equal_gaussians_at_one_distance() -> None:
    toy = ring(8, std=0.1)
    distance = np.linalg.norm(toy.means, axis=1)
    assert distance == pytest.approx(np.full(8, distance[0]))
    assert toy.stds / distance == pytest.approx(np.full(8, 0.1))
    assert toy.weights == pytest.approx(np.full(8, 1 / 8))


def test_a_checkerboard_leaves_every_second_square_empty() -> None:
    points = checkerboard(4).sample(50_000, rng())
    square = np.floor(points / (0.5 * np.sqrt(12) / 4) + 2).astype(int)
    held = np.zeros((4, 4), dtype=int)
    np.add.at(held, (square[:, 0], square[:, 1]), 1)
    assert (held[np.indices((4, 4)).sum(axis=0) % 2 == 1] == 0).all()
    assert held[np.indices((4, 4)).sum(axis=0) % 2 == 0].min() > 5500


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Mixture([1], [[0, 0], [1, 1]], 1),
            r"weights must be \[k\] and means \[k, d\], got \[1\] and \[2, 2\]",
        ),
        (lambda: Mixture([1, 1], [[0, 0], [1, 1]], [1, 1, 1]), "stds must be one number or one per mean"),
        (lambda: Mixture([1, -1], [[0, 0], [1, 1]], 1), "weights and stds must be positive"),
        (lambda: checkerboard(3), "cells must be an even number from 2, got 3"),
        (lambda: ring(size=0), "size must be at least 1, got 0"),
    ],
)
def test_a_wrong_setting_names_what_would_be_right(make, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make()
