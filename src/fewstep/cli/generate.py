"""`fewstep generate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from fewstep.cli.output import check_json, image_paths, say, slug, write_json


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
    gamma: float = 1.0,
    size: str | None = None,
    background: str | None = None,
    label: int | None = None,
    control: Path | None = None,
    out: Path | None = None,
    engine: Literal["onnx", "eager"] = "onnx",
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
        sampler: consistency, euler or heun; the model's own choice if left out.
        gamma: Share of fresh noise between consistency steps, 0 to 1.
        size: WIDTHxHEIGHT; other than the model's own is resampled.
        background: transparent, white, black or #rrggbb.
        label: A class, for models with classes.
        control: An image to steer by (a sketch), for models that take one. For models that draw transparent pictures
            the paper round an opaque drawing (the one colour of its border) becomes transparent.
        out: A file (.png, .jpg, .webp) or an existing directory; by default a name made of prompt and seed, here.
        engine: onnx needs no torch; eager is PyTorch.
        device: For eager: cpu, cuda, mps.
        metadata: Whether to write the record into the image.
        json: Write a report as JSON to this file, or to standard output with -.
    """
    from fewstep.generation import Request, load
    from fewstep.generation.request import MAX_IMAGES, parse_size

    check_json(json)
    if not 1 <= n <= MAX_IMAGES:
        raise ValueError(f"--n must be between 1 and {MAX_IMAGES}, got {n}")
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
            control=None if control is None else _open(control),
        )
        for text in prompt
    ]
    image_paths(out, ["x"] * (n * len(prompt)))
    loaded = load(model, engine, device)
    images = [image for request in requests for image in loaded.generate_all(request)]
    paths = image_paths(out, [f"{slug(i.record.prompt)}-{i.record.seed}" for i in images])
    report = []
    for image, path in zip(images, paths, strict=True):
        image.save(path, metadata=metadata)
        record = image.record
        spent = sum(record.timings.values())
        say(
            f"{path}  {record.size[0]}×{record.size[1]}  steps {record.steps}  "
            f"evaluations {record.network_evaluations}  {spent:.1f} ms  seed {record.seed}",
            json,
        )
        report.append({"file": str(path), **record.to_dict()})
    for text, found in {image.record.prompt: image.record for image in images}.items():
        if found.unknown_words:
            nearest = ", ".join(f"{caption} ({similarity:.2f})" for caption, similarity in found.nearest_captions)
            say(f"'{text}': the model never saw {', '.join(found.unknown_words)}; nearest it knows: {nearest}", json)
        about = loaded.report(text)
        if about is not None and about.truncated:
            most = loaded.spec.conditioning.text_length
            say(f"'{slug(text)}…': too long, the model read its first {most} tokens", json)
    write_json(json, report)
    return 0


def _open(path: Path) -> object:
    from fewstep.data.images import BadImage, decode

    if not path.is_file():
        raise FileNotFoundError(f"there is no control image '{path}'")
    try:
        return decode(path)
    except BadImage as error:
        raise ValueError(f"'{path}' is no image that can be read: {error}") from None
