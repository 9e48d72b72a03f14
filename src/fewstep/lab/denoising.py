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
    """Results at one noise level, over all pictures.

    Args:
        noise: standard deviation of the noise added to pixels in [0, 1]; the noisy pixels are clipped.
        estimated: mean of the noise levels estimated from the pictures.
        before: root mean square error of the noisy pictures.
        error: root mean square error after denoising at the estimated level.
        error_known_noise: root mean square error after denoising at the true level.
        right_before, right: share of pictures that the judge still recognises, before and after denoising.
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
        model: the model that denoises.
        subject: the pictures and their judge.
        n: number of pictures.
        seed: seed of the choice of pictures and of the noise.
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
