"""The codec's networks: shapes, what normalises latents, what noise does, and exact transparency."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fewstep.networks.autoencoder import MOMENTUM, Autoencoder, AutoencoderConfig, to_picture

SMALL = AutoencoderConfig(
    latents=8,
    encoder=(16, 32),
    decoder=(16, 32),
    encoder_depths=(1, 1),
    decoder_depths=(1, 2),
    margin=0.05,
    deviation=0.25,
)


@pytest.fixture
def network() -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(SMALL)


def pictures(count: int = 6) -> Tensor:
    """Random premultiplied pictures, smooth enough to encode."""
    rough = torch.rand(count, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    smooth = torch.nn.functional.interpolate(rough, size=(32, 32), mode="bilinear")
    return torch.cat([smooth[:, :3] * smooth[:, 3:], smooth[:, 3:]], dim=1)


def decoded_latents(network: Autoencoder) -> list[Tensor]:
    """What the decoder's first layer will be given."""
    seen: list[Tensor] = []
    network.decoder.stem.register_forward_hook(lambda module, args, output: seen.append(args[0].detach()))
    return seen


def trained_pass(network: Autoencoder, x: Tensor, strength: float, noise: Tensor) -> Tensor:
    time = torch.full((len(x),), strength)
    decoded: Tensor = network(x, time, time, {"noise": noise})
    return decoded


def test_each_position_stands_for_a_square_of_pixels(network: Autoencoder) -> None:
    assert SMALL.factor == 8
    assert AutoencoderConfig().factor == 16
    latents = network.encode(pictures())
    assert latents.shape == (6, 8, 4, 4)
    assert network.decode(latents).shape == (6, 4, 32, 32)


def test_the_default_network_is_small_enough_to_ship() -> None:
    network = Autoencoder(AutoencoderConfig())
    bytes_as_float16 = 2 * sum(p.numel() for p in network.parameters())
    assert bytes_as_float16 < 15e6


def test_training_normalises_by_the_batch_and_later_passes_by_what_was_kept(network: Autoencoder) -> None:
    x, none = pictures(), torch.zeros(6, 8, 4, 4)
    encoder = network.encoder
    raw = encoder.raw(x).detach()
    seen = decoded_latents(network)
    trained_pass(network, x, 0.0, none)
    assert seen[0].mean(dim=(0, 2, 3)) == pytest.approx(0, abs=1e-5)
    assert seen[0].std(dim=(0, 2, 3)) == pytest.approx(1, abs=2e-3)  # in units of the deviation
    assert torch.allclose(encoder.mean, MOMENTUM * raw.mean(dim=(0, 2, 3)), atol=1e-6)
    assert torch.allclose(encoder.variance, 1 + MOMENTUM * (raw.var(dim=(0, 2, 3)) - 1), atol=1e-6)
    kept = encoder.mean.clone()
    latents = network.encode(x)
    assert torch.equal(encoder.mean, kept)
    expected = 0.25 * (raw - kept[:, None, None]) / (encoder.variance + 1e-5).sqrt()[:, None, None]
    assert torch.allclose(latents, expected, atol=1e-5)


def test_one_picture_is_encoded_as_in_any_batch(network: Autoencoder) -> None:
    x = pictures()
    assert torch.allclose(network.encode(x)[2:3], network.encode(x[2:3]), atol=1e-5)


def test_noise_is_added_in_units_of_the_latents_deviation(network: Autoencoder) -> None:
    x, noise = pictures(), torch.randn(6, 8, 4, 4, generator=torch.Generator().manual_seed(2))
    seen = decoded_latents(network)
    trained_pass(network, x, 0.0, noise)
    trained_pass(network, x, 0.3, noise)
    assert torch.allclose(seen[1] - seen[0], 0.3 * noise, atol=1e-5)


def test_without_noise_a_pass_is_what_encoding_and_decoding_give(network: Autoencoder) -> None:
    x, time = pictures(), torch.zeros(6)
    direct = network(x, time, time, {})
    assert torch.equal(to_picture(direct, SMALL.margin), network.decode(network.encode(x)))


def test_what_lies_within_the_margin_of_clear_and_opaque_becomes_exactly_so() -> None:
    decoded = torch.tensor([-0.09, -0.051, 0.5, 1.051, 1.2]).reshape(1, 1, 1, 5)
    picture = to_picture(decoded, 0.05).flatten()
    assert picture.tolist() == [0, 0, 0.5, 1, 1]


def test_colour_never_exceeds_alpha(network: Autoencoder) -> None:
    picture = network.decode(3 * torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(3)))
    assert torch.all(picture[:, :3] <= picture[:, 3:])
    assert picture.min() >= 0
    assert picture.max() <= 1


def test_both_networks_run_alone_as_a_models_components_do(network: Autoencoder) -> None:
    x, no_time = pictures(), torch.zeros(6)
    latents = network.encoder(x, no_time, no_time, {})
    assert torch.equal(latents, network.encode(x))
    assert torch.equal(network.decoder(latents, no_time, no_time, {}), network.decode(latents))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoder": (16,)}, "one entry for each resolution"),
        ({"encoder": (16, 24)}, "widths must be multiples of 16"),
        ({"latents": 0}, "latents must be at least 1, got 0"),
    ],
)
def test_shapes_that_cannot_be(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AutoencoderConfig(
            **{"encoder": (16, 32), "decoder": (16, 32), "encoder_depths": (1, 1), "decoder_depths": (1, 1)}
            | settings
        )  # type: ignore[arg-type]
