"""A network's text path and canvas, trained alone before the network: the mean picture of each prompt.

While x is noise, the best estimate of the data is their mean for the prompt. A whole U-Net learns it slowly, since
most of its work is done on x; the parts that never see x learn it some ten times as fast by themselves
(docs/log/2026-12.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fewstep.core.parameterisations import Edm
from fewstep.networks.unet import UNet
from fewstep.objectives.diffusion import Diffusion
from fewstep.objectives.times import LogNormal
from fewstep.training.batches import BatchSource
from fewstep.training.config import TrainingConfig
from fewstep.training.loop import train

NOISE = LogNormal(5.0, 0.5)
"""Noise levels at which x tells nothing of the data."""


class PromptOnly(nn.Module):
    """The parts of a U-Net that see only the conditions, with a linear map from its canvas to the data.

    They are the U-Net's own modules: training them trains it.

    Args:
        network: the U-Net.

    Raises:
        ValueError: it has no canvas at its first resolution.
    """

    def __init__(self, network: UNet) -> None:
        super().__init__()
        if "0" not in network.canvas:
            raise ValueError(f"the network must have a canvas at its first resolution, got {network.config.canvas}")
        self.config = network.config
        self.text, self.embedding, self.canvas = network.text, network.embedding, network.canvas["0"]
        self.head = nn.Conv2d(network.config.widths[0], network.config.channels, 1)

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        time_at: Float[Tensor, "b"],
        time_to: Float[Tensor, "b"],
        cond: Mapping[str, Tensor],
    ) -> Float[Tensor, "b c h w"]:
        """The estimate for these conditions, whatever the values of x."""
        summary = None if self.text is None else self.text.read(x, cond)[2]
        drawn: Tensor = self.head(self.canvas(self.embedding(time_at, time_to, cond, summary)))
        return drawn


def prompt_only(network: nn.Module) -> PromptOnly:
    """These parts of a network, with the same map each time.

    Raises:
        ValueError: it is not a U-Net of fewstep's with a canvas.
    """
    if not isinstance(network, UNet):
        raise ValueError(f"network must be unet for a training on prompts alone, got {type(network).__name__}")
    torch.manual_seed(0)
    return PromptOnly(network)


def train_prompt_only(
    network: nn.Module,
    source: BatchSource,
    config: TrainingConfig,
    out: Path,
    facts: Mapping[str, Any],
    sigma_data: float,
) -> None:
    """Train these parts of a network on the data, in place; see `train`.

    Args:
        network: the network.
        source: the batches.
        config: the training settings.
        out: a directory for this run only.
        facts: JSON values that identify the run.
        sigma_data: standard deviation of the data.
    """
    parts = prompt_only(network)
    objective = Diffusion(NOISE, sigma_data)
    average = train(parts, Edm(sigma_data), objective, source, config, out, facts=dict(facts))
    parts.load_state_dict(average.state_dict())
