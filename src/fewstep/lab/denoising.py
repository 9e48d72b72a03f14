"""How much of the noise in real pictures a model removes in one jump, without their captions or classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fewstep.core.randomness import noise
from fewstep.editing.edits import Edit
from fewstep.generation.model import Model
from fewstep.measure.subjects import Subject, matches
from fewstep.pictures.pixels import noise_of, to_image, to_pixels

NOISES = (0.05, 0.1, 0.2, 0.4)


@dataclass(frozen=True)
class DenoisingRow:
    """One amount of noise, over all pictures.

    Args:
        noise: its standard deviation, of pixels in [0, 1], which are clipped again.
        estimated: the mean of what is estimated of the pictures.
        before: root mean square of what noise and clipping changed.
        error: what is left by the estimate.
        error_known_noise: what is left by the estimate with the true noise given.
        right_before, right: share that the judge takes for what they were, noisy and by the estimate.
    """

    noise: float
    estimated: float
    before: float
    error: float
    error_known_noise: float
    right_before: float
    right: float


def denoisings(
    model: Model, subject: Subject, n: int = 200, seed: int = 0, progress: Callable[[str], None] = lambda text: None
) -> list[DenoisingRow]:
    """Remove noise from real pictures.

    Args:
        model: what draws.
        subject: the pictures and their judge.
        n: pictures.
        seed: chooses them and the noise.
        progress: called with a line of text for each step of the work.
    """
    queries = subject.queries(n, seed)
    real = subject.real(queries, 0)
    spec = model.spec

    def error(pixels: Any) -> float:
        return round(float(np.sqrt(np.mean((pixels - real) ** 2))), 4)

    def right(pixels: Any) -> float:
        return round(float(matches(queries, subject.judge(pixels)).mean()), 4)

    rows = []
    for amount in NOISES:
        noisy = [
            to_image(pixels + amount * noise(seed + i, pixels.shape), spec.pixel_format)
            for i, pixels in enumerate(real)
        ]
        before = np.stack([to_pixels(picture, spec.pixels, spec.pixel_format) for picture in noisy])
        made = {}
        for given in (None, amount):
            drawn = [model.generate(seed=seed, edit=Edit.denoise(picture, noise=given)) for picture in noisy]
            made[given] = np.stack([to_pixels(picture, spec.pixels, spec.pixel_format) for picture in drawn])
        mean = round(float(np.mean([noise_of(pixels) for pixels in before])), 4)
        errors = error(before), error(made[None]), error(made[amount])
        rows.append(DenoisingRow(amount, mean, *errors, right(before), right(made[None])))
        progress(f"noise {amount}: error {errors[0]:.3f} before, {errors[1]:.3f} after")
    return rows
