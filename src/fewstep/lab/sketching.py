"""Whether a sketch determines the position and shape of a thing, and whether a style word preserves them.

Shapes are compared by the intersection over union of the covered areas with holes filled, so that an outline and a
silhouette of one thing have the same shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from fewstep.core.randomness import derive
from fewstep.data.emoji import Augmentation
from fewstep.data.styles import SKETCHES
from fewstep.generation.model import Model
from fewstep.measure.subjects import EmojiSubject, Query, matches
from fewstep.pictures.pixels import to_image, to_pixels

PLACES = Augmentation(shift=0.1, turn=10.0, shrink=0.35)
"""How far the sketched glyphs are moved from where the font draws them."""


@dataclass(frozen=True)
class SketchRow:
    """Results for one kind of sketch, over all pictures.

    Args:
        kind: kind of sketch.
        strength: strength of the control image.
        overlap, overlap_without: mean intersection over union of the sketched shape and the picture's, with and
            without the sketch.
        right, right_without: share of pictures that the judge recognises as what was asked for.
        right_real: the same share for real pictures at the sketches' positions, an upper bound for any model.
    """

    kind: str
    strength: float
    overlap: float
    overlap_without: float
    right: float
    right_without: float
    right_real: float


@dataclass(frozen=True)
class StyleRow:
    """Results for one style word, over all pictures.

    Args:
        style: the style word.
        overlap: mean intersection over union of the picture's shape and that of the same prompt and seed without
            the style word.
        right: share of pictures that the judge recognises as what was asked for, whatever their style.
        style_right: share of pictures in which it recognises this style.
    """

    style: str
    overlap: float
    right: float
    style_right: float


def sketched(
    model: Model,
    subject: EmojiSubject,
    n: int = 100,
    seed: int = 0,
    strengths: Sequence[float] = (1.0,),
    frame: bool = True,
    guidance: float | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> list[SketchRow]:
    """Draw glyphs from sketches of them at random positions, for each kind of sketch.

    Args:
        model: a model that takes a control image.
        subject: the glyphs and their judge.
        n: pictures per kind of sketch.
        seed: seed of the choice of glyphs, of positions and of the noise.
        strengths: strengths of the control image.
        frame: whether sketches are framed (`Request.control_frame`).
        guidance: the guidance scale with a sketch; None for the model's own.
        progress: called with a line of text for each step of the work.
    """
    queries = subject.queries(n, seed)
    moved = replace(subject.dataset, augmentation=PLACES)
    real = np.stack([moved.picture(query.index, _rng(seed, k)) for k, query in enumerate(queries)])
    shapes = [shape(pixels) for pixels in real]
    plain = _drawn(model, queries, seed)
    without = _overlap(shapes, plain), _right(subject, queries, plain)
    truth = _right(subject, queries, real)
    rows = []
    for kind, draw in SKETCHES.items():
        sketches = [
            to_image(draw(pixels, _rng(seed, k, kind)), model.spec.pixel_format) for k, pixels in enumerate(real)
        ]
        for strength in strengths:
            choices = {"control_strength": strength, "control_frame": frame, "guidance": guidance}
            pictures = _drawn(model, queries, seed, sketches, choices)
            overlap, right = _overlap(shapes, pictures), _right(subject, queries, pictures)
            row = SketchRow(kind, strength, overlap, without[0], right, without[1], truth)
            progress(f"{kind}, strength {strength:g}: overlap {row.overlap:.3f}, {row.right:.1%} right")
            rows.append(row)
    return rows


def styled(
    model: Model,
    subject: EmojiSubject,
    n: int = 100,
    seed: int = 0,
    progress: Callable[[str], None] = lambda text: None,
) -> list[StyleRow]:
    """Draw glyphs in each style, with the same seed as the plain picture.

    Args:
        model, subject, n, seed, progress: as for `sketched`.
    """
    queries = subject.queries(n, seed)
    shapes = [shape(pixels) for pixels in _drawn(model, queries, seed)]
    rows = []
    for style in subject.dataset.styles:
        worded = [
            Query(query.index, query.name, subject.dataset.caption(query.index, None, style), style=style)
            for query in queries
        ]
        pictures = _drawn(model, worded, seed)
        verdict = subject.judge(pictures)
        named = np.mean([name == query.name for name, query in zip(verdict.names, queries, strict=True)])
        seen = np.mean([word == style for word in verdict.words["style"]])
        row = StyleRow(style, _overlap(shapes, pictures), round(float(named), 4), round(float(seen), 4))
        progress(f"{style}: overlap {row.overlap:.3f}, {row.right:.1%} right, {row.style_right:.1%} in this style")
        rows.append(row)
    return rows


def shape(pixels: Any) -> Any:
    """The area that a picture [4, h, w] covers, with holes filled: bool [h, w]."""
    _, height, width = pixels.shape
    covered = Image.new("L", (width + 2, height + 2), 0)
    covered.paste(Image.fromarray(((pixels[3] > 0.5) * np.uint8(255)).astype(np.uint8)), (1, 1))
    ImageDraw.floodfill(covered, (0, 0), 128)
    return np.asarray(covered)[1:-1, 1:-1] != 128


def _overlap(shapes: Sequence[Any], pictures: Any) -> float:
    """Mean intersection over union; 1 for two empty shapes."""
    ratios = []
    for wanted, pixels in zip(shapes, pictures, strict=True):
        got = shape(pixels)
        either = (wanted | got).sum()
        ratios.append((wanted & got).sum() / either if either else 1.0)
    return round(float(np.mean(ratios)), 4)


def _right(subject: EmojiSubject, queries: Sequence[Query], pictures: Any) -> float:
    return round(float(matches(queries, subject.judge(pictures)).mean()), 4)


def _drawn(
    model: Model,
    queries: Sequence[Query],
    seed: int,
    sketches: Sequence[Image.Image] | None = None,
    choices: Mapping[str, Any] | None = None,
) -> Any:
    """One picture [4, h, w] per request, with the model's defaults and `choices`."""
    pictures = []
    for position, query in enumerate(queries):
        control = None if sketches is None else sketches[position]
        picture = model.generate(query.prompt, seed=seed + position, control=control, **(choices or {}))
        pictures.append(to_pixels(picture, model.spec.pixels, model.spec.pixel_format))
    return np.stack(pictures)


def _rng(seed: int, position: int, kind: str = "") -> np.random.Generator:
    return np.random.Generator(np.random.Philox(derive("sketching", seed, position, kind)))
