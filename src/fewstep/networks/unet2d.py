"""diffusers' `UNet2DModel` as a network of ours: what imported consistency pipelines run on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class UNet2DConfig:
    """What `UNet2DModel` is built from.

    Args:
        settings: its configuration, by diffusers' names.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)


class UNet2D(nn.Module):
    """A `UNet2DModel` without classes, which is told the time of x's level and no other.

    Raises:
        ImportError: diffusers is not installed.
    """

    def __init__(self, config: UNet2DConfig) -> None:
        super().__init__()
        try:
            from diffusers import UNet2DModel
        except ImportError as error:
            raise ImportError("this network needs diffusers: pip install 'fewstep[diffusers]'") from error
        self.config = config
        self.unet = UNet2DModel.from_config(dict(config.settings))

    def forward(self, x: Tensor, time_at: Tensor, time_to: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        """x [b, c, h, w], times [b]; returns [b, c, h, w]."""
        output: Tensor = self.unet(x, time_at, return_dict=False)[0]
        return output
