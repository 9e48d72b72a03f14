"""What somebody asks for: a request, checked before anything runs."""

from __future__ import annotations

import math
import operator
import re
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from PIL import Image

from fewstep.core.randomness import MAX_SEED
from fewstep.editing.edits import Edit
from fewstep.editing.errors import RequestError
from fewstep.generation.planning import Way
from fewstep.models.text import PromptError, check_prompt

MAX_STEPS = 1000
MAX_IMAGES = 64
MIN_SIDE, MAX_SIDE = 8, 2048
MAX_GUIDANCE = 20.0
MAX_CONTROL_STRENGTH = 4.0
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


@dataclass(frozen=True)
class Request:
    """One request: a prompt and how to draw it. None means the model's own choice.

    Numbers may be NumPy's or another library's; they are kept as Python's.

    Args:
        prompt: what to draw; may be empty.
        negative_prompt: what to steer away from; only for models whose guidance is not distilled.
        seed: the first image's seed, 0 … 2⁶³ − 1; image i has seed + i. None draws one at random.
        steps: jumps, 1 … 1000.
        images: how many, 1 … 64.
        sampler: "consistency", "ddim", "dpm_solver", "euler", "flow_map", "heun", if it fits the model.
        guidance: the guidance scale, 1 … 20, or what the model was distilled for. The model's own may be another with
            a control image.
        gamma: the share of fresh noise between steps, 0 … 1, for samplers that take it; None is the sampler's own: 1
            for `consistency`, 0 for `flow_map`.
        size: (width, height) in pixels; other than native is resampled.
        background: "transparent", "white", "black" or "#rrggbb".
        label: a class, for models with classes.
        control: a control image (Pillow) for models that take one; the paper of an opaque drawing is taken as
            transparent by models that draw transparent pictures (`fewstep.pictures.pixels.from_image`).
        control_strength: how strongly the control image steers, 0 … 4: a guidance scale (2207.12598) on it. 0 leaves
            it out, 1 is as the model was trained, more exaggerates; any other than these two costs two evaluations.
        control_frame: whether a sketch is shown to the model as large and central as things stood in training,
            and the picture laid back to its place, where the model says how large that is and nothing is edited.
        edit: an image to go out from (`fewstep.generation.Edit`) and what of it may change.
        to_prompt, to_seed: the other end of an interpolation: the images, 2 or more, go in even steps from prompt and
            seed to these; what is None stays. The first and the last are to the bit what generate draws for either.
        position: one image at this place on the way, 0 … 1, instead of all.
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
    control: Any = None
    control_strength: float | None = None
    control_frame: bool = True
    edit: Edit | None = None
    to_prompt: str | None = None
    to_seed: int | None = None
    position: float | None = None

    def __post_init__(self) -> None:
        _check_text("prompt", self.prompt)
        _check_text("negative_prompt", self.negative_prompt)
        if self.to_prompt is not None:
            _check_text("to_prompt", self.to_prompt)
        for name, value in self._numbers().items():
            object.__setattr__(self, name, value)
        self._check_way()
        if self.way is None and self.seed is not None and self.seed + self.images - 1 > MAX_SEED:
            raise RequestError("seed", f"seed plus images must stay at most {MAX_SEED}, got {self.seed}")
        if self.background is not None:
            check_background(self.background)
        if self.sampler is not None and not isinstance(self.sampler, str):
            raise RequestError("sampler", f"sampler must be a name, got {self.sampler!r}")
        if self.control is not None and not isinstance(self.control, Image.Image):
            raise RequestError("control", f"control must be a Pillow image, got a {type(self.control).__name__}")
        if self.control_strength is not None and self.control is None:
            raise RequestError("control_strength", "control_strength needs a control image")
        if not isinstance(self.control_frame, bool):
            raise RequestError("control_frame", f"control_frame must be true or false, got {self.control_frame!r}")
        if self.edit is not None and not isinstance(self.edit, Edit):
            raise RequestError("edit", f"edit must be an Edit, got a {type(self.edit).__name__}")

    @property
    def is_controlled(self) -> bool:
        """Whether a control image steers."""
        return self.control is not None and self.control_strength != 0

    @property
    def way(self) -> Way | None:
        """The interpolation that is asked for, if one is."""
        if self.to_prompt is None and self.to_seed is None:
            return None
        last = self.images - 1
        positions = [i / last for i in range(self.images)] if self.position is None else [self.position]
        return Way(tuple(positions), self.to_prompt, self.to_seed)

    def _check_way(self) -> None:
        if self.position is not None and self.to_prompt is None and self.to_seed is None:
            raise RequestError("position", "position is of an interpolation: give to_prompt or to_seed")
        if self.position is not None and self.images > 1:
            raise RequestError("position", f"position is of one image: leave it or images out, got {self.images}")
        between = self.to_prompt is not None or self.to_seed is not None
        if between and self.position is None and self.images == 1:
            raise RequestError("images", "images of an interpolation must be at least 2, or give a position")

    def _numbers(self) -> dict[str, Any]:
        """The fields that hold numbers, checked, as Python's."""
        return {
            "seed": None if self.seed is None else _whole("seed", self.seed, 0, MAX_SEED),
            "steps": None if self.steps is None else _whole("steps", self.steps, 1, MAX_STEPS),
            "images": _whole("images", self.images, 1, MAX_IMAGES),
            "guidance": None if self.guidance is None else _real("guidance", self.guidance, 1.0),
            "gamma": None if self.gamma is None else _real("gamma", self.gamma, 0.0, 1.0),
            "control_strength": (
                None
                if self.control_strength is None
                else _real("control_strength", self.control_strength, 0.0, MAX_CONTROL_STRENGTH)
            ),
            "size": None if self.size is None else _sides(self.size),
            "label": None if self.label is None else _label(self.label),
            "to_seed": None if self.to_seed is None else _whole("to_seed", self.to_seed, 0, MAX_SEED),
            "position": None if self.position is None else _real("position", self.position, 0.0, 1.0),
        }


def _check_text(field: str, text: Any) -> None:
    try:
        check_prompt(text)
    except PromptError as error:
        raise RequestError(field, str(error)) from None


def _index(value: Any) -> int | None:
    """A whole number of any library as Python's; None for anything else, and for True and False."""
    if isinstance(value, (bool, np.bool_)):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def _whole(field: str, value: Any, low: int, high: int) -> int:
    number = _index(value)
    if number is None or not low <= number <= high:
        raise RequestError(field, f"{field} must be a whole number between {low} and {high}, got {value}")
    return number


def _real(field: str, value: Any, low: float, high: float = math.inf) -> float:
    limits = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:
        raise RequestError(field, f"{field} must be {limits}, got {value}")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _sides(size: Any) -> tuple[int, int]:
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise RequestError("size", f"size must be a width and a height, got {size!r}")
    width, height = (_index(side) for side in size)
    if width is None or height is None or not MIN_SIDE <= min(width, height) <= max(width, height) <= MAX_SIDE:
        sides = f"whole numbers between {MIN_SIDE} and {MAX_SIDE}"
        raise RequestError("size", f"width and height of size must be {sides}, got {size[0]}x{size[1]}")
    return width, height


def _label(value: Any) -> int:
    number = _index(value)
    if number is None:
        raise RequestError("label", f"label must be a whole number, got {value!r}")
    return number


def check_background(background: str) -> None:
    """Raise RequestError unless this names a background."""
    text = str(background)  # an HTTP body may hold anything here
    if text not in {"transparent", "white", "black"} and not _COLOUR.fullmatch(text):
        raise RequestError(
            "background", f"background must be transparent, white, black or like #ffcc00, got '{background}'"
        )


def parse_size(text: str) -> tuple[int, int]:
    """(width, height) from "64x64" or "64".

    Raises:
        RequestError: it is neither.
    """
    match = re.fullmatch(r"(\d{1,20})(?:[xX×](\d{1,20}))?", text.strip())
    if match is None:
        sides = f"each side between {MIN_SIDE} and {MAX_SIDE}"
        raise RequestError("size", f"size must be like 64x64, {sides}, got '{text}'")
    return int(match[1]), int(match[2] or match[1])
