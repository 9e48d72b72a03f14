"""Sheets of a model's own images for the docs: one seed at several step counts, intermediate estimates, sketches,
styles and edits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from PIL import Image

from fewstep.data.styles import SKETCHES
from fewstep.generation import Edit, Model, Request
from fewstep.pictures.pixels import to_image, to_pixels
from fewstep.pictures.sheet import Row, sheet

PROMPTS = ("red apple", "cat face", "rocket", "octopus", "sunflower", "sailboat")


def same_seed(model: Model, teacher: Model, seed: int) -> Image.Image:
    """Some prompts with one seed: the model in 1, 2 and 4 steps, its teacher in its default number of steps."""
    rows = []
    for used, steps in ((model, 1), (model, 2), (model, 4), (teacher, teacher.spec.steps)):
        images = [used.generate_all(request)[0] for request in _requests(used, seed, steps)]
        evaluations = images[0].record.network_evaluations
        title = f"{steps} step{'s' if steps > 1 else ''}" if used is model else "teacher"
        rows.append(Row(title, f"{evaluations} evaluation{'s' if evaluations > 1 else ''}", images))
    return sheet(rows, _names(model))


def estimates(teacher: Model, seed: int, prompts: int = 2, columns: int = 9) -> Image.Image:
    """The teacher's estimate of the picture at each of its steps, from a blur to the picture.

    A row shows half of the steps of one prompt; below each image is the σ/α of the state it was estimated from.
    """
    steps = teacher.spec.steps
    rows, ratios = [], [float(ratio) for ratio in teacher.spec.grid(steps).ratio[:-1]]
    for request, name in list(zip(_requests(teacher, seed, steps), _names(teacher), strict=True))[:prompts]:
        images = [
            to_image(progress.previews[0], teacher.spec.pixel_format, "white")
            for progress in teacher.run(teacher.plan(request))
        ]
        for first in range(0, steps, columns):
            last = min(first + columns, steps)
            rows.append(Row(name if first == 0 else "", f"steps {first + 1} to {last}", images[first:last]))
    return sheet(
        rows, below=[[f"{ratio:.2g}" for ratio in ratios[i : i + columns]] for i in range(0, steps, columns)]
    )


def filled(model: Model, teacher: Model, seed: int, fits: Sequence[int] = (0, 1, 4)) -> Image.Image:
    """Right halves of the teacher's pictures, filled in by the model in one step from the left halves alone."""
    whole = _pictures(teacher, seed)
    width, height = whole[0].size
    mask = Image.new("L", (width, height), "black")
    mask.paste("white", (width // 2, 0, width, height))
    kept = [Image.composite(Image.new(image.mode, image.size, "lightgrey"), image, mask) for image in whole]
    rows = [Row("kept", "", kept)]
    for fit in fits:
        requests = [Request(seed=seed, steps=1, edit=Edit(image, mask, fit=fit)) for image in whole]
        images = [model.generate_all(request)[0] for request in requests]
        evaluations = images[0].record.network_evaluations
        rows.append(Row(f"fit {fit}", f"{evaluations} evaluation{'s' if evaluations > 1 else ''}", images))
    return sheet([*rows, Row("before", "", whole)])


def sketched(model: Model, teacher: Model, seed: int) -> Image.Image:
    """Rule-based sketches of the teacher's pictures, and below each the picture that the model draws from it."""
    _check_sketches(model, "sketched")
    rows, spec = [], model.spec
    pictures = [to_pixels(picture, spec.pixels, spec.pixel_format) for picture in _pictures(teacher, seed)]
    for kind, draw in SKETCHES.items():
        drawn = [draw(pixels, np.random.default_rng([seed, k])) for k, pixels in enumerate(pictures)]
        sketches = [to_image(pixels, spec.pixel_format) for pixels in drawn]
        asked = zip(_requests(model, seed, 1), sketches, strict=True)
        results = [model.generate_all(replace(request, control=sketch))[0] for request, sketch in asked]
        rows += [Row(kind, "sketch", sketches), Row("", "1 step", results)]
    return sheet(rows, _names(model))


def styled(model: Model, seed: int, prompts: int = 5) -> Image.Image:
    """Some prompts with one seed, plain and in each style that the model knows."""
    _check_sketches(model, "styled")
    rows = []
    for style in ("", *model.spec.vocabulary.styles):
        plain = _requests(model, seed, 1)[:prompts]
        asked = [replace(request, prompt=f"{style} {request.prompt}".strip()) for request in plain]
        rows.append(Row(style or "plain", "", [model.generate_all(request)[0] for request in asked]))
    return sheet(rows, _names(model)[:prompts])


def edited(model: Model, teacher: Model, seed: int) -> Image.Image:
    """The teacher's pictures without colours, downscaled and noisy; the model's restorations of them, given the
    prompts; and interpolations from each of two prompts to the next."""
    _check_sketches(model, "edited")
    spec, pictures = model.spec, _pictures(teacher, seed)
    grey = [picture.convert("LA").convert("RGBA") for picture in pictures]
    small = [picture.reduce(4) for picture in pictures]
    noisy = []
    for k, picture in enumerate(pictures):
        pixels = to_pixels(picture, spec.pixels, spec.pixel_format)
        noise = np.random.default_rng([seed, k]).normal(0, 0.2, pixels.shape)
        noisy.append(to_image((pixels + noise).clip(0, 1), spec.pixel_format))
    asked = _requests(model, seed, 1)

    def after(edit: Callable[[Image.Image], Edit], images: Sequence[Image.Image]) -> list[Image.Image]:
        requests = zip(asked, images, strict=True)
        return [model.generate_all(replace(request, edit=edit(image)))[0] for request, image in requests]

    rows = [
        *(Row("grey", "", grey), Row("colorize", "1 step", after(Edit.colorize, grey))),
        *(Row("small", "", small), Row("super-resolve", "1 step", after(Edit.super_resolve, small))),
        *(Row("noisy", "noise 0.2", noisy), Row("denoise", "1 step", after(Edit.denoise, noisy))),
    ]
    for request, other in pairwise(asked[:3]):
        way = replace(request, to_prompt=other.prompt, images=len(asked))
        rows.append(Row("interpolate", f"to {other.prompt}", model.generate_all(way)))
    return sheet(rows, _names(model))


def _check_sketches(model: Model, name: str) -> None:
    spec = model.spec
    if not (
        spec.conditioning.control and spec.conditioning.text_length and spec.pixel_format == "rgba_premultiplied"
    ):
        raise ValueError(
            f"'{name}' needs a model that draws transparent pictures by prompt and sketch: '{spec.name}' does not"
        )


def _pictures(teacher: Model, seed: int) -> list[Image.Image]:
    """The teacher's pictures of the prompts in the model's pixel format: with transparency if the model has it."""
    requests = _requests(teacher, seed, teacher.spec.steps)
    return [teacher.generate_all(replace(request, background=None))[0] for request in requests]


def _requests(model: Model, seed: int, steps: int) -> list[Request]:
    background = "white" if model.spec.pixel_format == "rgba_premultiplied" else None
    if model.spec.conditioning.text_length:
        return [Request(prompt, seed=seed, steps=steps, background=background) for prompt in PROMPTS]
    labels = range(min(len(PROMPTS), model.spec.conditioning.classes)) or [None]
    return [Request(label=label, seed=seed, steps=steps, background=background) for label in labels]


def _names(model: Model) -> list[str]:
    """Names of the columns: the prompts, or the classes of a model without text."""
    if model.spec.conditioning.text_length:
        return list(PROMPTS)
    return [f"class {label}" for label in range(min(len(PROMPTS), model.spec.conditioning.classes))] or ["any"]
