"""What the methods of a model take from Python: typed keywords, images in any form, and an answer for the names that
other libraries use."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ParamSpec, TypedDict, TypeVar, get_type_hints

import numpy as np
from PIL import Image

from fewstep.editing.edits import Edit
from fewstep.editing.errors import RequestError
from fewstep.editing.fields import MARGINS
from fewstep.pictures.decode import BadImage, decode
from fewstep.pictures.generated import with_record

PictureLike = Image.Image | str | Path | np.ndarray[Any, Any]
"""A Pillow image, the path of a file, or an array [h, w] or [h, w, c], uint8 or floating with values from 0 to 1."""


@dataclass(frozen=True)
class Step:
    """A drawing after one of its steps.

    Args:
        index: number of the step, from 1.
        steps: number of steps in all.
    """

    index: int
    steps: int
    _draw: Callable[[], list[Image.Image]] = field(repr=False)

    @cached_property
    def images(self) -> list[Image.Image]:
        """The images as they are now, decoded when they are first asked for: estimates, and after the last step the
        results with their records."""
        return self._draw()

    @property
    def image(self) -> Image.Image:
        """The first of the images."""
        return self.images[0]

    @property
    def is_last(self) -> bool:
        return self.index == self.steps


class DrawingChoices(TypedDict, total=False):
    """What every method that draws takes; see `Request` for the bounds.

    `on_step` is called after each step. `control` may have any form of an image.
    """

    negative_prompt: str | None
    seed: int | None
    steps: int | None
    sampler: str | None
    guidance: float | None
    gamma: float | None
    size: tuple[int, int] | int | str | None
    background: str | None
    label: int | None
    control: PictureLike | None
    control_strength: float | None
    control_frame: bool | None
    on_step: Callable[[Step], object] | None


class Choices(DrawingChoices, total=False):
    """What methods take that draw from noise.

    `noise` is the noise to start from, standard normal in the shape of the model's data, [...] or [images, ...];
    `levels` are the levels to visit, σ/α in falling order.
    """

    edit: Edit | None
    to_prompt: str | None
    to_seed: int | None
    position: float | None
    noise: Any
    levels: Sequence[float] | None


class EditChoices(DrawingChoices, total=False):
    """What `Model.edit` takes; see `Edit` and its class methods.

    `kind` is colorize, super-resolve or denoise. `left` … `bottom` extend the image beyond a border.
    """

    kind: str | None
    mask: PictureLike | None
    strength: float | None
    fit: int | None
    noise: float | None
    left: float | None
    top: float | None
    right: float | None
    bottom: float | None


OnStep = Callable[[Step], object] | None

BESIDE_REQUEST = frozenset({"control", "on_step", "noise", "levels"})
"""The choices that are not fields of `Request`, or not in its form."""

EDIT_ONLY = frozenset(EditChoices.__annotations__) - frozenset(DrawingChoices.__annotations__)
"""The choices that describe the edit itself."""

OTHER_NAMES: Mapping[str, str] = {
    "num_inference_steps": "steps",
    "guidance_scale": "guidance",
    "true_cfg_scale": "guidance",
    "cfg_scale": "guidance",
    "width": "size=(width, height)",
    "height": "size=(width, height)",
    "generator": "seed",
    "latents": "noise",
    "sigmas": "levels",
    "timesteps": "levels",
    "eta": "gamma",
    "num_images_per_prompt": "n in generate_all",
    "batch_size": "n in generate_all",
    "images": "n in generate_all",
    "n": "n in generate_all",
    "image": "model.edit(image, …), or control for a sketch to follow",
    "init_image": "model.edit(image, …)",
    "mask_image": "mask in model.edit",
    "mask": "mask in model.edit",
    "strength": "strength in model.edit",
    "control_image": "control",
    "controlnet_conditioning_scale": "control_strength",
    "class_labels": "label",
    "callback_on_step_end": "on_step",
    "callback": "on_step",
    "scheduler": "sampler",
}
"""What keywords of diffusers and other libraries are called here."""

P = ParamSpec("P")
T = TypeVar("T")


def named(table: type) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Make a method's `**choices` the keywords of a table: shown by `help`, with any other name refused by the right
    one."""

    def decorated(method: Callable[P, T]) -> Callable[P, T]:
        own = [part for part in inspect.signature(method).parameters.values() if part.kind is not part.VAR_KEYWORD]
        kinds, keyword = get_type_hints(table), inspect.Parameter.KEYWORD_ONLY
        taken = [*own, *(inspect.Parameter(name, keyword, default=None, annotation=kinds[name]) for name in kinds)]
        known = {part.name for part in taken} - {"self"}

        @functools.wraps(method)
        def checked(*args: P.args, **choices: P.kwargs) -> T:
            if unknown := next((name for name in choices if name not in known), None):
                raise TypeError(f"{method.__name__}() has no '{unknown}'{_remedy(unknown, known)}")
            return method(*args, **choices)

        # what `help` and editors show
        setattr(checked, "__signature__", inspect.signature(method).replace(parameters=taken))  # noqa: B010
        return checked

    return decorated


def _remedy(name: str, known: Collection[str]) -> str:
    if (ours := OTHER_NAMES.get(name)) is not None:
        return f": it is called {ours} here"
    near = difflib.get_close_matches(name, list(known), 1)
    return f": did you mean '{near[0]}'?" if near else f": it takes {', '.join(sorted(known))}"


def opened(value: PictureLike | None, name: str) -> Image.Image | None:
    """An image in any form as a Pillow image, a file's with the record in it.

    Raises:
        RequestError: it is none of these forms, or the file cannot be read.
    """
    if value is None or isinstance(value, Image.Image):
        return value
    if isinstance(value, (str, Path)):
        try:
            return with_record(decode(Path(value)), Path(value))
        except BadImage as error:
            raise RequestError(name, f"{name} '{value}' cannot be read: {error}") from error
    array = np.asarray(value)
    is_picture = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if not is_picture or not (array.dtype == np.uint8 or np.issubdtype(array.dtype, np.floating)):
        got = f"an array {list(array.shape)} of {array.dtype}" if array.ndim else repr(value)
        raise RequestError(
            name,
            f"{name} must be a Pillow image, a path, or an array [h, w] or [h, w, c] with 1, 3 or 4 channels, uint8 "
            f"or from 0 to 1, got {got}",
        )
    if array.dtype != np.uint8:
        if not np.isfinite(array).all() or array.min(initial=0) < 0 or array.max(initial=0) > 1:
            raise RequestError(name, f"{name} must have values from 0 to 1, got {array.min():g} to {array.max():g}")
        array = np.round(array * 255).astype(np.uint8)
    return Image.fromarray(array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array)


def edit_of(image: PictureLike, choices: Mapping[str, Any]) -> Edit:
    """The edit of an image that these choices of `EditChoices` describe.

    Raises:
        RequestError: a choice is out of bounds, or not one of this edit.
    """
    picture, kind = opened(image, "image"), choices.get("kind")
    if picture is None:
        raise RequestError("image", "image must be a Pillow image, a path or an array, got None")
    given = {name: choices[name] for name in ("strength", "fit", "noise") if choices.get(name) is not None}
    mask, margins = (
        opened(choices.get("mask"), "mask"),
        {side.name: choices.get(side.name) or 0.0 for side in MARGINS},
    )
    if not any(margins.values()):
        return Edit.named(kind, picture, mask, **given)
    for name, value in (("kind", kind), ("mask", mask), *given.items()):
        if value is not None and name != "fit":
            raise RequestError(name, f"an edit with margins takes no {name}: leave it out")
    return Edit.beyond(picture, **margins, fit=given.get("fit"))
