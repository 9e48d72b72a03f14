"""`fewstep record`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from fewstep.cli.output import check_json, say, write_json

if TYPE_CHECKING:
    from fewstep.pictures import Record


def record(
    image: Annotated[Path, tyro.conf.Positional],
    other: Annotated[Path | None, tyro.conf.Positional] = None,
    /,
    json: str | None = None,
) -> int:
    """Show how an image was made or, given two images, what changed from the first to the second.

    Args:
        image: A PNG, JPEG or WebP image made by fewstep.
        other: A second image, to compare with the first.
        json: Write the record, or the changes, as JSON to this file, or to standard output with -.
    """
    from fewstep import pictures

    check_json(json)
    first = _read(image)
    if other is None:
        say(pictures.parameters(first), json)
        for name, text in pictures.details(first).items():
            say(f"{name:<11} {text}", json)
        write_json(json, first.to_dict())
        return 0
    second = _read(other)
    changes = pictures.difference(first, second)
    say(pictures.sentence(first, second), json)
    for change in changes:
        say(f"  {change.field}: {change.before} → {change.after}", json)
    write_json(json, [change._asdict() for change in changes])
    return 0


def _read(path: Path) -> Record:
    from fewstep import pictures

    found = pictures.read_record(path)
    if found is None:
        raise ValueError(f"'{path}' has no record: it was not made by fewstep, or its metadata was removed")
    return found
