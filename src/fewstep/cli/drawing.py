"""What `fewstep generate` and `fewstep edit` share: requests to files, with a line and a record each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fewstep.cli.output import image_paths, say, shortened, slug, write_json

if TYPE_CHECKING:
    from PIL import Image

    from fewstep.generation import GeneratedImage, Model, Request
    from fewstep.pictures import Record


EngineName = Literal["auto", "onnx", "openvino", "eager", "compiled"]


@dataclass(frozen=True)
class Where:
    """What a model's network runs on, as `fewstep.load` has it."""

    engine: str
    precision: str | None
    device: str


def draw_all(
    requests: Sequence[Request],
    model: str,
    where: Where,
    out: Path | None,
    metadata: bool,
    json: str | None,
) -> list[Path]:
    """Draw every request and write its images; every mistake shows before the first. The files are given back."""
    from fewstep.generation import load

    count = sum(request.images for request in requests)
    image_paths(out, ["x"] * min(2, count))  # before a model is loaded, and two show whether it is numbered
    loaded = load(model, where.engine, where.device, precision=where.precision)
    plans = [loaded.plan_pictures(request) for request in requests]
    names = [
        f"{slug(request.prompt)}-{seed}" for request, plan in zip(requests, plans, strict=True) for seed in plan.seeds
    ]
    written = image_paths(out, names)
    paths = iter(written)
    report: list[dict[str, Any]] = []
    records: dict[str, Record] = {}
    for request, plan in zip(requests, plans, strict=True):
        for image in loaded.draw(request, plan):
            report.append(_written(image, next(paths), metadata, json))
            records[request.prompt] = image.record
    _remarks(loaded, records, json)
    write_json(json, report)
    return written


def write_film(path: Path, pictures: Sequence[Path], milliseconds: int = 80) -> None:
    """Image files as one animation that goes there and back, without end; nothing of it is lost."""
    from PIL import Image

    frames = []
    for file in (*pictures, *pictures[-2:0:-1]):
        with Image.open(file) as opened:
            frames.append(opened.copy())
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=milliseconds, loop=0, disposal=1, lossless=True
    )


def check_count(n: int) -> None:
    """Raise ValueError unless --n is a number of images that a request may have."""
    from fewstep.generation.request import MAX_IMAGES

    if not 1 <= n <= MAX_IMAGES:
        raise ValueError(f"--n must be between 1 and {MAX_IMAGES}, got {n}")


def background_for(asked: str | None, out: Path | None) -> str | None:
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
            unknown = shortened(", ".join(record.unknown_words))
            say(f"'{shortened(text)}': the model never saw {unknown}{known}", json)
        about = model.report(text)
        if about is not None and about.truncated:
            most = model.spec.conditioning.text_length
            say(f"'{slug(text)}…': too long, the model read its first {most} tokens", json)


def open_image(path: Path, what: str) -> Image.Image:
    """An image file of the user's; `what` it is, for the complaint."""
    from fewstep.pictures.decode import BadImage, decode
    from fewstep.pictures.generated import with_record

    if not path.is_file():
        raise FileNotFoundError(f"there is no {what} '{path}'")
    try:
        return with_record(decode(path), path)
    except BadImage as error:
        raise ValueError(f"'{path}' is no image that can be read: {error}") from None
