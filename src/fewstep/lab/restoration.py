"""How well a model restores real pictures of which a part is missing: how near to the truth, and whether recognised.

The right half is missing, or the colour, or all but the means of blocks. Without the picture's caption or class all
that a model can go by is what is there.
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
"""How much smaller a picture is that is drawn larger."""


Restoration = Literal["inpaint", "colorize", "super-resolve"]


@dataclass(frozen=True)
class RestorationRow:
    """One number of steps and corrections, over all pictures.

    Without evaluations it is what needs no model: grey, or enlarged smoothly.

    Args:
        evaluations: of the network for one picture, as its record says.
        error: root mean square over the numbers of pixels in [0, 1]; with `inpaint`, of the free half.
        right: share of pictures that the judge takes for what they were.
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
    """Restore real pictures, in several numbers of steps and corrections.

    Args:
        model: what draws.
        subject: the pictures and their judge.
        n: pictures.
        seed: chooses them and the noise.
        progress: called with a line of text for each step of the work.
        edit: what is missing: the right half, the colours, or all but the means of 4 × 4 pixels.
        captioned: whether the model gets each picture's caption or class.

    Raises:
        RequestError: the model is not sampled by `consistency`, or has no colours.
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
    """What is left of a picture, and that at its size by no model."""
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
