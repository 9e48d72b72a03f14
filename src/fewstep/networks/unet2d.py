"""diffusers' `UNet2DModel` as a fewstep network, for imported consistency pipelines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from fewstep.networks.inputs import NetworkInputs, NetworkSize


@dataclass(frozen=True)
class UNet2DConfig:
    """The configuration of a `UNet2DModel`.

    Args:
        settings: its settings, by diffusers' names.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def fitted(cls, inputs: NetworkInputs, size: NetworkSize) -> UNet2DConfig:
        """The `UNet2DModel` for these inputs; it has attention at all resolutions except the first.

        Raises:
            ValueError: x is not an image, or there are inputs other than x and its level.
        """
        if len(inputs.shape) != 3:
            raise ValueError(f"the network 'unet2d' is for images [c, h, w], got data of shape {list(inputs.shape)}")
        given = {
            "text": inputs.text,
            "classes": inputs.classes,
            "control images": inputs.control,
            "a guidance scale": inputs.guidance,
            "where a jump ends, which flow maps need": inputs.target,
        }
        if wrong := [name for name, value in given.items() if value]:
            raise ValueError(f"the network 'unet2d' takes only x and its level, not {', '.join(wrong)}")
        if size.canvas:
            raise ValueError("the network 'unet2d' has no canvas")
        deeper = len(size.widths) - 1
        channels, side, _ = inputs.shape
        return cls(
            {
                "sample_size": side,
                "in_channels": channels,
                "out_channels": channels,
                "layers_per_block": max(size.depths),
                "block_out_channels": list(size.widths),
                "down_block_types": ["DownBlock2D", *["AttnDownBlock2D"] * deeper],
                "up_block_types": [*["AttnUpBlock2D"] * deeper, "UpBlock2D"],
                "attention_head_dim": 32,
            }
        )


class UNet2D(nn.Module):
    """A `UNet2DModel` without classes, which is given only the time of the level of x.

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
