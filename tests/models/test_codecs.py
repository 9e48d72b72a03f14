from __future__ import annotations

import numpy as np
import pytest
import torch

from fewstep.models.codecs import Identity, PixelCodec, SpaceToDepth
from subjects import normal, tensor

PIXELS = np.random.default_rng(0).random((3, 4, 6, 4))
CODECS = {
    "identity": Identity(),
    "grey": SpaceToDepth(),
    "whole pixels": SpaceToDepth(1, (0.5,), (0.3,)),
    "per channel": SpaceToDepth(2, (0.1, 0.2, 0.3, 0.4), (0.1, 0.2, 0.3, 0.4), sigma_data=1.0),
}
KINDS = {"numpy": np.asarray, "torch": tensor}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CODECS)
def test_decode_undoes_encode_in_the_shape_it_announces(name: str, kind: str) -> None:
    codec, pixels = CODECS[name], KINDS[kind](PIXELS)
    data = codec.encode(pixels)
    assert tuple(data.shape) == (3, *codec.shape((4, 6, 4)))
    np.testing.assert_allclose(np.asarray(codec.decode(data)), PIXELS, atol=1e-14)
    np.testing.assert_allclose(np.asarray(data), codec.encode(PIXELS), atol=1e-14)


def test_each_channel_gets_mean_0_and_the_deviation_of_the_data() -> None:
    mean, std = (0.2, 0.6), (0.1, 0.3)
    pixels = np.array(mean)[:, None, None] + np.array(std)[:, None, None] * normal(2000, 2, 4, 4)
    data = SpaceToDepth(2, mean, std, sigma_data=0.5).encode(pixels)
    np.testing.assert_allclose(data.mean(axis=(0, 2, 3)), np.zeros(8), atol=0.03)
    np.testing.assert_allclose(data.std(axis=(0, 2, 3)), np.full(8, 0.5), atol=0.02)


def test_patches_are_laid_out_as_torchs_pixel_unshuffle() -> None:
    codec = SpaceToDepth(2, (0.0,), (0.5,), sigma_data=0.5)
    expected = torch.nn.functional.pixel_unshuffle(tensor(PIXELS), 2)
    np.testing.assert_array_equal(codec.encode(tensor(PIXELS)), expected)


def test_precision_is_kept() -> None:
    for pixels in (PIXELS.astype(np.float32), tensor(PIXELS, dtype=torch.float32)):
        assert CODECS["grey"].encode(pixels).dtype == pixels.dtype
        assert CODECS["grey"].decode(CODECS["grey"].encode(pixels)).dtype == pixels.dtype


def test_a_side_that_is_no_multiple_of_the_patch_is_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 4, got 6 and 4"):
        SpaceToDepth(4).shape((4, 6, 4))
    with pytest.raises(ValueError, match="multiples of 4, got 6 and 4"):
        SpaceToDepth(4).encode(PIXELS)


@pytest.mark.parametrize("codec", [Identity(), SpaceToDepth(2, mean=(0.1, 0.2, 0.3), std=(0.5, 0.2, 0.1))])
def test_encoding_is_the_gains_and_a_rearrangement_that_can_be_undone(codec: PixelCodec) -> None:
    first, second = np.random.default_rng(0).random((2, 3, 3, 4, 6))
    gains = np.array(codec.gains(3))[:, None, None]
    change = codec.encode(first) - codec.encode(second)
    np.testing.assert_allclose(codec.unmask(change), gains * (first - second), atol=1e-12)
    np.testing.assert_array_equal(codec.unmask(codec.mask(first)), first)
    np.testing.assert_array_equal(codec.mask(codec.unmask(change)), change)
