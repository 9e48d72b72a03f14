"""`fewstep data emoji | preview`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from fewstep.cli.output import check_json, check_picture, say, write_json

if TYPE_CHECKING:
    from fewstep.data import Dataset


def emoji(
    size: int = 32,
    people: bool = False,
    skin_tones: bool = False,
    symbols: bool = False,
    clocks: bool = False,
    flags: bool = False,
    json: str | None = None,
) -> int:
    """Describe the emoji data: how many glyphs of which groups, and the channels' mean and deviation.

    Args:
        size: Pixels a side.
        people: Take persons and families too.
        skin_tones: Take every skin tone too.
        symbols: Take signs, arrows and letters too.
        clocks: Take every clock face too.
        flags: Take flags too.
        json: Write it as JSON to this file, or to standard output with -.
    """
    import numpy as np

    from fewstep.data.emoji import PLAIN, Emoji, Selection

    check_json(json)
    dataset = Emoji(size, PLAIN, Selection(people, skin_tones, symbols, clocks, flags))
    pictures = np.stack([dataset.picture(i) for i in range(len(dataset))])
    facts = {
        "glyphs": len(dataset),
        "groups": dict(Counter(glyph.group for glyph in dataset.glyphs)),
        "mean": [round(float(v), 4) for v in pictures.mean(axis=(0, 2, 3))],
        "std": [round(float(v), 4) for v in pictures.std(axis=(0, 2, 3))],
        "captions": dataset.captions,
    }
    say(f"{facts['glyphs']} emoji at {size}×{size}, premultiplied RGBA", json)
    for group, count in dict(Counter(glyph.group for glyph in dataset.glyphs)).items():
        say(f"  {count:5} {group}", json)
    say(f"channel mean {facts['mean']}, deviation {facts['std']}", json)
    write_json(json, facts)
    return 0


def preview(
    source: Annotated[str, tyro.conf.Positional],
    /,
    out: Path = Path("preview.png"),
    n: int = 24,
    columns: int = 6,
    size: int = 32,
    seed: int = 0,
    channels: Literal["RGB", "RGBA", "L"] = "RGB",
    split: str = "train",
    plain: bool = False,
) -> int:
    """Draw a contact sheet of what training would see, augmented and captioned.

    Args:
        source: emoji, digits, ring, checkerboard, two-moons, spiral, an image folder, .tar shards, or a Hugging Face
            data set by name or local path.
        out: The picture to write.
        n: Examples to show.
        columns: Examples a row.
        size: Pixels a side.
        seed: Of order and augmentation.
        channels: For folders, shards and Hugging Face data sets.
        split: For Hugging Face data sets.
        plain: Emoji without augmentation.
    """
    from fewstep import provenance
    from fewstep.data import contact_sheet

    check_picture(out)
    dataset = open_dataset(source, size, channels, split, plain)
    provenance.save(contact_sheet(dataset, n, columns, seed), out)
    say(f"{out}: {min(n, len(dataset))} of {len(dataset)} examples of {dataset.name}")
    skipped = getattr(dataset, "skipped", None)
    if skipped is not None and len(skipped):
        named = ", ".join(list(skipped.reasons)[:5])
        say(f"{len(skipped)} could not be read: {named}; another stands in for each, as in training")
    return 0


def open_dataset(
    source: str, size: int, channels: Literal["RGB", "RGBA", "L"], split: str = "train", plain: bool = False
) -> Dataset:
    """A data set by what people call it: a built-in name, a folder, shards, or a Hugging Face name."""
    from fewstep import data
    from fewstep.data.emoji import PLAIN, Augmentation, Emoji

    if source == "emoji":
        return Emoji(size, PLAIN if plain else Augmentation())
    if source == "digits":
        return data.Digits(size)
    toys: dict[str, Callable[[], Dataset]] = {
        "ring": data.ring,
        "checkerboard": data.checkerboard,
        "two-moons": data.two_moons,
        "spiral": data.spiral,
    }
    if source in toys:
        return toys[source]()
    return data.open_pictures(source, size, channels, split)
