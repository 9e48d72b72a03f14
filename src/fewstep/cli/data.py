"""`fewstep data emoji | preview`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

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
    """Describe the emoji data: number of glyphs by group, mean and deviation of each channel, size of the glyphs.

    Args:
        size: Side of the pictures, in pixels.
        people: Include people and families.
        skin_tones: Include every skin tone.
        symbols: Include signs, arrows and letters.
        clocks: Include every clock face.
        flags: Include flags.
        json: Write the description as JSON to this file, or to standard output with -.
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
        "fills": round(float(np.mean([_longer_side(picture[3] > 0.1) for picture in pictures])), 4),
        "captions": dataset.captions,
    }
    say(f"{facts['glyphs']} emoji at {size}×{size}, premultiplied RGBA", json)
    for group, count in dict(Counter(glyph.group for glyph in dataset.glyphs)).items():
        say(f"  {count:5} {group}", json)
    say(f"channel mean {facts['mean']}, deviation {facts['std']}", json)
    say(f"the longer side of a glyph takes {facts['fills']} of the picture's", json)
    write_json(json, facts)
    return 0


def _longer_side(covered: Any) -> float:
    """The larger of the width and height of the covered pixels [h, w], as a fraction of the picture's side."""
    lines = [covered.any(axis=axis).nonzero()[0] for axis in (0, 1)]
    return max(float(line[-1] - line[0] + 1) for line in lines) / len(covered)


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
    flip: bool = False,
    crop: Literal["center", "random", "pad"] = "center",
    caption_column: str | None = None,
    config: str | None = None,
    plain: bool = False,
    json: str | None = None,
) -> int:
    """Draw a contact sheet of training examples, augmented and captioned as in training.

    Args:
        source: emoji, stickers, digits, ring, checkerboard, two-moons, spiral, an image folder, .tar shards, or a
            Hugging Face data set by name or local path.
        out: The image file to write.
        n: Number of examples to show.
        columns: Number of examples per row.
        size: Side of each example, in pixels.
        seed: Seed of the order and the augmentation.
        channels: Channels of the images of folders, shards and Hugging Face data sets.
        split: Split of a Hugging Face data set, or of a folder that has splits (train/, test/, …).
        flip: Mirror images left to right in half of the draws.
        crop: What of an image is shown: center or random cut it to the frame, pad shows all of it with margins.
        caption_column: The column with the captions, for folders with metadata and Hugging Face data sets.
        config: A configuration of a Hugging Face data set.
        plain: Draw emoji and stickers without augmentation.
        json: Write a report as JSON to this file, or to standard output with -.
    """
    from fewstep import pictures
    from fewstep.data import contact_sheet

    check_json(json)
    check_picture(out)
    own = Pictured(channels, split, flip, crop, caption_column, config)
    dataset = open_dataset(source, size, own, plain)
    pictures.save(contact_sheet(dataset, n, columns, seed), out)
    say(f"{out}: {min(n, len(dataset))} of {len(dataset)} examples of {dataset.name}", json)
    skipped = getattr(dataset, "skipped", None)
    reasons = {} if skipped is None else dict(skipped.reasons)
    if reasons:
        named = ", ".join(list(reasons)[:5])
        say(f"{len(reasons)} could not be read: {named}; each is replaced by another, as in training", json)
    write_json(json, {"source": source, "file": str(out), "examples": len(dataset), "skipped": reasons})
    return 0


@dataclass(frozen=True)
class Pictured:
    """The options of `fewstep train images` that say which pictures a user's data are, and how they are framed."""

    channels: Literal["RGB", "RGBA", "L"] = "RGB"
    split: str = "train"
    flip: bool = False
    crop: Literal["center", "random", "pad"] = "center"
    caption_column: str | None = None
    config: str | None = None


def open_dataset(source: str, size: int, own: Pictured = Pictured(), plain: bool = False) -> Dataset:
    """The data set for a source: a built-in name, a folder, shards, or a Hugging Face name.

    Built-in drawings are augmented as the recipe of their name does.
    """
    from fewstep import data
    from fewstep.data import stickers
    from fewstep.data.emoji import PLAIN, Emoji
    from fewstep.data.stickers import Stickers
    from fewstep.recipes.emoji import EmojiRecipe
    from fewstep.recipes.stickers import StickersRecipe

    built_in: dict[str, Callable[[], Dataset]] = {
        "emoji": lambda: Emoji(size, PLAIN if plain else EmojiRecipe().augmentation),
        "stickers": lambda: Stickers(size, stickers.PLAIN if plain else StickersRecipe().variation),
        "digits": lambda: data.Digits(size),
        "ring": data.ring,
        "checkerboard": data.checkerboard,
        "two-moons": data.two_moons,
        "spiral": data.spiral,
    }
    if source not in built_in:
        return data.open_pictures(source, size, **asdict(own))
    given = [name for name, value in asdict(own).items() if value != getattr(Pictured, name)]
    if given:
        raise data.DataError(f"'{source}' is a built-in data set, which takes no {' or '.join(given)}: leave it out")
    return built_in[source]()
