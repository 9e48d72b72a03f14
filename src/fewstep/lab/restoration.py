"""How well a model restores real pictures with a part missing: pixel error, and whether a judge recognises them.

The right half is missing, or the colours, or all but the means of blocks. Without the picture's caption or class, the
rest of the picture is all that a model can use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from fewstep.editing.edits import Edit
from fewstep.generation.model import Model
from fewstep.measure.subjects import Subject, matches
from fewstep.pictures.pixels import to_image, to_pixels

SETTINGS = ((1, 0), (2, 0), (4, 0), (8, 0), (1, 1), (1, 2), (1, 4), (2, 1))
"""Steps, and corrections of the noise before each."""
FACTOR = 4
"""The factor by which pictures are downscaled for super-resolution."""


Restoration = Literal["inpaint", "colorize", "super-resolve"]


@dataclass(frozen=True)
class RestorationRow:
    """Results for one number of steps and noise corrections, over all pictures.

    A row with 0 evaluations is the baseline without a model: grey, or smooth upscaling.

    Args:
        evaluations: network evaluations for one picture, from its record.
        error: root mean square error of pixels in [0, 1]; for `inpaint`, of the free half only.
        right: share of pictures that the judge recognises.
    """

    steps: int
    fit: int
    evaluations: int
    error: float
    right: float


def restorations(
    model: Model,
    subject: Subject,
    n: int = 200,
    seed: int = 0,
    progress: Callable[[str], None] = lambda text: None,
    edit: Restoration = "inpaint",
    captioned: bool = False,
) -> list[RestorationRow]:
    """Restore real pictures with several numbers of steps and noise corrections.

    Args:
        model: the model to restore with.
        subject: the pictures and their judge.
        n: number of pictures.
        seed: seed of the choice of pictures and of the noise.
        progress: called with a line of text for each step of the work.
        edit: what is missing: the right half, the colours, or all but the means of 4 × 4 pixels.
        captioned: whether the model is given each picture's caption or class.

    Raises:
        RequestError: the model's sampler is not `consistency`, or the model has no colours.
    """
    queries = subject.queries(n, seed)
    real = subject.real(queries, 0)
    whole = [to_image(pixels, model.spec.pixel_format) for pixels in real]
    given, plain = zip(*[_given(picture, edit) for picture in whole], strict=True)
    first = real.shape[-1] // 2 if edit == "inpaint" else 0

    def row(steps: int, fit: int, evaluations: int, pictures: Sequence[Image.Image]) -> RestorationRow:
        answers = np.stack([to_pixels(one, model.spec.pixels, model.spec.pixel_format) for one in pictures])
        right = float(matches(queries, subject.judge(answers)).mean())
        error = float(np.sqrt(np.mean((answers - real)[..., first:] ** 2)))
        progress(f"steps {steps}, fit {fit}: error {error:.3f}, {right:.1%} right")
        return RestorationRow(steps, fit, evaluations, round(error, 4), round(right, 4))

    rows = [] if edit == "inpaint" else [row(0, 0, 0, plain)]
    for steps, fit in SETTINGS:
        drawn = []
        for position, (picture, query) in enumerate(zip(given, queries, strict=True)):
            prompt, label = (query.prompt, query.label) if captioned else ("", None)
            choices: dict[str, Any] = {"label": label, "seed": seed + position, "edit": _edit(picture, edit, fit)}
            drawn.append(model.generate(prompt, steps=steps, sampler="consistency", **choices))
        rows.append(row(steps, fit, drawn[-1].record.network_evaluations, drawn))
    return rows


def _given(picture: Image.Image, edit: Restoration) -> tuple[Image.Image, Image.Image]:
    """The degraded picture, and the same at full size without a model."""
    if edit == "inpaint":
        return picture, picture
    if edit == "colorize":
        grey = picture.convert("LA" if picture.mode == "RGBA" else "L").convert(picture.mode)
        return grey, grey
    premultiplied = picture.convert("RGBa") if picture.mode == "RGBA" else picture
    small = premultiplied.reduce(FACTOR)
    smooth = small.resize(picture.size, Image.Resampling.BICUBIC)
    return small.convert(picture.mode), smooth.convert(picture.mode)


def _edit(picture: Image.Image, edit: Restoration, fit: int) -> Edit:
    if edit != "inpaint":
        return Edit.named(edit, picture, fit=fit)
    mask = Image.new("L", picture.size, "black")
    mask.paste("white", (picture.width // 2, 0, *picture.size))
    return Edit(picture, mask, fit=fit)
