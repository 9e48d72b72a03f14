"""`fewstep edit …`: images made from images, and between images, by the model as it is."""

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
    """Fill the part of an image that a mask leaves open; the rest comes back bit for bit.

    Without --fit the noise is corrected once where there is no prompt, and not at all with one.

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
    """Draw beyond an image's borders; the image itself comes back bit for bit.

    Without --fit the noise is corrected four times.

    Args:
        image: The image.
        prompt: What the whole image shows. A model that knows things at one size draws them once more around the
            image: leave it empty then.
        margin: How far to draw beyond every border that has no option of its own.
    """
    sides = {"left": left, "top": top, "right": right, "bottom": bottom}
    shares = {name: margin if share is None else share for name, share in sides.items()}
    draw(drawing, [prompt], Edit.beyond(open_image(image, "image"), **shares, fit=fit))
    return 0


@drawing_command()
def stroke(image: Path, prompt: str = "", /, *, strength: float = 0.7, drawing: Drawing) -> int:
    """Make an image of a coloured sketch, or of any image (SDEdit): its colours and places, the prompt's details.

    Args:
        image: The sketch.
        prompt: What it should become.
    """
    draw(drawing, [prompt], Edit(open_image(image, "image"), strength=strength))
    return 0


@drawing_command()
def vary(image: Path, prompt: str | None = None, /, *, strength: float = 0.5, drawing: Drawing) -> int:
    """Draw other versions of an image: noise it to a level below pure noise and draw from there.

    Args:
        image: The image.
        prompt: What it shows; by default the prompt in its record.
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
    """Give a grey image colours, at its own size; every pixel keeps its grey and its transparency.

    Without --fit the noise is corrected four times where there is no prompt, and not at all with one.

    Args:
        image: The image; of a coloured one the grey is taken.
        prompt: What it shows, which says most about its colours; by default the prompt in its record.
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
    """Draw a small image at the model's size; each of its pixels is the mean of those drawn in its place.

    Without --fit the noise is corrected four times where there is no prompt, and once with one.

    Args:
        image: The image, of at most half the model's sides.
        prompt: What it shows; by default the prompt in its record.
    """
    opened = open_image(image, "image")
    draw(drawing, [_shown(opened, prompt)], Edit.super_resolve(opened, strength=strength, fit=fit))
    return 0


@drawing_command()
def denoise(image: Path, prompt: str | None = None, /, *, noise: float | None = None, drawing: Drawing) -> int:
    """Take the noise out of an image: it goes into the model as it is, at the level of its noise, for one step.

    Args:
        image: The image.
        prompt: What it shows; by default the prompt in its record.
    """
    opened = open_image(image, "image")
    draw(drawing, [_shown(opened, prompt)], Edit.denoise(opened, noise=noise))
    return 0


def _shown(picture: Image.Image, prompt: str | None) -> str:
    """The prompt, or the one in a picture's record."""
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
    """Draw the images between two prompts or seeds; the first and the last are what generate draws for them.

    All images have one seed, unless --to-seed gives another for the last. Without --n there are 8 of them.

    Args:
        prompt: What the first image shows.
        to_prompt: What the last image shows; the same if left out.
        film: Write all of them into one animated .webp or .png too, forwards and backwards.
    """
    if to_prompt is None and to_seed is None:
        raise ValueError("to_prompt or to_seed must say where to go: a second prompt, or --to-seed")
    if film is not None and position is not None:
        raise ValueError("--film shows all images: leave out --position, or --film")
    if film is not None:
        check_film(film)
    if position is None and drawing.values["n"] is None:
        drawing = drawing.with_values(n=8)
    ends = {"to_prompt": to_prompt, "to_seed": to_seed, "position": position}
    paths = draw(drawing.with_values(**ends), [prompt])
    if film is not None:
        write_film(film, paths)
    return 0
