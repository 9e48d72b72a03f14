"""Codecs: between pixels and the data that are diffused.

A codec encodes, decodes and knows the shape of the data; that is all that training, sampling and serving need. A
codec whose data are the pixels themselves, scaled and rearranged, is a `PixelCodec`: edits that constrain single
pixels (grey values, block means, noise of a known deviation) need its order and its scales.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np
from array_api_compat import device, to_device

from fewstep.core.arrays import ArrayT, like, namespace
from fewstep.core.parameterisations import Network
from fewstep.models.parts import BOUND


@runtime_checkable
class Codec(Protocol):
    """Pixels [b, c, h, w] in [0, 1] to data and back."""

    def encode(self, pixels: ArrayT) -> ArrayT:
        """Pixels [b, c, h, w] to data [b, ...]."""
        ...

    def decode(self, data: ArrayT) -> ArrayT:
        """Data [b, ...] to pixels [b, c, h, w]; they may lie outside [0, 1]."""
        ...

    def shape(self, pixels: Sequence[int]) -> tuple[int, ...]:
        """The shape of the data of one image of shape `pixels`.

        Raises:
            ValueError: the codec cannot encode images of this shape.
        """
        ...


@runtime_checkable
class PixelCodec(Codec, Protocol):
    """A codec whose data are the pixels, each channel scaled and shifted, in another order."""

    def mask(self, pixels: ArrayT) -> ArrayT:
        """Values of pixels [b, c, h, w] in the order of the data [b, ...], not scaled."""
        ...

    def unmask(self, data: ArrayT) -> ArrayT:
        """Values in the order of the data [b, ...] as values of pixels [b, c, h, w]: the inverse of `mask`."""
        ...

    def gains(self, channels: int) -> tuple[float, ...]:
        """The factor by which `encode` multiplies each channel."""
        ...


@dataclass(frozen=True)
class Identity:
    """Data that need no codec: points in the plane."""

    def encode(self, pixels: ArrayT) -> ArrayT:
        return pixels

    def decode(self, data: ArrayT) -> ArrayT:
        return data

    def mask(self, pixels: ArrayT) -> ArrayT:
        return pixels

    def unmask(self, data: ArrayT) -> ArrayT:
        return data

    def gains(self, channels: int) -> tuple[float, ...]:
        return (1.0,) * channels

    def shape(self, pixels: Sequence[int]) -> tuple[int, ...]:
        return tuple(pixels)


@dataclass(frozen=True)
class SpaceToDepth:
    """Each patch × patch square of pixels becomes one position with patch²·c channels.

    This is a permutation of normalised pixels, so white noise stays white.

    Args:
        patch: side of the square.
        mean, std: mean and standard deviation of each channel, for pixels in [0, 1].
        sigma_data: standard deviation of each channel of the data.
    """

    patch: int = 2
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        if self.patch < 1:
            raise ValueError(f"patch must be at least 1, got {self.patch}")
        if self.sigma_data <= 0 or min(self.std, default=0.0) <= 0:
            raise ValueError(f"std and sigma_data must be above 0, got {self.std} and {self.sigma_data}")

    def shape(self, pixels: Sequence[int]) -> tuple[int, ...]:
        channels, height, width = pixels
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, channels):
                raise ValueError(f"{name} must have one value, or one for each of {channels} channels, got {values}")
        if height % self.patch or width % self.patch:
            raise ValueError(f"height and width must be multiples of {self.patch}, got {height} and {width}")
        return (channels * self.patch**2, height // self.patch, width // self.patch)

    def encode(self, pixels: ArrayT) -> ArrayT:
        self.shape(pixels.shape[1:])
        shift, scale = self._per_channel(self.mean, pixels), self._per_channel(self.std, pixels)
        return self.mask((pixels - shift) * (self.sigma_data / scale))

    def mask(self, pixels: ArrayT) -> ArrayT:
        xp, p = namespace(pixels), self.patch
        b, c, h, w = pixels.shape
        cells = xp.reshape(pixels, (b, c, h // p, p, w // p, p))
        return xp.reshape(xp.permute_dims(cells, (0, 1, 3, 5, 2, 4)), (b, c * p * p, h // p, w // p))

    def unmask(self, data: ArrayT) -> ArrayT:
        xp, p = namespace(data), self.patch
        b, c, h, w = data.shape
        cells = xp.permute_dims(xp.reshape(data, (b, c // p**2, p, p, h, w)), (0, 1, 4, 2, 5, 3))
        return xp.reshape(cells, (b, c // p**2, h * p, w * p))

    def gains(self, channels: int) -> tuple[float, ...]:
        std = self.std * channels if len(self.std) == 1 else self.std
        return tuple(self.sigma_data / value for value in std)

    def decode(self, data: ArrayT) -> ArrayT:
        pixels = self.unmask(data)
        shift, scale = self._per_channel(self.mean, pixels), self._per_channel(self.std, pixels)
        return pixels * (scale / self.sigma_data) + shift

    def _per_channel(self, values: Sequence[float], pixels: ArrayT) -> ArrayT:
        xp = namespace(pixels)
        array: ArrayT = xp.asarray(list(values), dtype=pixels.dtype, device=device(pixels))
        return xp.reshape(xp.broadcast_to(array, (pixels.shape[1],)), (-1, 1, 1))


@dataclass(frozen=True)
class LearnedCodec:
    """A codec whose encoder and decoder are networks of the model: each cell of pixels becomes a position of a grid.

    The normalisation of the latents is part of the networks. They run one image at a time, so that the bits of an
    image do not depend on its batch, and on NumPy arrays; tensors are converted to arrays and back.

    Args:
        channels: number of channels of the latents.
        factor: side, in pixels, of the cell that becomes one position.
        encoder, decoder: names of the components that are these networks; they take `x` alone.
        networks: the networks by component, running on an engine.
    """

    channels: int
    factor: int
    encoder: str = "encoder"
    decoder: str = "decoder"
    networks: Mapping[str, Network] = field(default_factory=dict, compare=False, repr=False, metadata=BOUND)

    def __post_init__(self) -> None:
        if self.channels < 1 or self.factor < 1:
            raise ValueError(f"channels and factor must be at least 1, got {self.channels} and {self.factor}")

    @property
    def needs(self) -> tuple[str, ...]:
        """The components that must be running."""
        return self.encoder, self.decoder

    def running(self, networks: Mapping[str, Network]) -> LearnedCodec:
        """A copy with the networks that it needs, by component."""
        return replace(self, networks=networks)

    def shape(self, pixels: Sequence[int]) -> tuple[int, ...]:
        _, height, width = pixels
        if height % self.factor or width % self.factor:
            raise ValueError(f"height and width must be multiples of {self.factor}, got {height} and {width}")
        return (self.channels, height // self.factor, width // self.factor)

    def encode(self, pixels: ArrayT) -> ArrayT:
        self.shape(pixels.shape[1:])
        return self._run(self.encoder, pixels)

    def decode(self, data: ArrayT) -> ArrayT:
        return self._run(self.decoder, data)

    def _run(self, name: str, values: ArrayT) -> ArrayT:
        """Run a network; RuntimeError if `fewstep.engines.component_networks` has not yet provided it."""
        if name not in self.networks:
            raise RuntimeError(f"the codec's network '{name}' is not running: load the model with fewstep.load")
        images = np.asarray(to_device(values, "cpu"), dtype=np.float32)
        no_time = np.zeros(1, dtype=np.float32)
        outputs = [self.networks[name](image[None], no_time, no_time, {}) for image in images]
        return like(np.concatenate(outputs), values)
