"""Whether a sketch decides where a thing stands and what shape it has, and whether a style leaves it there.

Shapes are compared by intersection over union of what is covered, holes filled: an outline and a silhouette of one
thing have one shape.
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
"""How far the sketched glyphs stand from where the font has them."""


@dataclass(frozen=True)
class SketchRow:
    """One kind of sketch, over all pictures.

    Args:
        kind: of sketch.
        strength: of the control image.
        overlap, overlap_without: mean intersection over union of the sketched shape and the picture's, with the
            sketch and without.
        right, right_without: share of pictures that the judge takes for what was asked for.
        right_real: share of real pictures at the sketches' places that it does: no model is right more often.
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
    """One style word, over all pictures.

    Args:
        style: the word.
        overlap: mean intersection over union of the picture's shape and that of the same prompt and seed without
            the word.
        right: share of pictures that the judge takes for what was asked for, whatever their style.
        style_right: share that it takes for this style.
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
    """Draw glyphs from a sketch of them somewhere, for each kind of sketch.

    Args:
        model: one that takes a control image.
        subject: the glyphs and their judge.
        n: pictures of each kind.
        seed: chooses glyphs, places and noise.
        strengths: of the control image.
        frame: whether sketches are framed (`Request.control_frame`).
        guidance: the scale with a sketch, instead of the model's own.
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
    """Draw glyphs in each style, with the seed of the plain picture.

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
    """What a picture [4, h, w] covers, holes filled: bool [h, w]."""
    _, height, width = pixels.shape
    covered = Image.new("L", (width + 2, height + 2), 0)
    covered.paste(Image.fromarray(((pixels[3] > 0.5) * np.uint8(255)).astype(np.uint8)), (1, 1))
    ImageDraw.floodfill(covered, (0, 0), 128)
    return np.asarray(covered)[1:-1, 1:-1] != 128


def _overlap(shapes: Sequence[Any], pictures: Any) -> float:
    """Mean intersection over union; of two empty shapes 1."""
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
    """One picture [4, h, w] for each request, as the model's defaults and `choices` have it."""
    pictures = []
    for position, query in enumerate(queries):
        steered = {} if sketches is None else {"control": sketches[position]}
        picture = model.generate(query.prompt, seed=seed + position, **steered, **(choices or {}))
        pictures.append(to_pixels(picture, model.spec.pixels, model.spec.pixel_format))
    return np.stack(pictures)


def _rng(seed: int, position: int, kind: str = "") -> np.random.Generator:
    return np.random.Generator(np.random.Philox(derive("sketching", seed, position, kind)))
