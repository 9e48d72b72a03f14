"""How much of the noise in real pictures a model takes out in one jump, without being told what they show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fewstep.core.randomness import noise
from fewstep.editing.edits import Edit
from fewstep.generation.model import Model
from fewstep.measure.subjects import Subject, answered
from fewstep.pictures.pixels import noise_of, to_image, to_pixels

NOISES = (0.05, 0.1, 0.2, 0.4)


@dataclass(frozen=True)
class Denoising:
    """One amount of noise, over all pictures.

    Args:
        noise: its standard deviation, of pixels in [0, 1], which are clipped again.
        estimated: the mean of what is estimated of the pictures.
        before: root mean square of what noise and clipping changed.
        error: what is left by the estimate.
        told: what is left if the noise is told.
        right_before, right: share that the judge takes for what they were, noisy and by the estimate.
    """

    noise: float
    estimated: float
    before: float
    error: float
    told: float
    right_before: float
    right: float


def denoisings(
    model: Model, subject: Subject, n: int = 200, seed: int = 0, say: Callable[[str], None] = lambda text: None
) -> list[Denoising]:
    """Take noise out of real pictures.

    Args:
        model: who draws.
        subject: whose pictures, and who judges.
        n: pictures.
        seed: chooses them and the noise.
        say: told what happens.
    """
    asks = subject.asks(n, seed)
    real = subject.real(asks, 0)
    spec = model.spec

    def error(pixels: Any) -> float:
        return round(float(np.sqrt(np.mean((pixels - real) ** 2))), 4)

    def right(pixels: Any) -> float:
        return round(float(answered(asks, subject.judge(pixels)).mean()), 4)

    rows = []
    for amount in NOISES:
        noisy = [
            to_image(pixels + amount * noise(seed + i, pixels.shape), spec.pixel_format)
            for i, pixels in enumerate(real)
        ]
        before = np.stack([to_pixels(picture, spec.pixels, spec.pixel_format) for picture in noisy])
        made = {}
        for told in (None, amount):
            drawn = [model.generate(seed=seed, edit=Edit.denoise(picture, noise=told)) for picture in noisy]
            made[told] = np.stack([to_pixels(picture, spec.pixels, spec.pixel_format) for picture in drawn])
        mean = round(float(np.mean([noise_of(pixels) for pixels in before])), 4)
        errors = error(before), error(made[None]), error(made[amount])
        rows.append(Denoising(amount, mean, *errors, right(before), right(made[None])))
        say(f"noise {amount}: error {errors[0]:.3f} before, {errors[1]:.3f} after")
    return rows
