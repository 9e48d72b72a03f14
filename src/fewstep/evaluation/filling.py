"""What a model makes of the missing half of a real picture: how near to the truth, and whether it is recognised.

No prompt tells what the picture shows, so all that the free half can fit is the half that is there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from fewstep.evaluation.subjects import Subject, answered
from fewstep.generation.edits import Edit
from fewstep.generation.images import to_image, to_pixels
from fewstep.generation.model import Model

WAYS = ((1, 0), (2, 0), (4, 0), (8, 0), (1, 1), (1, 2), (1, 4), (2, 1))
"""Steps, and corrections of the noise before each."""


@dataclass(frozen=True)
class Filling:
    """One way to fill, over all pictures.

    Args:
        evaluations: of the network for one picture, as its record says.
        error: root mean square over the numbers of the free half, of pixels in [0, 1].
        right: share of pictures that the judge takes for what they were.
    """

    steps: int
    fit: int
    evaluations: int
    error: float
    right: float


def fillings(
    model: Model, subject: Subject, n: int = 200, seed: int = 0, say: Callable[[str], None] = lambda text: None
) -> list[Filling]:
    """Fill the right half of real pictures, in several numbers of steps and corrections.

    Args:
        model: who fills.
        subject: whose pictures, and who judges.
        n: pictures.
        seed: chooses them and the noise.
        say: told what happens.

    Raises:
        RequestError: the model is not sampled by `consistency`.
    """
    asks = subject.asks(n, seed)
    real = subject.real(asks, 0)
    half = real.shape[-1] // 2
    mask = Image.new("L", (real.shape[-1], real.shape[-2]), "black")
    mask.paste("white", (half, 0, *mask.size))
    rows = []
    for steps, fit in WAYS:
        drawn, evaluations = [], 0
        for position, pixels in enumerate(real):
            edit = Edit(to_image(pixels, model.spec.pixel_format), mask, fit=fit)
            picture = model.generate("", steps=steps, sampler="consistency", seed=seed + position, edit=edit)
            evaluations = picture.record.network_evaluations
            drawn.append(to_pixels(picture, model.spec.pixels, model.spec.pixel_format))
        answers = np.stack(drawn)
        right = float(answered(asks, subject.judge(answers)).mean())
        error = float(np.sqrt(np.mean((answers - real)[..., half:] ** 2)))
        rows.append(Filling(steps, fit, evaluations, round(error, 4), round(right, 4)))
        say(f"steps {steps}, fit {fit}: error {error:.3f}, {right:.1%} right")
    return rows
