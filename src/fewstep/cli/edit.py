"""`fewstep edit …`: edit images and interpolate between them, with the model as it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fewstep.cli.drawing import draw, open_image, write_film
from fewstep.cli.options import Drawing, drawing_command
from fewstep.cli.output import check_film
from fewstep.generation import Edit
from fewstep.pictures.generated import prompt_of

if TYPE_CHECKING:
    from PIL import Image


@drawing_command()
def inpaint(
    image: Path,
    prompt: str = "",
    /,
    *,
    mask: Path,
    strength: float = 1.0,
    fit: int | None = None,
    drawing: Drawing,
) -> int:
    """Redraw the masked part of an image; the rest stays the same, bit for bit.

    If --fit is left out, the noise is corrected once without a prompt, and not at all with one.

    Args:
        image: The image.
        prompt: What to draw there.
    """
    draw(drawing, [prompt], Edit(open_image(image, "image"), open_image(mask, "mask"), strength, fit))
    return 0


@drawing_command()
def outpaint(
    image: Path,
    prompt: str = "",
    /,
    *,
    margin: float = 0.0,
    left: float | None = None,
    top: float | None = None,
    right: float | None = None,
    bottom: float | None = None,
    fit: int | None = None,
    drawing: Drawing,
) -> int:
    """Extend an image beyond its borders; the image itself stays the same, bit for bit.

    If --fit is left out, the noise is corrected four times.

    Args:
        image: The image.
        prompt: What the whole image shows. Leave it empty for a model that draws objects at one size only: it would
            draw the object a second time around the image.
        margin: How far to draw beyond each border for which no separate option is given.
    """
    sides = {"left": left, "top": top, "right": right, "bottom": bottom}
    shares = {name: margin if share is None else share for name, share in sides.items()}
    draw(drawing, [prompt], Edit.beyond(open_image(image, "image"), **shares, fit=fit))
    return 0


@drawing_command()
def stroke(image: Path, prompt: str = "", /, *, strength: float = 0.7, drawing: Drawing) -> int:
    """Turn a coloured sketch, or any image, into an image with the same colours and layout and new details (SDEdit).

    Args:
        image: The sketch.
        prompt: What the new image shows.
    """
    draw(drawing, [prompt], Edit(open_image(image, "image"), strength=strength))
    return 0


@drawing_command()
def vary(image: Path, prompt: str | None = None, /, *, strength: float = 0.5, drawing: Drawing) -> int:
    """Draw variations of an image: add noise up to a level below pure noise, and sample from there.

    Args:
        image: The image.
        prompt: What it shows; if left out, the prompt in its record.
    """
    opened = open_image(image, "image")
    draw(drawing, [_shown(opened, prompt)], Edit(opened, strength=strength))
    return 0


@drawing_command()
def colorize(
    image: Path,
    prompt: str | None = None,
    /,
    *,
    strength: float = 1.0,
    fit: int | None = None,
    drawing: Drawing,
) -> int:
    """Colour a grey image at its own size; every pixel keeps its grey value and its transparency.

    If --fit is left out, the noise is corrected four times without a prompt, and not at all with one.

    Args:
        image: The image; a coloured one is converted to grey first.
        prompt: What it shows, which says most about its colours; if left out, the prompt in its record.
    """
    opened = open_image(image, "image")
    draw(drawing, [_shown(opened, prompt)], Edit.colorize(opened, strength=strength, fit=fit))
    return 0


@drawing_command()
def super_resolve(
    image: Path,
    prompt: str | None = None,
    /,
    *,
    strength: float = 1.0,
    fit: int | None = None,
    drawing: Drawing,
) -> int:
    """Enlarge a small image to the model's size; each pixel of it is the mean of the pixels drawn in its place.

    If --fit is left out, the noise is corrected four times without a prompt, and once with one.

    Args:
        image: The image, at most half as wide and as high as those of the model.
        prompt: What it shows; if left out, the prompt in its record.
    """
    opened = open_image(image, "image")
    draw(drawing, [_shown(opened, prompt)], Edit.super_resolve(opened, strength=strength, fit=fit))
    return 0


@drawing_command()
def denoise(image: Path, prompt: str | None = None, /, *, noise: float | None = None, drawing: Drawing) -> int:
    """Remove the noise from an image: the model takes it as it is, at its noise level, and denoises it in one step.

    Args:
        image: The image.
        prompt: What it shows; if left out, the prompt in its record.
    """
    opened = open_image(image, "image")
    draw(drawing, [_shown(opened, prompt)], Edit.denoise(opened, noise=noise))
    return 0


def _shown(picture: Image.Image, prompt: str | None) -> str:
    """The prompt, or if it is None, the one in the picture's record."""
    return prompt_of(picture) if prompt is None else prompt


@drawing_command(n=None)
def interpolate(
    prompt: str = "",
    to_prompt: str | None = None,
    /,
    *,
    to_seed: int | None = None,
    position: float | None = None,
    film: Path | None = None,
    drawing: Drawing,
) -> int:
    """Interpolate between two prompts or seeds; the first and last images are those that generate draws for each.

    All images have the same seed, unless --to-seed gives another for the last. If --n is left out, 8 are drawn.

    Args:
        prompt: What the first image shows.
        to_prompt: What the last image shows; if left out, the same.
        film: Also write all images as one animated .webp or .png, which plays forwards and backwards.
    """
    if to_prompt is None and to_seed is None:
        raise ValueError("an interpolation needs a second prompt, or a second seed (--to-seed)")
    if film is not None and position is not None:
        raise ValueError("--film shows all images, --position draws only one: leave out one of them")
    if film is not None:
        check_film(film)
    if position is None and drawing.values["n"] is None:
        drawing = drawing.with_values(n=8)
    ends = {"to_prompt": to_prompt, "to_seed": to_seed, "position": position}
    paths = draw(drawing.with_values(**ends), [prompt])
    if film is not None:
        write_film(film, paths)
    return 0
