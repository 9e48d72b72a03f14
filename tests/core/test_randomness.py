from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from fewstep.core.randomness import (
    MAX_SEED,
    Noise,
    NoiseBetween,
    check_seed,
    derive,
    keep_mask,
    noise,
    shared_dropout,
)

SHAPE = (4, 8, 8)


@pytest.mark.parametrize("draw", [0, 3])
def test_an_images_noise_is_the_same_alone_and_in_any_batch(draw: int) -> None:
    alone = noise(42, SHAPE, draw)
    for seeds in ([42], [7, 42, 9], [42, 42], [*range(100, 130), 42]):
        batch = Noise(seeds, SHAPE)(draw)
        assert batch.shape == (len(seeds), *SHAPE)
        for seed, image in zip(seeds, batch, strict=True):
            np.testing.assert_array_equal(image, noise(seed, SHAPE, draw))
    np.testing.assert_array_equal(Noise([1, 42], SHAPE, torch.zeros(1))(draw)[1].numpy(), alone)


def test_noise_is_pinned() -> None:
    """These are Philox's numbers: if they change, every image ever made with a seed changes."""
    np.testing.assert_allclose(noise(0, (3,)), [0.059911, 0.015559, -1.164438], atol=2e-6)
    np.testing.assert_allclose(noise(MAX_SEED, (3,), 2), [-0.412522, 0.819955, -1.523624], atol=2e-6)


def test_noise_is_standard_normal_float32_and_does_not_repeat() -> None:
    sample = noise(5, (20_000,))
    assert sample.dtype == np.float32
    assert stats.kstest(sample, stats.norm.cdf).statistic < 0.0138
    others = [noise(5, (20_000,), 1), noise(6, (20_000,)), noise(6, (20_000,), 1)]
    for other in others:
        assert abs(np.corrcoef(sample, other)[0, 1]) < 0.03


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1, 1.5, True, "7", None])
def test_a_seed_is_a_whole_number_within_bounds(seed: object) -> None:
    with pytest.raises(ValueError, match="seed must be"):
        check_seed(seed)
    check_seed(np.int64(3))


def test_derive_depends_on_every_part_and_its_place() -> None:
    seeds = {derive(*parts) for parts in ((1, "a"), ("a", 1), (1, "b"), (2, "a"), (1,), ("a",), (1, "a", 0))}
    assert len(seeds) == 7
    assert all(0 <= seed <= MAX_SEED for seed in seeds)
    assert derive("noise", 3) == derive("noise", 3) == 8409776143414802287


def _keys(*keys: int) -> np.ndarray:
    return np.array(keys, dtype=np.int64)


@pytest.mark.parametrize("layer", [0, 1, 37])
def test_a_mask_is_the_same_bits_in_numpy_and_torch(layer: int) -> None:
    keys = _keys(0, 1, 2**31, 2**32 - 1)
    ours = keep_mask(keys, layer, SHAPE, 0.3)
    theirs = keep_mask(torch.from_numpy(keys), layer, SHAPE, 0.3)
    assert ours.dtype == np.bool_
    assert theirs.dtype == torch.bool
    np.testing.assert_array_equal(theirs.numpy(), ours)


def test_masks_are_pinned() -> None:
    """If these bits change, a training that is resumed is no longer the one that was begun."""
    masks = keep_mask(_keys(5, 2**32 - 1), 2, (64,), 0.5)
    assert [np.packbits(mask).tobytes().hex() for mask in masks] == ["14081ae0d07247d3", "730f2948594636cc"]


def test_a_mask_is_shared_by_key_and_layer_and_by_nothing_else() -> None:
    masks = keep_mask(_keys(5, 9, 5), 2, SHAPE, 0.5)
    np.testing.assert_array_equal(masks[0], masks[2])
    for other in (masks[1], keep_mask(_keys(5), 3, SHAPE, 0.5)[0]):
        assert 0.35 < np.mean(masks[0] == other) < 0.65


def test_a_mask_does_not_depend_on_its_batch_companions() -> None:
    alone = keep_mask(_keys(123), 1, SHAPE, 0.2)[0]
    np.testing.assert_array_equal(keep_mask(_keys(7, 123, 2**32 - 1), 1, SHAPE, 0.2)[1], alone)


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.2, 0.5, 0.9])
def test_the_rate_is_kept_and_masks_are_independent_over_positions_keys_and_layers(rate: float) -> None:
    masks = np.stack([keep_mask(np.arange(64), layer, (32, 32), rate) for layer in range(4)]).astype(float)
    total = masks.size
    deviation = np.sqrt(rate * (1 - rate))
    assert abs(masks.mean() - (1 - rate)) < 4 * deviation / np.sqrt(total)
    centred = (masks - (1 - rate)) / deviation
    pairs = {
        "next position": centred[..., 1:] * centred[..., :-1],
        "next row": centred[..., 1:, :] * centred[..., :-1, :],
        "next key": centred[:, 1:] * centred[:, :-1],
        "next layer": centred[1:] * centred[:-1],
    }
    for name, product in pairs.items():
        assert abs(product.mean()) < 5 / np.sqrt(product.size), name


def test_a_rate_of_0_keeps_all_and_1_is_refused() -> None:
    assert keep_mask(_keys(1), 0, SHAPE, 0.0).all()
    for rate in (1.0, -0.1, 1.5):
        with pytest.raises(ValueError, match="dropout rate"):
            keep_mask(_keys(1), 0, SHAPE, rate)


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
def test_shared_dropout_keeps_the_mean_the_precision_and_the_mask(kind) -> None:
    x, keys = kind(np.ones((2, 64, 64), np.float32)), kind(_keys(3, 4))
    dropped = shared_dropout(x, keys, 0, 0.25)
    assert dropped.dtype == x.dtype
    values = np.asarray(dropped)
    np.testing.assert_array_equal(values != 0, keep_mask(_keys(3, 4), 0, (64, 64), 0.25))
    assert set(np.unique(values)) == {np.float32(0.0), np.float32(1 / 0.75)}
    assert values.mean() == pytest.approx(1.0, abs=0.03)
    assert shared_dropout(x, keys, 0, 0.0) is x


def test_noise_between_two_seeds_is_theirs_at_the_ends_to_the_bit_and_as_long_on_the_way() -> None:
    shape, positions = (4, 16, 16), (0.0, 0.25, 0.5, 1.0)
    way = NoiseBetween(3, 9, positions, shape)
    for draw in (0, 2):
        first, second = (noise(seed, shape, draw) for seed in (3, 9))
        frames = way(draw)
        assert frames.dtype == np.float32
        np.testing.assert_array_equal(frames[0], first)
        np.testing.assert_array_equal(frames[-1], second)
        lengths = np.sqrt((frames.astype(np.float64) ** 2).sum(axis=(1, 2, 3)))
        assert np.ptp(lengths) <= 0.01 * lengths[0] + np.ptp(lengths[[0, -1]])
        one, two = (values.astype(np.float64).ravel() for values in (first, second))
        angle = np.arccos(one @ two / np.linalg.norm(one) / np.linalg.norm(two))
        np.testing.assert_allclose(frames[2].ravel(), (one + two) / (2 * np.cos(angle / 2)), atol=1e-5)
    assert not np.array_equal(way(0), way(2))


def test_noise_between_a_seed_and_itself_is_its_own() -> None:
    same = NoiseBetween(5, 5, (0.0, 0.3, 1.0), (2, 3, 3))(0)
    np.testing.assert_allclose(same, np.stack([noise(5, (2, 3, 3))] * 3), rtol=1e-6)
