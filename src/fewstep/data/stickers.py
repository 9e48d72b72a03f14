"""Stickers: a thousand things, each drawn by seven artists, as captioned, transparent pictures.

An example's label is its style, the artist's index in ARTISTS, a condition in addition to the caption. Drawings come
from npm packages (`fewstep.data.artists`), names from Unicode, keywords from CLDR; recolouring is by rule.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fewstep.core.randomness import derive
from fewstep.data.artists import ARTISTS
from fewstep.data.dataset import DataError, Example
from fewstep.data.emoji import Glyph, Selection, read_glyphs
from fewstep.data.rendered import Rendered, render
from fewstep.data.styles import COLOURS, recolour
from fewstep.data.wording import caption

STYLES = tuple(artist.style for artist in ARTISTS)
LINES, TRACED = "outline", ("3D", "gradient", "flat", "outline")
"""The style of line drawings, and the styles that show the same shapes."""

SIZES = range(16, 513)  # pixels a side
KEPT = 256
"""Side in pixels of the cached drawings for pictures up to half as large, so that they stay sharp when moved; for
larger pictures it is twice their side."""


@dataclass(frozen=True)
class Variation:
    """How often, and how far, an example differs from the plain drawing.

    Args:
        shrink: Largest reduction, as a share of the size; uniformly distributed.
        shift: Share of the room left by shrinking that drawings are shifted in; 1 for all of it.
        flip: Share of examples that are mirrored, except those with left or right in their name.
        colour: Share of examples with a colour word.
        styled: Share of captions that name the style.
        worded: Share of captions that are not simply the name.
    """

    shrink: float = 0.15
    shift: float = 0.5
    flip: float = 0.0
    colour: float = 0.2
    styled: float = 0.3
    worded: float = 0.5

    def __post_init__(self) -> None:
        for name in ("shift", "flip", "colour", "styled", "worded"):
            if not 0 <= getattr(self, name) <= 1:
                raise DataError(f"{name} must be between 0 and 1, got {getattr(self, name)}")
        if not 0 <= self.shrink <= 0.9:
            raise DataError(f"shrink must be between 0 and 0.9, got {self.shrink}")


@dataclass(frozen=True)
class Pose:
    """Where a drawing is in its picture: its side and its left top corner, in pixels."""

    side: int
    left: int
    top: int


PLAIN = Variation(shrink=0, shift=0, flip=0, colour=0, styled=1, worded=0)
"""Plain drawings, captioned with style and name."""


@dataclass(frozen=True)
class Stickers:
    """All stickers as a `Dataset`, with the style as label.

    Args:
        size: side in pixels.
        variation: how examples are augmented.
        packages: a folder with the packages' archives; if None npm fetches them.
        selection: which emoji to use.
        held_out: one in this many style × thing and colour × thing pairs is held out; 0 for none.
        things: `all`, or for codecs and judges `train` or `test`: one in HELD_BACK things is a test thing.
    """

    size: int = 128
    variation: Variation = field(default_factory=Variation)
    packages: Path | None = field(default=None, compare=False)
    selection: Selection = field(default_factory=Selection)
    held_out: int = 10
    things: str = "all"
    name: str = "stickers"

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise DataError(f"sticker size must be between {SIZES[0]} and {SIZES[-1]} pixels, got {self.size}")
        if self.things not in ("all", "train", "test"):
            raise DataError(f"things must be all, train or test, got {self.things!r}")

    @cached_property
    def glyphs(self) -> list[Glyph]:
        """The selected emoji, regardless of `things`."""
        return read_glyphs(self.selection)

    @cached_property
    def rendered(self) -> Rendered:
        """All rendered pictures."""
        return render(self.glyphs, max(KEPT, 2 * self.size), self.packages)

    @cached_property
    def shown(self) -> tuple[int, ...]:
        """The indices in `rendered` of the pictures in this data set."""
        return tuple(
            place
            for place, (thing, style) in enumerate(zip(self.rendered.things, self.rendered.styles, strict=True))
            if not self.is_held_out(thing, STYLES[style]) and self._chosen(thing)
        )

    def _chosen(self, thing: int) -> bool:
        held_back = derive("held back", self.glyphs[thing].name) % HELD_BACK == 0
        return self.things == "all" or held_back == (self.things == "test")

    @cached_property
    def _traced(self) -> dict[int, int]:
        """The index in `rendered` of the outline artist's drawing of each thing."""
        drawn = zip(self.rendered.things, self.rendered.styles, strict=True)
        return {thing: place for place, (thing, style) in enumerate(drawn) if STYLES[style] == LINES}

    def line_art(self, place: int) -> int | None:
        """The index in `rendered` of a line drawing of the same shapes as this drawing; None if there is none."""
        is_traced = STYLES[self.rendered.styles[place]] in TRACED
        return self._traced.get(self.rendered.things[place]) if is_traced else None

    @property
    def shape(self) -> tuple[int, ...]:
        return (4, self.size, self.size)

    @property
    def classes(self) -> int:
        return len(STYLES)

    @property
    def captions(self) -> list[str]:
        return [glyph.name for glyph in self.glyphs]

    def __len__(self) -> int:
        return len(self.shown)

    def is_held_out(self, thing: int, word: str) -> bool:
        """Whether a thing is held out in this style or colour."""
        return self.held_out > 0 and derive("held out", self.glyphs[thing].name, word) % self.held_out == 0

    def picture(self, place: int, side: int | None = None) -> Any:
        """The plain drawing at an index in `rendered`: premultiplied RGBA, float32 [4, side, side] in [0, 1]."""
        side = self.size if side is None else side
        kept = np.ascontiguousarray(self.rendered.pictures[place])
        # CMYK is Pillow's name for four plain channels: RGBA would be premultiplied a second time
        resized = Image.fromarray(kept, "CMYK").resize((side, side), Image.Resampling.HAMMING)
        return np.asarray(resized, dtype=np.float32).transpose(2, 0, 1) / 255

    def example(self, index: int, rng: np.random.Generator) -> Example:
        """A drawing, possibly shrunk, shifted, mirrored or recoloured, with a caption."""
        place, vary = self.shown[index], self.variation
        thing, style = self.rendered.things[place], self.rendered.styles[place]
        glyph = self.glyphs[thing]
        image = self.posed(place, self.pose(rng))
        if rng.random() < vary.flip and not {"left", "right"} & set(glyph.name.replace("-", " ").split()):
            image = np.ascontiguousarray(image[:, :, ::-1])
        colour = self._colour(thing, rng)
        if colour:
            image = recolour(image, colour)
        styled = STYLES[style] if rng.random() < vary.styled else None
        words = caption(glyph, colour, styled, rng if rng.random() < vary.worded else None)
        return Example(image, words, style)

    def _colour(self, thing: int, rng: np.random.Generator) -> str | None:
        word = list(COLOURS)[int(rng.integers(len(COLOURS)))] if rng.random() < self.variation.colour else None
        return None if word is None or self.is_held_out(thing, word) else word

    def pose(self, rng: np.random.Generator) -> Pose:
        """A random pose, as shrunk and shifted as the variation says."""
        vary = self.variation
        side = round(self.size * (1 - rng.uniform(0, vary.shrink)))
        room = self.size - side
        left, top = (
            int(rng.integers(0, round(room * vary.shift) + 1) + room * (1 - vary.shift) / 2) for _ in range(2)
        )
        return Pose(side, left, top)

    def posed(self, place: int, pose: Pose) -> Any:
        """The drawing at an index in `rendered` in this pose: premultiplied RGBA, float32 [4, size, size]."""
        canvas = np.zeros(self.shape, dtype=np.float32)
        rows, columns = (slice(start, start + pose.side) for start in (pose.top, pose.left))
        canvas[:, rows, columns] = self.picture(place, pose.side)
        return canvas


HELD_BACK = 40
"""One in this many things is held back for tests of codecs and judges."""


def attributions() -> list[str]:
    """One line per artist, to be shown with the pictures and with models trained on them."""
    return [artist.attribution for artist in ARTISTS]
