"""Every kind of codec: encodes and decodes, survives model.json, does not let images of a batch touch each other.

A codec joins by an entry in `fewstep.models.components.KINDS` and an example here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fewstep.engines.component_networks import running
from fewstep.models import components as registry
from fewstep.models.codecs import Codec, Identity, LearnedCodec, PixelCodec, SpaceToDepth
from fewstep.models.components import KINDS, Component, Kind, NetworkPart, components
from fewstep.models.conditioning import Conditioning
from fewstep.models.saved import read
from fewstep.models.spec import ModelSpec
from fewstep.models.writing import write
from latent_models import CODEC, PIXELS, write_codec
from models_spec import NETWORK, WEIGHTS, spec

EXAMPLES: dict[str, tuple[Codec, Callable[[Path], object] | None]] = {
    "identity": (Identity(), None),
    "space_to_depth": (SpaceToDepth(2, (0.1, 0.2, 0.3, 0.4), (0.4, 0.3, 0.2, 0.1)), None),
    "learned_codec": (CODEC, write_codec),
}
"""A codec of each kind for images of shape PIXELS, and what writes the files of its networks."""


def smooth(count: int) -> Any:
    """Images of one colour in each quarter, float32 [count, *PIXELS]: what a codec of cells can keep."""
    colours = np.random.default_rng(1).random((count, PIXELS[0], 2, 2), dtype=np.float32)
    return np.repeat(np.repeat(colours, PIXELS[1] // 2, axis=2), PIXELS[2] // 2, axis=3)


def described(codec: Codec) -> ModelSpec:
    networks = {name: Component(NetworkPart()) for name in codec.needs} if isinstance(codec, LearnedCodec) else {}
    return spec(
        components={**components(NETWORK, Conditioning(codec)), **networks},
        pixels=PIXELS,
        pixel_format="rgba_premultiplied",
    )


@pytest.fixture(scope="module", params=EXAMPLES)
def codec(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Codec:
    """One that was written to a model, read back, and given its engines."""
    example, complete = EXAMPLES[request.param]
    directory = tmp_path_factory.mktemp("codecs") / "model"
    write(described(example), WEIGHTS, directory, complete=complete)
    saved = read(directory)
    assert saved.spec.codec == example
    return running(saved, threads=1).spec.codec


def test_every_kind_of_codec_has_an_example() -> None:
    assert {name for name, kind in KINDS.items() if issubclass(kind.part, Codec)} == set(EXAMPLES)


def test_the_data_have_the_shape_that_it_announces(codec: Codec) -> None:
    data = codec.encode(smooth(3))
    assert data.shape == (3, *codec.shape(PIXELS))
    assert data.dtype == np.float32
    assert codec.decode(data).shape == (3, *PIXELS)


def test_what_it_can_keep_comes_back(codec: Codec) -> None:
    pixels = smooth(2)
    np.testing.assert_allclose(codec.decode(codec.encode(pixels)), pixels, atol=1e-5)


def test_it_gives_the_same_bits_each_time_and_in_any_batch(codec: Codec) -> None:
    pixels = np.random.default_rng(2).random((5, *PIXELS), dtype=np.float32)
    data, decoded = codec.encode(pixels), codec.decode(codec.encode(pixels))
    np.testing.assert_array_equal(codec.encode(pixels), data)
    for i in range(5):
        np.testing.assert_array_equal(codec.encode(pixels[i : i + 1])[0], data[i])
        np.testing.assert_array_equal(codec.decode(data[i : i + 1])[0], decoded[i])


def test_tensors_give_tensors_of_the_same_values(codec: Codec) -> None:
    pixels = smooth(2)
    data = codec.encode(torch.from_numpy(pixels))
    assert isinstance(data, torch.Tensor)
    np.testing.assert_allclose(data.numpy(), codec.encode(pixels), atol=1e-6)
    assert isinstance(codec.decode(data), torch.Tensor)


def test_a_pixel_codec_is_gains_and_another_order(codec: Codec) -> None:
    if not isinstance(codec, PixelCodec):
        assert not hasattr(codec, "gains")
        return
    first, second = np.random.default_rng(3).random((2, 1, *PIXELS))
    change = codec.unmask(codec.encode(first) - codec.encode(second))
    gains = np.array(codec.gains(PIXELS[0]))[:, None, None]
    np.testing.assert_allclose(change, gains * (first - second), atol=1e-12)
    np.testing.assert_array_equal(codec.unmask(codec.mask(first)), first)


@dataclass(frozen=True)
class Halves:
    """A codec of somebody's own: half of each pixel."""

    share: float = 0.5

    def encode(self, pixels: Any) -> Any:
        return pixels * self.share

    def decode(self, data: Any) -> Any:
        return data / self.share

    def shape(self, pixels: Any) -> tuple[int, ...]:
        return tuple(pixels)


def test_another_codec_joins_by_one_registration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="a Halves is not a component: it is not registered in KINDS"):
        write(described(Halves()), WEIGHTS, tmp_path / "model")
    monkeypatch.setitem(registry.KINDS, "halves", Kind(Halves))
    saved = write(described(Halves(0.25)), WEIGHTS, tmp_path / "model")
    assert read(tmp_path / "model").spec.codec == Halves(0.25)
    np.testing.assert_array_equal(saved.spec.codec.encode(np.float32([4.0])), [1.0])
