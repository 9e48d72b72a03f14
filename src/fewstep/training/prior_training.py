"""A network's prior, trained alone before the network: the mean picture of each prompt.

While x is noise, the best estimate of the data is their mean for the prompt. A whole U-Net learns it slowly, since
most of its work is done on x; a prior alone learns it much faster, and the U-Net is then given its picture
(docs/log/2026-12.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

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


class PriorAlone(nn.Module):
    """A U-Net's text encoder and prior as a network of their own. They are the U-Net's modules, so training them
    trains it.

    Args:
        network: the U-Net.

    Raises:
        ValueError: it has no prior.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        if not isinstance(network, UNet) or network.prior is None:
            raise ValueError(f"the network must be a unet with a prior, got {type(network).__name__} without one")
        self.config = network.config
        self.text, self.prior = network.text, network.prior

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        time_at: Float[Tensor, "b"],
        time_to: Float[Tensor, "b"],
        cond: Mapping[str, Tensor],
    ) -> Float[Tensor, "b c h w"]:
        """The picture for these conditions, whatever the values of x and the times."""
        summary = None if self.text is None else self.text.read(x, cond)[2]
        picture: Tensor = self.prior(x.shape[0], cond, summary)
        return picture


def train_prior(
    network: nn.Module,
    source: BatchSource,
    config: TrainingConfig,
    out: Path,
    facts: Mapping[str, Any],
    sigma_data: float,
) -> None:
    """Train a network's text encoder and prior on the data, in place; see `train`.

    Args:
        network: a U-Net with a prior, whose estimate D is F·σd where x is noise.
        source: the batches.
        config: the training settings.
        out: a directory for this run only.
        facts: JSON values that identify the run.
        sigma_data: standard deviation of the data.

    Raises:
        ValueError: the network has no prior.
    """
    parts = PriorAlone(network)
    average = train(parts, Edm(sigma_data), Diffusion(NOISE, sigma_data), source, config, out, facts=dict(facts))
    parts.load_state_dict(average.state_dict())
