"""`fewstep generate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from fewstep.cli.drawing import EngineName, Where, background_for, check_count, draw_all, open_image
from fewstep.cli.output import check_json


class Prompts(tuple[str, ...]):
    """Texts. A class of its own because tyro checks the default of a generic type with the help of `typeguard`, and
    importing that costs a tenth of the whole run."""


_PROMPTS = tyro.constructors.PrimitiveConstructorSpec(
    nargs="*",
    metavar="[PROMPT [PROMPT ...]]",
    instance_from_str=Prompts,
    is_instance=lambda value: isinstance(value, Prompts),
    str_from_instance=list,
)


def generate(
    prompt: Annotated[Prompts, tyro.conf.Positional, _PROMPTS] = Prompts([""]),  # noqa: B008  immutable
    /,
    model: str = "emoji",
    steps: int | None = None,
    seed: int | None = None,
    n: int = 1,
    guidance: float | None = None,
    negative_prompt: str = "",
    sampler: str | None = None,
    gamma: float | None = None,
    size: str | None = None,
    background: str | None = None,
    label: int | None = None,
    control: Path | None = None,
    control_strength: float | None = None,
    control_frame: bool = True,
    out: Path | None = None,
    engine: EngineName = "onnx",
    precision: Literal["float32", "bfloat16"] | None = None,
    device: str = "cpu",
    metadata: bool = True,
    json: str | None = None,
) -> int:
    """Draw images from prompts.

    Each image is written with the record of what made it (`fewstep record FILE` shows it).

    Args:
        prompt: One or more prompts; quote each that has several words.
        model: A built-in model, a directory, or user/name on the Hugging Face hub.
        steps: Jumps, 1 to 1000; the model's own choice if left out.
        seed: The first image's seed; drawn at random if left out. Image i of a prompt has seed + i.
        n: Images for each prompt.
        guidance: How strongly the prompt steers, 1 to 20; models with distilled guidance have a smaller range.
        negative_prompt: What to steer away from; only for models whose guidance is not distilled.
        sampler: consistency, ddim, dpm_solver, euler, flow_map or heun; the model's own choice if left out.
        gamma: Share of fresh noise between steps, 0 to 1; if left out 1 for consistency, 0 for flow_map.
        size: WIDTHxHEIGHT; other than the model's own is resampled.
        background: transparent, white, black or #rrggbb; a JPEG has no transparency and is white if left out.
        label: A class, for models with classes.
        control: An image to steer by (a sketch), for models that take one. For models that draw transparent pictures
            the paper of an opaque drawing (the one colour of its border) becomes transparent.
        control_strength: How strongly it steers, 0 to 4: 0 not at all, 1 as the model was trained, more exaggerates.
            Other than 0 and 1 costs twice the time.
        control_frame: Whether a sketch is shown to the model as large and central as things stood in training,
            and the image laid back to its place.
        out: A file (.png, .jpg, .webp), which is replaced, or an existing directory; by default here. In a
            directory the name is made of prompt and seed, with -2, -3, … behind it where a file has that name.
        engine: onnx and openvino need no torch; eager and compiled are PyTorch; auto takes the fastest that
            fewstep bench engines measured on this machine.
        precision: Of the arithmetic; openvino has bfloat16.
        device: For eager and compiled: cpu, cuda, mps.
        metadata: Whether to write the record into the image.
        json: Write a report as JSON to this file, or to standard output with -.
    """
    from fewstep.generation import Request
    from fewstep.generation.request import parse_size

    check_json(json)
    background = background_for(background, out)
    check_count(n)
    requests = [
        Request(
            prompt=text,
            negative_prompt=negative_prompt,
            seed=seed,
            steps=steps,
            images=n,
            sampler=sampler,
            guidance=guidance,
            gamma=gamma,
            size=None if size is None else parse_size(size),
            background=background,
            label=label,
            control=None if control is None else open_image(control, "control image"),
            control_strength=control_strength,
            control_frame=control_frame,
        )
        for text in prompt
    ]
    draw_all(requests, model, Where(engine, precision, device), out, metadata, json)
    return 0
