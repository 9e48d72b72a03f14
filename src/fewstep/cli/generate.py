"""`fewstep generate`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from fewstep.cli.output import check_json, image_paths, say, slug, write_json

if TYPE_CHECKING:
    from fewstep.generation import GeneratedImage, Model
    from fewstep.provenance import Record


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
        background: transparent, white, black or #rrggbb; a JPEG has no transparency and is white if left out.
        label: A class, for models with classes.
        control: An image to steer by (a sketch), for models that take one. For models that draw transparent pictures
            the paper of an opaque drawing (the one colour of its border) becomes transparent.
        out: A file (.png, .jpg, .webp), which is replaced, or an existing directory; by default here. In a
            directory the name is made of prompt and seed, with -2, -3, … behind it where a file has that name.
        engine: onnx needs no torch; eager is PyTorch.
        device: For eager: cpu, cuda, mps.
        metadata: Whether to write the record into the image.
        json: Write a report as JSON to this file, or to standard output with -.
    """
    from fewstep.generation import Request, load
    from fewstep.generation.request import MAX_IMAGES, parse_size

    check_json(json)
    background = _background(background, out)
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
    image_paths(out, ["x"] * min(2, n * len(prompt)))  # before a model is loaded, and two show whether it is numbered
    loaded = load(model, engine, device)
    plans = [loaded.plan_pictures(request) for request in requests]  # every mistake shows before the first picture
    names = [f"{slug(text)}-{seed}" for text, plan in zip(prompt, plans, strict=True) for seed in plan.seeds]
    paths = iter(image_paths(out, names))
    report: list[dict[str, Any]] = []
    records: dict[str, Record] = {}
    for request, plan in zip(requests, plans, strict=True):
        for image in loaded.draw(request, plan):
            report.append(_written(image, next(paths), metadata, json))
            records[request.prompt] = image.record
    _remarks(loaded, records, json)
    write_json(json, report)
    return 0


def _background(asked: str | None, out: Path | None) -> str | None:
    """What to lay pictures on: white where a JPEG leaves it open, so that its record says what it shows."""
    if out is None or out.is_dir() or out.suffix.lower() not in (".jpg", ".jpeg"):
        return asked
    if asked == "transparent":
        raise ValueError("JPEG has no transparency: use .png or .webp")
    return "white" if asked is None else asked


def _written(image: GeneratedImage, path: Path, metadata: bool, json: str | None) -> dict[str, Any]:
    """Save an image and say so; its entry in the report."""
    image.save(path, metadata=metadata)
    record = image.record
    spent = sum(record.timings.values())
    say(
        f"{path}  {record.size[0]}×{record.size[1]}  steps {record.steps}  "
        f"evaluations {record.network_evaluations}  {spent:.1f} ms  seed {record.seed}",
        json,
    )
    return {"file": str(path), **record.to_dict()}


def _remarks(model: Model, records: Mapping[str, Record], json: str | None) -> None:
    """Say of each prompt what the model never saw or did not read."""
    for text, record in records.items():
        if record.unknown_words:
            nearest = ", ".join(f"{caption} ({similarity:.2f})" for caption, similarity in record.nearest_captions)
            known = f"; nearest it knows: {nearest}" if nearest else ""
            say(f"'{text}': the model never saw {', '.join(record.unknown_words)}{known}", json)
        about = model.report(text)
        if about is not None and about.truncated:
            most = model.spec.conditioning.text_length
            say(f"'{slug(text)}…': too long, the model read its first {most} tokens", json)


def _open(path: Path) -> object:
    from fewstep.data.images import BadImage, decode

    if not path.is_file():
        raise FileNotFoundError(f"there is no control image '{path}'")
    try:
        return decode(path)
    except BadImage as error:
        raise ValueError(f"'{path}' is no image that can be read: {error}") from None
