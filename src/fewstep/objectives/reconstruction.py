"""The objective of a codec's autoencoder: reconstructing pictures from noised latents.

The distance is smooth L1 on pixels and L1 on their gradients, and both again on pictures averaged over 2 × 2 and
4 × 4 pixels, where an error in shade weighs more than one in position. Noise with a standard deviation drawn
uniformly from 0 to `noise` is added to the normalised latents.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fewstep.core.levels import Level
from fewstep.core.parameterisations import Estimator, Targets
from fewstep.objectives.curricula import Clock
from fewstep.objectives.objective import Batch, Loss, Objective, mean_loss
from fewstep.objectives.times import Rng


@dataclass(frozen=True)
class Reconstruction(Objective):
    """Reconstruct pictures. The student is an autoencoder; the level of a sample is the noise level of its latents.

    Args:
        latents: channels of the latents.
        factor: side in pixels of the square that becomes one latent position.
        noise: largest standard deviation of the noise added to latents, which have a deviation of 1.
        beta: point where smooth L1 changes from a parabola to a line, for pixels in [0, 1].
        edges: weight of the gradients' error, relative to that of the pixels.
        scales: number of times that the pictures are halved.
        margin: how far beyond 0 and 1 the decoder aims, so that transparent pixels are exactly 0 after clamping.
    """

    latents: int = 32
    factor: int = 16
    noise: float = 0.5
    beta: float = 0.1
    edges: float = 1.0
    scales: int = 2
    margin: float = 0.02
    targets: Targets = Targets.SAME

    def __post_init__(self) -> None:
        for name in ("noise", "edges", "scales", "margin"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.beta <= 0:
            raise ValueError(f"beta must be above 0, got {self.beta}")

    def __call__(self, student: Estimator, target: Estimator, batch: Batch, clock: Clock, rng: Rng) -> Loss:
        pixels = batch.data
        size, _, height, width = pixels.shape
        strength = self.noise * rng.uniform((size,))
        at = Level(torch.ones_like(strength).double(), strength.double())
        noise = rng.normal((size, self.latents, height // self.factor, width // self.factor))
        decoded = student(pixels, at, at, {"noise": noise})
        wanted = pixels * (1 + 2 * self.margin) - self.margin
        squared = (decoded - wanted).detach().square().mean()
        return mean_loss(self.distance(decoded, wanted), at, squared_error=squared)

    def distance(self, decoded: Tensor, wanted: Tensor) -> Tensor:
        """The distance [b] between pictures [b, c, h, w]."""
        total = torch.zeros(len(decoded), device=decoded.device)
        for scale in range(self.scales + 1):
            if scale:
                decoded, wanted = F.avg_pool2d(decoded, 2), F.avg_pool2d(wanted, 2)
            pixels = F.smooth_l1_loss(decoded, wanted, reduction="none", beta=self.beta)
            total = total + pixels.mean(dim=(1, 2, 3)) + self.edges * gradient_error(decoded - wanted)
        return total


def gradient_error(difference: Tensor) -> Tensor:
    """The mean absolute gradient of a difference, along rows and columns: [b, c, h, w] to [b]."""
    across = (difference[..., 1:] - difference[..., :-1]).abs().mean(dim=(1, 2, 3))
    down = (difference[..., 1:, :] - difference[..., :-1, :]).abs().mean(dim=(1, 2, 3))
    return (across + down) / 2
