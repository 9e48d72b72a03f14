"""`fewstep edit …`: images made from images, and between images, by the model as it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from fewstep.cli.drawing import EngineName, Where, background_for, check_count, draw_all, open_image, write_film
from fewstep.cli.output import check_film, check_json

if TYPE_CHECKING:
    from PIL import Image

    from fewstep.generation import Edit


@dataclass(frozen=True)
class Drawing:
    """How to draw, as for `fewstep generate`.

    Args:
        model: A built-in model, a directory, or user/name on the Hugging Face hub.
        steps: Jumps, 1 to 1000; the model's own choice if left out.
        seed: The first image's seed; drawn at random if left out. Image i has seed + i.
        n: Images.
        guidance: How strongly the prompt steers, 1 to 20; models with distilled guidance have a smaller range.
        size: WIDTHxHEIGHT; by default the image's own where some of it is kept, else the model's.
        background: transparent, white, black or #rrggbb; a JPEG has no transparency and is white if left out.
        out: A file (.png, .jpg, .webp), which is replaced, or an existing directory; by default here.
        engine: onnx and openvino need no torch; eager and compiled are PyTorch; auto takes the fastest that
            fewstep bench engines measured on this machine.
        precision: Of the arithmetic; openvino has bfloat16.
        device: For eager and compiled: cpu, cuda, mps.
        metadata: Whether to write the record into the image.
        json: Write a report as JSON to this file, or to standard output with -.
    """

    model: str = "emoji"
    steps: int | None = None
    seed: int | None = None
    n: int = 1
    guidance: float | None = None
    size: str | None = None
    background: str | None = None
    out: Path | None = None
    engine: EngineName = "onnx"
    precision: Literal["float32", "bfloat16"] | None = None
    device: str = "cpu"
    metadata: bool = True
    json: str | None = None

    def run(self, prompt: str, edit: Edit | None = None, **choices: Any) -> list[Path]:
        """Draw the edit, or what other fields of a request say, and write its images: their files."""
        from fewstep.generation import Request
        from fewstep.generation.request import parse_size

        check_json(self.json)
        background = background_for(self.background, self.out)
        check_count(self.n)
        request = Request(
            prompt=prompt,
            seed=self.seed,
            steps=self.steps,
            images=self.n,
            guidance=self.guidance,
            size=None if self.size is None else parse_size(self.size),
            background=background,
            edit=edit,
            **choices,
        )
        where = Where(self.engine, self.precision, self.device)
        return draw_all([request], self.model, where, self.out, self.metadata, self.json)


Options = Annotated[Drawing, tyro.conf.arg(name="")]
PLAIN = Drawing()
WAY = Drawing(n=8)


def inpaint(
    image: Path,
    prompt: str = "",
    /,
    *,
    mask: Path,
    strength: float = 1.0,
    fit: int | None = None,
    drawing: Options = PLAIN,
) -> int:
    """Fill the part of an image that a mask leaves open; all the rest comes back bit for bit.

    Args:
        image: The image.
        prompt: What to draw there.
        mask: An image of the same size: its transparent pixels may change, or its white ones if it has no alpha.
        strength: How little is left of what stood there, above 0 to 1; at 1 it is not looked at.
        fit: Corrections of the noise, so that what is drawn fits what is kept, 0 to 8; each costs two evaluations of
            the network. If left out 1 without a prompt, 0 with one.
        drawing: How to draw.
    """
    from fewstep.generation import Edit

    edit = Edit(open_image(image, "image"), open_image(mask, "mask"), strength, fit)
    drawing.run(prompt, edit)
    return 0


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
    drawing: Options = PLAIN,
) -> int:
    """Draw what lies beyond an image's borders; the image itself comes back bit for bit.

    Args:
        image: The image.
        prompt: What the whole shows. A model that knows things at one size draws them once more around the image:
            leave it empty then.
        margin: How far beyond each border, in shares of the image's width or height, 0 to 2.
        left: How far to the left, instead of margin; likewise the others.
        top: How far upwards.
        right: How far to the right.
        bottom: How far downwards.
        fit: As for fewstep edit inpaint; 4 if left out.
        drawing: How to draw.
    """
    from fewstep.generation import Edit

    sides = {"left": left, "top": top, "right": right, "bottom": bottom}
    far = {name: margin if share is None else share for name, share in sides.items()}
    drawing.run(prompt, Edit.beyond(open_image(image, "image"), **far, fit=fit))
    return 0


def stroke(image: Path, prompt: str = "", /, *, strength: float = 0.7, drawing: Options = PLAIN) -> int:
    """Make an image of a coloured sketch, or of any image (SDEdit): its colours and places, the prompt's details.

    Args:
        image: The sketch.
        prompt: What it shall become.
        strength: How far it may go from the sketch, above 0 to 1.
        drawing: How to draw.
    """
    from fewstep.generation import Edit

    drawing.run(prompt, Edit(open_image(image, "image"), strength=strength))
    return 0


def vary(image: Path, prompt: str | None = None, /, *, strength: float = 0.5, drawing: Options = PLAIN) -> int:
    """Draw other versions of an image: noise it to a level on the way and draw from there.

    Args:
        image: The image.
        prompt: What it shows; by default what its record says.
        strength: How different they may be, above 0 to 1.
        drawing: How to draw.
    """
    from fewstep.generation import Edit

    opened = open_image(image, "image")
    drawing.run(_told(opened, prompt), Edit(opened, strength=strength))
    return 0


def colorize(
    image: Path,
    prompt: str | None = None,
    /,
    *,
    strength: float = 1.0,
    fit: int | None = None,
    drawing: Options = PLAIN,
) -> int:
    """Give an image in grey its colours, at its own size; every pixel keeps its grey and its transparency.

    Args:
        image: The image; of a coloured one the grey is taken.
        prompt: What it shows, which tells most of the colours; by default what its record says.
        strength: How little of its brightness the colours go out from, above 0 to 1; at 1 from noise.
        fit: As for fewstep edit inpaint; if left out 4 without a prompt, 0 with one.
        drawing: How to draw.
    """
    from fewstep.generation import Edit

    opened = open_image(image, "image")
    drawing.run(_told(opened, prompt), Edit.colorize(opened, strength=strength, fit=fit))
    return 0


def super_resolve(
    image: Path,
    prompt: str | None = None,
    /,
    *,
    strength: float = 1.0,
    fit: int | None = None,
    drawing: Options = PLAIN,
) -> int:
    """Draw a small image at the model's size; each of its pixels is the mean of those that come in its place.

    Args:
        image: The image, of at most half the model's sides.
        prompt: What it shows; by default what its record says.
        strength: How little of the image the drawing goes out from, above 0 to 1; at 1 from noise.
        fit: As for fewstep edit inpaint; if left out 4 without a prompt, 1 with one.
        drawing: How to draw.
    """
    from fewstep.generation import Edit

    opened = open_image(image, "image")
    drawing.run(_told(opened, prompt), Edit.super_resolve(opened, strength=strength, fit=fit))
    return 0


def denoise(
    image: Path, prompt: str | None = None, /, *, noise: float | None = None, drawing: Options = PLAIN
) -> int:
    """Take the noise out of an image: it goes into the model as it is, at the level of its noise, for one jump.

    Args:
        image: The image.
        prompt: What it shows; by default what its record says.
        noise: The noise's standard deviation at the model's size, of pixels from 0 to 1; estimated if left out.
        drawing: How to draw.
    """
    from fewstep.generation import Edit

    opened = open_image(image, "image")
    drawing.run(_told(opened, prompt), Edit.denoise(opened, noise=noise))
    return 0


def _told(picture: Image.Image, prompt: str | None) -> str:
    """The prompt, or what a picture's record says that it shows."""
    from fewstep.pictures.generated import prompt_of

    return prompt_of(picture) if prompt is None else prompt


def interpolate(
    prompt: str = "",
    to_prompt: str | None = None,
    /,
    *,
    to_seed: int | None = None,
    position: float | None = None,
    film: Path | None = None,
    drawing: Options = WAY,
) -> int:
    """Draw the way from one prompt or seed to another; the first and last are what generate draws for them.

    Args:
        prompt: What to draw first.
        to_prompt: What to draw last; the same if left out.
        to_seed: The last image's seed; the first's if left out.
        position: One image at this place on the way, 0 to 1, instead of --n.
        film: All of them in one animated .webp or .png too, there and back.
        drawing: How to draw; all images have the one seed.
    """
    if to_prompt is None and to_seed is None:
        raise ValueError("to_prompt or to_seed must say where to: a second prompt, or --to-seed")
    if film is not None and position is not None:
        raise ValueError("--film is of all images: leave out --position, or --film")
    if film is not None:
        check_film(film)
    if position is not None:
        drawing = replace(drawing, n=1)
    elif drawing.n == 1:
        raise ValueError("--n of an interpolation must be at least 2, or give --position")
    paths = drawing.run(prompt, to_prompt=to_prompt, to_seed=to_seed, position=position)
    if film is not None:
        write_film(film, paths)
    return 0
