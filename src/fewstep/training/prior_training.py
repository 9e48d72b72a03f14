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
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fewstep.core.parameterisations import Edm
from fewstep.models.parts import ModelError
from fewstep.networks.unet import UNet
from fewstep.objectives.diffusion import Diffusion
from fewstep.objectives.times import LogNormal
from fewstep.training.batches import BatchSource
from fewstep.training.config import TrainingConfig
from fewstep.training.loop import train
from fewstep.training.trainable import fingerprint

NOISE = LogNormal(5.0, 0.5)
"""Noise levels at which x tells nothing of the data."""


FILE = "prior.safetensors"
"""The trained weights, in float16, among a run's files."""


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
    start: Path | None = None,
) -> None:
    """Train a network's text encoder and prior on the data, in place, and save them in `out/prior.safetensors`; see
    `train`.

    Args:
        network: a U-Net with a prior, whose estimate D is F·σd where x is noise.
        source: the batches.
        config: the training settings.
        out: a directory for this run only.
        facts: JSON values that identify the run.
        sigma_data: standard deviation of the data.
        start: a file saved before, to train further; None for initial weights.

    Raises:
        ValueError: the network has no prior.
        ModelError: `start` does not fit.
    """
    parts = PriorAlone(network)
    if start is not None:
        _begin_with(parts, start)
    own = {**facts, "start": None if start is None else fingerprint(parts)}
    average = train(parts, Edm(sigma_data), Diffusion(NOISE, sigma_data), source, config, out, facts=own)
    parts.load_state_dict(average.state_dict())
    save_file({name: value.half().contiguous() for name, value in parts.state_dict().items()}, out / FILE)


def _begin_with(parts: PriorAlone, file: Path) -> None:
    try:
        weights = {name: value.float() for name, value in load_file(file).items()}
        parts.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"'{file}' does not hold the weights of this prior: {reason}") from error
