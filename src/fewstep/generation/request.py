"""Requests: the table of fields from which every surface is derived, and `Request`, checked before anything runs."""

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
"""The largest guidance scale of models whose guidance is not distilled; distilled ones have their own ranges."""

GUIDANCE = Number(
    name="guidance",
    help="Guidance scale: how strongly the prompt steers; if left out, the model's own, which may differ with a "
    f"control image. Up to {MAX_GUIDANCE:g}, or the range that was distilled into the model.",
    minimum=1,
    surfaces=BY_PROGRAMS,
)
STEPS = Integer(name="steps", help="Number of steps; if left out, the model's own.", minimum=1, maximum=1000)
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
    help="Width and height in pixels; if it is not the model's own size, the image is resampled.",
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
        help="The same seed draws the same image; image i has seed + i. If left out, a random one.",
        minimum=0,
        maximum=MAX_SEED,
    ),
    STEPS,
    IMAGES,
    Choice(
        name="sampler",
        help="The sampler; if left out, the model's own.",
        choices=SAMPLERS.keys(),
        surfaces=BY_PROGRAMS,
    ),
    GUIDANCE,
    Number(
        name="gamma",
        help="The share of fresh noise between steps; if left out, 1 for consistency and 0 for flow_map. Other "
        "samplers take none.",
        minimum=0,
        maximum=1,
        surfaces=BY_PROGRAMS,
    ),
    SIZE,
    Choice(
        name="background",
        help="Background of the image; opaque means white.",
        choices=("transparent", "white", "black"),
        aliases={"opaque": "white", "auto": None},
        pattern="#[0-9a-fA-F]{6}",
        example="#ffcc00",
        surfaces=BY_PROGRAMS,
    ),
    Integer(name="label", help="Number of the class.", minimum=0, surfaces=BY_PROGRAMS, only="models with classes"),
    Picture(
        name="control",
        help="An image to follow, such as a sketch. If the model draws transparent images, the paper of an opaque "
        "drawing (the single colour of its border) is made transparent.",
        surfaces=BY_PROGRAMS,
        only="models with a control input",
    ),
    Number(
        name="control_strength",
        help="Guidance scale of the control image (2207.12598): 0 ignores it, 1 follows it as in training, higher "
        "values exaggerate it. Values other than 0 and 1 need a second network evaluation per step.",
        minimum=0,
        maximum=4,
        surfaces=BY_PROGRAMS,
    ),
    Flag(
        name="control_frame",
        help="Scale and centre a sketch like the objects in the training data, and move the image back to the place "
        "of the sketch. Has no effect on edits, or if the model does not name the size of its objects.",
        default=True,
        surfaces=BY_PROGRAMS,
    ),
)
INTERPOLATION: tuple[Field, ...] = (
    Text(
        name="to_prompt",
        help="In an interpolation, the prompt of the last image; if left out, that of the first.",
        maximum=MAX_PROMPT,
        operation="interpolate",
    ),
    Integer(
        name="to_seed",
        help="In an interpolation, the seed of the last image; if left out, that of the first.",
        minimum=0,
        maximum=MAX_SEED,
        operation="interpolate",
    ),
    Number(
        name="position",
        help="Draw only the image at this position of an interpolation: 0 is the first image, 1 the last.",
        minimum=0,
        maximum=1,
        operation="interpolate",
    ),
)
OWN = (*DRAWING, *INTERPOLATION)
"""The fields of `Request` itself, except `edit`, which is an object."""

FIELDS: Mapping[str, Field] = {field.name: field for field in (*OWN, MASK, STRENGTH, FIT, EDIT_NAME, NOISE, *MARGINS)}
"""Every field that a surface may have."""


def fields_of(surface: Surface, *operations: Operation) -> tuple[Field, ...]:
    """The fields that a surface has for these operations, in the order of the table."""
    return tuple(f for f in FIELDS.values() if surface in f.surfaces and f.operation in operations)


@dataclass(frozen=True)
class Interpolation:
    """An interpolation from the prompt and seed of a request to others.

    Args:
        positions: position of each image: 0 is the request's own prompt and seed, 1 the other end.
        prompt, seed: prompt and seed of the other end; None for the request's own.
    """

    positions: tuple[float, ...]
    prompt: str | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Request:
    """One request: a prompt and how to draw it.

    None means the model's own choice. Numbers of NumPy and other libraries become Python's. With `to_prompt`,
    `to_seed` or both, the images, 2 or more, go in even steps from the prompt and seed to these; the first and last
    are bit for bit those that `generate` draws for either end.

    Raises:
        RequestError: a field is out of bounds, or two fields do not go together.
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
        """A request from the values that a surface received.

        Args:
            values: values by public name; None counts as left out, and names that are not fields of `Request` are
                ignored.
            edit: the edit, made from the fields of edits.

        Raises:
            RequestError: as in `Request`, with the public name of the field.
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
        """Whether a control image has an effect."""
        return self.control is not None and self.control_strength != 0

    @property
    def interpolation(self) -> Interpolation | None:
        """The interpolation, if the request is for one."""
        if self.to_prompt is None and self.to_seed is None:
            return None
        last = self.images - 1
        positions = [i / last for i in range(self.images)] if self.position is None else [self.position]
        return Interpolation(tuple(positions), self.to_prompt, self.to_seed)

    def _check_images(self) -> None:
        is_between = self.to_prompt is not None or self.to_seed is not None
        if self.position is not None and not is_between:
            raise RequestError("position", "position needs an interpolation: give to_prompt or to_seed")
        if self.position is not None and self.images > 1:
            raise RequestError("position", f"position draws one image, got images {self.images}: leave out one")
        if is_between and self.position is None and self.images == 1:
            raise RequestError("images", "images must be at least 2 in an interpolation without position")
        if not is_between and self.seed is not None and self.seed + self.images - 1 > MAX_SEED:
            raise RequestError("seed", f"seed plus images must be at most {MAX_SEED}, got seed {self.seed}")


def _documented(fields: Iterable[Field]) -> str:
    """Fields as the argument list of a docstring."""
    texts = [f"{field.name}: {field.description}" for field in fields]
    texts.append("edit: the image to edit, and how (`Edit`).")
    lines = (textwrap.fill(text, 112, initial_indent=" " * 4, subsequent_indent=" " * 8) for text in texts)
    return "Args:\n" + "\n".join(lines)


Request.__doc__ = f"{Request.__doc__}\n{textwrap.indent(_documented(OWN), '    ')}"
