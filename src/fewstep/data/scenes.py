"""What the latent model of stickers is trained on: one drawing, or two side by side, with facts and a sketch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fewstep.data.line_drawings import LineDrawing, line_drawing
from fewstep.data.stickers import Pose, Stickers
from fewstep.data.styles import COLOURS, recolour

SHRUNK = (0.9, 1.0)
"""The range of a drawing's side as a share of its half of the picture, where two are side by side."""


@dataclass(frozen=True)
class Facts:
    """What a picture shows.

    Args:
        thing: the emoji.
        style: the index of the artist.
        colour: the colour word, or None for the artist's own colours.
        beside: the emoji to the right of it, or None.
        painted: whether the sketch of it shows its colours.
        moved: whether it is smaller, or elsewhere, than the plain drawing.
    """

    thing: str
    style: int
    colour: str | None = None
    beside: str | None = None
    painted: bool = False
    moved: bool = False


@dataclass(frozen=True)
class Scene:
    """One training picture and a sketch of it, both premultiplied RGBA, float32 [4, h, w] in [0, 1]."""

    pixels: Any
    sketch: Any
    facts: Facts


@dataclass(frozen=True)
class Scenes:
    """Pictures of stickers.

    Args:
        stickers: the drawings and how they are moved.
        moved: the share that is moved. Where things are is told by a sketch and not by a prompt, and what a prompt
            does not tell blurs the estimates of few steps, so most pictures are as they are drawn.
        colour: the share that is recoloured.
        pairs: the share with two things side by side.
    """

    stickers: Stickers
    moved: float = 0.3
    colour: float = 0.3
    pairs: float = 0.1

    def scene(self, index: int, rng: np.random.Generator) -> Scene:
        """A drawing, often moved or recoloured, sometimes with a second one beside it, with a sketch of it."""
        stickers = self.stickers
        place, moved = stickers.shown[index], bool(rng.random() < self.moved)
        if rng.random() < self.pairs:
            return self._pair(place, moved, rng)
        pose = stickers.pose(rng) if moved else Pose(stickers.size, 0, 0)
        image, traced = stickers.posed(place, pose), self._traced(place, pose)
        colour = self._colour(place, rng)
        image = image if colour is None else recolour(image, colour)
        drawn = line_drawing(image, rng, traced)
        facts = Facts(self._name(place), self._style(place), colour, None, drawn.painted, moved)
        return Scene(image, drawn.image, facts)

    def _pair(self, place: int, moved: bool, rng: np.random.Generator) -> Scene:
        """Two drawings by one artist side by side."""
        stickers = self.stickers
        alike = [other for other in stickers.shown if self._style(other) == self._style(place)]
        other = alike[int(rng.integers(len(alike)))]
        half = stickers.size // 2
        image, sketch, painted = 0.0, 0.0, True
        for left, each in ((0, place), (half, other)):
            side = round(half * rng.uniform(*SHRUNK)) if moved else half
            across, down = int(rng.integers(half - side + 1)), rng.uniform(-0.5, 0.5) * half / 4 if moved else 0.0
            pose = Pose(side, left + across, round((stickers.size - side) / 2 + down))
            alone = stickers.posed(each, pose)
            drawn = line_drawing(alone, rng, self._traced(each, pose))
            image, sketch, painted = image + alone, _over(drawn, sketch), painted and drawn.painted
        facts = Facts(self._name(place), self._style(place), None, self._name(other), painted, moved)
        return Scene(image, sketch, facts)

    def _traced(self, place: int, pose: Pose) -> Any:
        """The artist's line drawing of a drawing in this pose, or None."""
        art = self.stickers.line_art(place)
        return None if art is None else self.stickers.posed(art, pose)

    def _colour(self, place: int, rng: np.random.Generator) -> str | None:
        word = list(COLOURS)[int(rng.integers(len(COLOURS)))] if rng.random() < self.colour else None
        held_out = word is not None and self.stickers.is_held_out(self.stickers.rendered.things[place], word)
        return None if held_out else word

    def _name(self, place: int) -> str:
        return self.stickers.glyphs[self.stickers.rendered.things[place]].text

    def _style(self, place: int) -> int:
        return self.stickers.rendered.styles[place]


def _over(drawn: LineDrawing, below: Any) -> Any:
    """A sketch over another."""
    return (drawn.image + below * (1 - drawn.image[3:])).astype(np.float32)
