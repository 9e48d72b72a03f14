"""A diffusers VAE as a codec: latents scaled and shifted as its settings say, which is what diffusion networks see.

A VAE joins by one entry in `VAES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fewstep.core.arrays import Array
from fewstep.models.parts import ModelError


@dataclass(frozen=True)
class VaeKind:
    """What is to be known about a VAE class.

    Args:
        encode: pixels in [-1, 1] to its own latents, without chance: the mode where it is a distribution.
        channels: of its latents.
        levels: how many times it halves the sides, plus 1.
    """

    encode: Callable[[Any, Tensor], Tensor]
    channels: Callable[[Any], int]
    levels: Callable[[Any], int]


VAES: Mapping[str, VaeKind] = {
    "AutoencoderDC": VaeKind(
        lambda vae, pixels: vae.encode(pixels).latent,
        lambda config: int(config.latent_channels),
        lambda config: len(config.encoder_block_out_channels),
    ),
    "AutoencoderKL": VaeKind(
        lambda vae, pixels: vae.encode(pixels).latent_dist.mode(),
        lambda config: int(config.latent_channels),
        lambda config: len(config.block_out_channels),
    ),
    "AutoencoderTiny": VaeKind(
        lambda vae, pixels: vae.encode(pixels).latents,
        lambda config: int(config.latent_channels),
        lambda config: len(config.encoder_block_out_channels),
    ),
}
"""The supported VAEs by class."""


@dataclass(frozen=True)
class VaeCodec:
    """A `Codec`: pixels [b, c, h, w] in [0, 1] to latents (z − shift)·scale [b, c', h/f, w/f] and back.

    Settings name the shift `shift_factor` or `latents_mean`, the scale `scaling_factor`, over `latents_std` where it
    has one. Images pass one at a time, so that the bits of an image do not depend on its batch. Tensors stay in their
    graph; NumPy arrays are taken and given too.

    Args:
        vae: the diffusers module.

    Raises:
        ModelError: its class is not supported.
    """

    vae: nn.Module = field(repr=False)

    def __post_init__(self) -> None:
        name = type(self.vae).__name__
        if name not in VAES:
            raise ModelError(f"the VAE {name} is not supported: use one of {', '.join(sorted(VAES))}")

    @property
    def factor(self) -> int:
        """Pixels a side of one latent."""
        return int(2 ** (self._kind.levels(self.vae.config) - 1))

    @property
    def _kind(self) -> VaeKind:
        return VAES[type(self.vae).__name__]

    def shape(self, pixels: Sequence[int]) -> tuple[int, ...]:
        config: Any = self.vae.config
        channels, height, width = pixels
        if channels != config.in_channels:
            raise ValueError(f"images of this VAE have {config.in_channels} channels, got {channels}")
        if height % self.factor or width % self.factor:
            raise ValueError(f"height and width must be multiples of {self.factor}, got {height} and {width}")
        return (self._kind.channels(config), height // self.factor, width // self.factor)

    def encode(self, pixels: Array) -> Any:
        self.shape(pixels.shape[1:])
        shift, scale = self._normalisation()
        return self._each(lambda image: (self._kind.encode(self.vae, 2 * image - 1) - shift) * scale, pixels)

    def decode(self, data: Array) -> Any:
        vae: Any = self.vae
        shift, scale = self._normalisation()
        return self._each(lambda latent: (vae.decode(latent / scale + shift).sample + 1) / 2, data)

    def _normalisation(self) -> tuple[Tensor, Tensor]:
        """The shift and the scale of latents, each [1, 1 or c, 1, 1]."""
        config: Any = self.vae.config
        mean, std = config.get("latents_mean"), config.get("latents_std")
        parameter = next(self.vae.parameters())
        shift = parameter.new_tensor([config.get("shift_factor") or 0.0] if mean is None else mean)
        scale = config.scaling_factor / parameter.new_tensor([1.0] if std is None else std)
        return shift.reshape(1, -1, 1, 1), scale.reshape(1, -1, 1, 1)

    def _each(self, run: Callable[[Tensor], Tensor], values: Any) -> Any:
        parameter = next(self.vae.parameters())
        if isinstance(values, np.ndarray):
            with torch.no_grad():
                output = self._each(run, torch.from_numpy(np.array(values)))
            return output.numpy()
        inner = values.to(parameter.device, parameter.dtype)
        return torch.cat([run(inner[i : i + 1]) for i in range(len(inner))]).to(values.device, values.dtype)
