"""Stickers encoded once by a codec: the training data of a latent model, without pictures and codec.

`latents.npy` is float16 [pictures, c, h, w], and so is `sketches.npy`, a sketch of each picture; `latents.json` holds
what each picture shows (`Facts`), and the hash of the codec that made them. Captions are worded anew each time an
example is drawn.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fewstep.data.dataset import DataError, Example
from fewstep.data.emoji import Glyph, Selection, read_glyphs
from fewstep.data.scenes import Facts
from fewstep.data.stickers import STYLES
from fewstep.data.wording import caption

ARRAY = "latents.npy"
SKETCHES = "sketches.npy"
INDEX = "latents.json"


def write_latents(folder: Path, latents: Any, sketches: Any, facts: Sequence[Facts], codec: str) -> None:
    """Write a folder that `Latents` reads.

    Args:
        folder: the folder to write.
        latents, sketches: the pictures and a sketch of each, both [pictures, c, h, w].
        facts: what each picture shows.
        codec: hash of the codec that made them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / ARRAY, np.asarray(latents, dtype=np.float16))
    np.save(folder / SKETCHES, np.asarray(sketches, dtype=np.float16))
    rows = [list(astuple(each)) for each in facts]
    text = json.dumps({"codec": codec, "styles": STYLES, "pictures": rows}, ensure_ascii=False)
    (folder / INDEX).write_text(text + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Latents:
    """Encoded stickers as a `Dataset`: label = style, data = latents.

    Args:
        folder: made by `write_latents`.
        styled: the share of examples whose style is given, by the label, the caption or both.
        said: of those, the share whose caption names the style; half of them have no label.
        worded: the share of captions that are not simply the name.
        sketched: the share of examples with a sketch, of pictures that are not moved and of those that are.
        moved: whether to include pictures that are moved or show two things.
        selection: the emoji to look up names for.
    """

    folder: Path = field(compare=False)
    styled: float = 0.8
    said: float = 0.3
    worded: float = 0.3
    sketched: tuple[float, float] = (0.15, 0.95)
    moved: bool = True
    selection: Selection = field(default_factory=Selection)
    name: str = "sticker latents"

    def __post_init__(self) -> None:
        shares = {name: (getattr(self, name),) for name in ("styled", "said", "worded")}
        for name, values in (shares | {"sketched": self.sketched}).items():
            for value in values:
                if not 0 <= value <= 1:
                    raise DataError(f"{name} must be between 0 and 1, got {value}")

    @cached_property
    def _read(self) -> tuple[Any, Any, tuple[Facts, ...], str]:
        try:
            index = json.loads((self.folder / INDEX).read_text(encoding="utf-8"))
            facts = tuple(Facts(*row) for row in index["pictures"])
            latents, sketches = (np.load(self.folder / name, mmap_mode="r") for name in (ARRAY, SKETCHES))
            for name, array in ((ARRAY, latents), (SKETCHES, sketches)):
                if array.ndim != 4 or array.shape != latents.shape or len(array) != len(facts):
                    raise ValueError(f"{name} has shape {array.shape} for {len(facts)} pictures")
            if tuple(index["styles"]) != STYLES:
                raise ValueError(f"styles {index['styles']}, this version has {list(STYLES)}")
            return latents, sketches, facts, str(index["codec"])
        except (OSError, LookupError, TypeError, ValueError) as error:
            raise DataError(f"cannot read latents in '{self.folder}': {error}") from error

    @property
    def codec(self) -> str:
        """The hash of the codec that made these latents and decodes them."""
        return self._read[3]

    @property
    def facts(self) -> tuple[Facts, ...]:
        """What each picture shows."""
        return self._read[2]

    @property
    def glyphs(self) -> list[Glyph]:
        """All selected emoji, with their names and keywords."""
        return list(self._glyphs.values())

    @cached_property
    def _glyphs(self) -> dict[str, Glyph]:
        glyphs = {glyph.text: glyph for glyph in read_glyphs(self.selection)}
        shown = {thing for each in self.facts for thing in (each.thing, each.beside) if thing is not None}
        if missing := shown - glyphs.keys():
            raise DataError(
                f"'{self.folder}' holds {len(missing)} emoji that have no name here, such as {min(missing)}"
            )
        return glyphs

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._read[0].shape[1:])

    @property
    def classes(self) -> int:
        return len(STYLES)

    @property
    def captions(self) -> list[str]:
        return [glyph.name for glyph in self._glyphs.values()]

    @cached_property
    def _included(self) -> tuple[int, ...]:
        """Positions in the arrays."""
        return tuple(i for i, each in enumerate(self.facts) if self.moved or not (each.moved or each.beside))

    def __len__(self) -> int:
        return len(self._included)

    def example(self, index: int, rng: np.random.Generator) -> Example:
        """One encoded picture, with a randomly worded caption, with or without its style, with or without a sketch.

        A colour that a sketch shows is often left out of the caption.
        """
        index = self._included[index]
        each = self.facts[index]
        told, said, labelled = rng.random() < self.styled, rng.random() < self.said, rng.random() < 0.5
        style = STYLES[each.style] if told and said else None
        is_sketched = rng.random() < self.sketched[each.moved]
        sketch = np.asarray(self._read[1][index], dtype=np.float32) if is_sketched else None
        shown = sketch is not None and each.painted and rng.random() < 0.5
        words = self._caption(each, None if shown else each.colour, style, rng)
        label = each.style if told and (labelled or not said) else None
        return Example(np.asarray(self._read[0][index], dtype=np.float32), words, label, sketch)

    def _caption(self, each: Facts, colour: str | None, style: str | None, rng: np.random.Generator) -> str:
        worded = rng if rng.random() < self.worded else None
        if each.beside is None:
            return caption(self._glyphs[each.thing], colour, style, worded)
        first = caption(self._glyphs[each.thing], colour, style, worded)
        return f"{first} and {caption(self._glyphs[each.beside], None, None, worded)}"
