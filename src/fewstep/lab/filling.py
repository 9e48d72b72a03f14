"""What a model makes of real pictures that miss a part: how near to the truth, and whether it is recognised.

The right half is missing, or the colour, or all but the means of blocks. Unless it is told what the picture shows,
all that a model can go by is what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from fewstep.editing.edits import Edit
from fewstep.generation.model import Model
from fewstep.measure.subjects import Subject, answered
from fewstep.pictures.pixels import to_image, to_pixels

WAYS = ((1, 0), (2, 0), (4, 0), (8, 0), (1, 1), (1, 2), (1, 4), (2, 1))
"""Steps, and corrections of the noise before each."""
FACTOR = 4
"""How much smaller a picture is that is drawn larger."""


Restoring = Literal["inpaint", "colorize", "super-resolve"]


@dataclass(frozen=True)
class Filling:
    """One way to fill, over all pictures. Without evaluations it is what needs no model: grey, or enlarged smoothly.

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


def fillings(
    model: Model,
    subject: Subject,
    n: int = 200,
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
    edit: Restoring = "inpaint",
    told: bool = False,
) -> list[Filling]:
    """Restore real pictures, in several numbers of steps and corrections.

    Args:
        model: who draws.
        subject: whose pictures, and who judges.
        n: pictures.
        seed: chooses them and the noise.
        say: told what happens.
        edit: what is missing: the right half, the colours, or all but the means of 4 × 4 pixels.
        told: whether the model gets each picture's caption or class.

    Raises:
        RequestError: the model is not sampled by `consistency`, or has no colours.
    """
    asks = subject.asks(n, seed)
    real = subject.real(asks, 0)
    whole = [to_image(pixels, model.spec.pixel_format) for pixels in real]
    given, plain = zip(*[_given(picture, edit) for picture in whole], strict=True)
    first = real.shape[-1] // 2 if edit == "inpaint" else 0

    def row(steps: int, fit: int, evaluations: int, pictures: Sequence[Image.Image]) -> Filling:
        answers = np.stack([to_pixels(one, model.spec.pixels, model.spec.pixel_format) for one in pictures])
        right = float(answered(asks, subject.judge(answers)).mean())
        error = float(np.sqrt(np.mean((answers - real)[..., first:] ** 2)))
        say(f"steps {steps}, fit {fit}: error {error:.3f}, {right:.1%} right")
        return Filling(steps, fit, evaluations, round(error, 4), round(right, 4))

    rows = [] if edit == "inpaint" else [row(0, 0, 0, plain)]
    for steps, fit in WAYS:
        drawn = []
        for position, (picture, ask) in enumerate(zip(given, asks, strict=True)):
            prompt, label = (ask.prompt, ask.label) if told else ("", None)
            choices: dict[str, Any] = {"label": label, "seed": seed + position, "edit": _edit(picture, edit, fit)}
            drawn.append(model.generate(prompt, steps=steps, sampler="consistency", **choices))
        rows.append(row(steps, fit, drawn[-1].record.network_evaluations, drawn))
    return rows


def _given(picture: Image.Image, edit: Restoring) -> tuple[Image.Image, Image.Image]:
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


def _edit(picture: Image.Image, edit: Restoring, fit: int) -> Edit:
    if edit != "inpaint":
        return Edit.named(edit, picture, fit=fit)
    mask = Image.new("L", picture.size, "black")
    mask.paste("white", (picture.width // 2, 0, *picture.size))
    return Edit(picture, mask, fit=fit)
