"""Drawing for `fewstep generate` and `fewstep edit`: requests become files, each with a record and a printed line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from fewstep.cli.options import Drawing, Output
from fewstep.cli.output import check_json, image_paths, say, shortened, slug, write_json
from fewstep.generation import Edit, GeneratedImage, Model, Request, load
from fewstep.pictures import Record
from fewstep.pictures.decode import BadImage, decode
from fewstep.pictures.generated import with_record


def draw(drawing: Drawing, prompts: Sequence[str], edit: Edit | None = None) -> list[Path]:
    """Draw each prompt with a command's options and write its images; all options are checked before the first one.

    Returns:
        The files written.
    """
    check_json(drawing.output.json)
    return _write_all([_request(drawing, prompt, edit) for prompt in prompts], drawing.output)


def _request(drawing: Drawing, prompt: str, edit: Edit | None) -> Request:
    values = {**drawing.values, "prompt": prompt}
    values["background"] = background_for(values["background"], drawing.output.out)
    if values["control"] is not None:
        values["control"] = open_image(values["control"], "control image")
    return Request.from_public(values, edit=edit)


def _write_all(requests: Sequence[Request], output: Output) -> list[Path]:
    count = sum(request.images for request in requests)
    image_paths(output.out, ["x"] * min(2, count))  # before the model is loaded; two if files are numbered
    model = load(output.model, output.engine, output.device, precision=output.precision)
    plans = [model.plan_pictures(request) for request in requests]
    names = [
        f"{slug(prompt)}-{seed}"
        for plan in plans
        for prompt, seed in zip(plan.conditions.prompts, plan.sampling.seeds, strict=True)
    ]
    written = image_paths(output.out, names)
    paths = iter(written)
    report: list[dict[str, Any]] = []
    records: dict[str, Record] = {}
    for plan in plans:
        for image in model.draw(plan):
            report.append(_written(image, next(paths), output))
            records[image.record.prompt] = image.record
    _remarks(model, records, output.json)
    write_json(output.json, report)
    return written


def write_film(path: Path, pictures: Sequence[Path], milliseconds: int = 80) -> None:
    """Write image files as one lossless animation that plays forwards and backwards in an endless loop."""
    frames = []
    for file in (*pictures, *pictures[-2:0:-1]):
        with Image.open(file) as opened:
            frames.append(opened.copy())
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=milliseconds, loop=0, disposal=1, lossless=True
    )


def background_for(asked: str | None, out: Path | None) -> str | None:
    """The background of the pictures: white for a JPEG if none is chosen, so that its record says what it shows."""
    if out is None or out.is_dir() or out.suffix.lower() not in (".jpg", ".jpeg"):
        return asked
    if asked == "transparent":
        raise ValueError("JPEG has no transparency: use .png or .webp")
    return "white" if asked is None else asked


def _written(image: GeneratedImage, path: Path, output: Output) -> dict[str, Any]:
    """Save an image, print a line about it, and return its entry of the report."""
    image.save(path, metadata=output.metadata)
    record = image.record
    spent = sum(record.timings.values())
    say(
        f"{path}  {record.size[0]}×{record.size[1]}  steps {record.steps}  "
        f"evaluations {record.network_evaluations}  {spent:.1f} ms  seed {record.seed}",
        output.json,
    )
    return {"file": str(path), **record.to_dict()}


def _remarks(model: Model, records: Mapping[str, Record], json: str | None) -> None:
    """Print which words of each prompt the model never saw, and which it did not read."""
    for text, record in records.items():
        if record.unknown_words:
            nearest = ", ".join(f"{caption} ({similarity:.2f})" for caption, similarity in record.nearest_captions)
            known = f"; nearest captions: {nearest}" if nearest else ""
            unknown = shortened(", ".join(record.unknown_words))
            say(f"'{shortened(text)}': the model never saw {unknown}{known}", json)
        if record.unread_prompt:
            most = model.spec.conditioning.text_length
            said = (
                f"'{slug(text)}…': too long, the model reads {most} tokens, not: '{shortened(record.unread_prompt)}'"
            )
            say(said, json)


def open_image(path: Path, what: str) -> Image.Image:
    """Open an image file of the user; `what` names its role in error messages."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no {what} '{path}'")
    try:
        return with_record(decode(path), path)
    except BadImage as error:
        raise ValueError(f"'{path}' is not an image that can be read: {error}") from None
