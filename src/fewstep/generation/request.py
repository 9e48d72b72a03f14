"""What somebody asks for: the table of fields that every surface is made from, and a request, checked before anything
runs."""

from __future__ import annotations

import secrets
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from PIL import Image

from fewstep.core.randomness import MAX_SEED
from fewstep.editing.edits import EDIT_NAME, Edit
from fewstep.editing.errors import RequestError
from fewstep.editing.fields import (
    BY_PROGRAMS,
    FIT,
    MARGINS,
    MASK,
    NOISE,
    STRENGTH,
    Choice,
    Field,
    Flag,
    Integer,
    Number,
    Operation,
    Picture,
    Size,
    Surface,
    Text,
)
from fewstep.models.text import MAX_PROMPT
from fewstep.samplers import SAMPLERS

MAX_GUIDANCE = 20.0
"""The largest scale for models whose guidance is not distilled; those have ranges of their own."""

GUIDANCE = Number(
    name="guidance",
    help="How strongly the prompt steers; the model's own if left out, which may be another with a control "
    f"image. Up to {MAX_GUIDANCE:g}, or what the model was distilled for.",
    minimum=1,
    surfaces=BY_PROGRAMS,
)
STEPS = Integer(name="steps", help="Number of steps; the model's own if left out.", minimum=1, maximum=1000)
IMAGES = Integer(
    name="images",
    public="n",
    help="Number of images.",
    default=1,
    minimum=1,
    maximum=64,
    surfaces=BY_PROGRAMS,
)
SIZE = Size(
    name="size",
    help="Width and height in pixels; an image of another size than the model's own is resampled.",
    minimum=8,
    maximum=2048,
)
DRAWING: tuple[Field, ...] = (
    Text(name="prompt", help="What to draw; may be empty.", default="", maximum=MAX_PROMPT),
    Text(
        name="negative_prompt",
        help="What to steer away from.",
        default="",
        maximum=MAX_PROMPT,
        surfaces=BY_PROGRAMS,
        only="models whose guidance is not distilled",
    ),
    Integer(
        name="seed",
        help="The same seed draws the same image; image i has seed + i. Drawn at random if left out.",
        minimum=0,
        maximum=MAX_SEED,
    ),
    STEPS,
    IMAGES,
    Choice(
        name="sampler",
        help="The sampler; the model's own if left out.",
        choices=SAMPLERS.keys(),
        surfaces=BY_PROGRAMS,
    ),
    GUIDANCE,
    Number(
        name="gamma",
        help="The share of fresh noise between steps; if left out 1 for consistency, 0 for flow_map. Other samplers "
        "take none.",
        minimum=0,
        maximum=1,
        surfaces=BY_PROGRAMS,
    ),
    SIZE,
    Choice(
        name="background",
        help="What the image is laid on; opaque is white.",
        choices=("transparent", "white", "black"),
        aliases={"opaque": "white", "auto": None},
        pattern="#[0-9a-fA-F]{6}",
        example="#ffcc00",
        surfaces=BY_PROGRAMS,
    ),
    Integer(name="label", help="The number of a class.", minimum=0, surfaces=BY_PROGRAMS, only="models with classes"),
    Picture(
        name="control",
        help="An image to follow, such as a sketch. Models that draw transparent images take the paper of an opaque "
        "drawing (the one colour of its border) as transparent.",
        surfaces=BY_PROGRAMS,
        only="models with a control input",
    ),
    Number(
        name="control_strength",
        help="How strongly the control image steers, a guidance scale on it (2207.12598): 0 leaves it out, 1 is as "
        "the model was trained, more exaggerates. Any value but 0 and 1 costs a second network evaluation.",
        minimum=0,
        maximum=4,
        surfaces=BY_PROGRAMS,
    ),
    Flag(
        name="control_frame",
        help="Show a sketch to the model as large and central as things were in training, and lay the image back to "
        "its place; only where the model says how large that is, and nothing is edited.",
        default=True,
        surfaces=BY_PROGRAMS,
    ),
)
INTERPOLATION: tuple[Field, ...] = (
    Text(
        name="to_prompt",
        help="The last image's prompt, in an interpolation; the first one's if left out.",
        maximum=MAX_PROMPT,
        operation="interpolate",
    ),
    Integer(
        name="to_seed",
        help="The last image's seed, in an interpolation; the first one's if left out.",
        minimum=0,
        maximum=MAX_SEED,
        operation="interpolate",
    ),
    Number(
        name="position",
        help="Draw only the image at this position of an interpolation: 0 is its first image, 1 its last.",
        minimum=0,
        maximum=1,
        operation="interpolate",
    ),
)
OWN = (*DRAWING, *INTERPOLATION)
"""The fields of `Request` itself, but for `edit`, which is an object."""

FIELDS: Mapping[str, Field] = {field.name: field for field in (*OWN, MASK, STRENGTH, FIT, EDIT_NAME, NOISE, *MARGINS)}
"""Every field that a surface may carry."""


def fields_of(surface: Surface, *operations: Operation) -> tuple[Field, ...]:
    """The fields that a surface carries for these operations, in the table's order."""
    return tuple(f for f in FIELDS.values() if surface in f.surfaces and f.operation in operations)


@dataclass(frozen=True)
class Interpolation:
    """From a request's prompt and seed to others.

    Args:
        positions: of each image: 0 is the request's own prompt and seed, 1 these.
        prompt, seed: of the other end; None leaves the request's.
    """

    positions: tuple[float, ...]
    prompt: str | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Request:
    """One request: a prompt and how to draw it.

    None means the model's own choice. Numbers of NumPy and other libraries become Python's. With `to_prompt`,
    `to_seed` or both the images, 2 or more, go in even steps from prompt and seed to these; the first and the last
    are to the bit what `generate` draws for either.

    Raises:
        RequestError: a field is out of bounds, or two of them do not go together.
    """

    prompt: str = ""
    negative_prompt: str = ""
    seed: int | None = None
    steps: int | None = None
    images: int = 1
    sampler: str | None = None
    guidance: float | None = None
    gamma: float | None = None
    size: tuple[int, int] | None = None
    background: str | None = None
    label: int | None = None
    control: Image.Image | None = None
    control_strength: float | None = None
    control_frame: bool = True
    edit: Edit | None = None
    to_prompt: str | None = None
    to_seed: int | None = None
    position: float | None = None

    def __post_init__(self) -> None:
        for field in OWN:
            value = getattr(self, field.name)
            if value is not None or field.default is not None:
                object.__setattr__(self, field.name, field.check(value))
        if self.edit is not None and not isinstance(self.edit, Edit):
            raise RequestError("edit", f"edit must be an Edit, got a {type(self.edit).__name__}")
        if self.control_strength is not None and self.control is None:
            raise RequestError("control_strength", "control_strength needs a control image")
        self._check_images()

    @classmethod
    def from_public(cls, values: Mapping[str, Any], edit: Edit | None = None) -> Self:
        """A request as a surface was asked for it.

        Args:
            values: by public name; None is as if left out, and what is no field of `Request` is not looked at.
            edit: made of the fields of an edit.

        Raises:
            RequestError: as for `Request`, with the public name of the field.
        """
        given = {
            field.name: field.check(values[field.public], field.public)
            for field in OWN
            if values.get(field.public) is not None
        }
        try:
            return cls(**given, edit=edit)
        except RequestError as error:
            raise error.called({field.name: field.public for field in OWN}) from None

    def seeded(self) -> Self:
        """The request with a seed: its own, or one drawn at random, below 2³²."""
        return self if self.seed is not None else replace(self, seed=secrets.randbelow(2**32))

    @property
    def is_controlled(self) -> bool:
        """Whether a control image steers."""
        return self.control is not None and self.control_strength != 0

    @property
    def interpolation(self) -> Interpolation | None:
        """The interpolation that is asked for, if one is."""
        if self.to_prompt is None and self.to_seed is None:
            return None
        last = self.images - 1
        positions = [i / last for i in range(self.images)] if self.position is None else [self.position]
        return Interpolation(tuple(positions), self.to_prompt, self.to_seed)

    def _check_images(self) -> None:
        is_between = self.to_prompt is not None or self.to_seed is not None
        if self.position is not None and not is_between:
            raise RequestError("position", "position is for an interpolation: give to_prompt or to_seed")
        if self.position is not None and self.images > 1:
            raise RequestError("position", f"position draws one image, got images {self.images}: leave out one")
        if is_between and self.position is None and self.images == 1:
            raise RequestError("images", "images of an interpolation must be at least 2, or give a position")
        if not is_between and self.seed is not None and self.seed + self.images - 1 > MAX_SEED:
            raise RequestError("seed", f"seed plus images must stay at most {MAX_SEED}, got {self.seed}")


def _documented(fields: Iterable[Field]) -> str:
    """Fields as the arguments of a docstring."""
    texts = [f"{field.name}: {field.description}" for field in fields]
    texts.append("edit: the image to edit, and how (`Edit`).")
    lines = (textwrap.fill(text, 112, initial_indent=" " * 4, subsequent_indent=" " * 8) for text in texts)
    return "Args:\n" + "\n".join(lines)


Request.__doc__ = f"{Request.__doc__}\n{textwrap.indent(_documented(OWN), '    ')}"
