"""Noto Color Emoji (SIL OFL 1.1) as captioned, transparent pictures.

Glyphs are rendered from the colour font; names come from Unicode's emoji-test.txt and keywords from CLDR. Recoloured
and restyled pictures and sketches are made by rule (`fewstep.data.styles`).
"""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

from fewstep.core.randomness import derive
from fewstep.data.dataset import DataError, Example
from fewstep.data.styles import COLOURS, STYLES, recolour, sketch

FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
EMOJI_TEST = "/usr/share/unicode/emoji/emoji-test.txt"
ANNOTATIONS = "/usr/share/unicode/cldr/common/annotations/en.xml"
SIZES = range(8, 129)  # pixels a side

FONT_VARIABLE = "FEWSTEP_EMOJI_FONT"
EMOJI_TEST_VARIABLE = "FEWSTEP_EMOJI_TEST"
ANNOTATIONS_VARIABLE = "FEWSTEP_EMOJI_ANNOTATIONS"

_FONT_SIZE = 109  # the only size of Noto's bitmaps: 136 × 128 pixels
_SKIN_TONES = {chr(c) for c in range(0x1F3FB, 0x1F400)}
_PERSON = re.compile(r"\b(man|woman|men|women|person|people|boy|girl|child|adult|family|couple)\b")
_PEOPLE_SUBGROUPS = re.compile(r"^(person|family)")


@dataclass(frozen=True)
class Glyph:
    """One emoji: its text, its Unicode name and its CLDR keywords, all in lower case."""

    text: str
    name: str
    keywords: tuple[str, ...]
    group: str
    subgroup: str


@dataclass(frozen=True)
class Selection:
    """Which emoji to use; the default is those that a small picture shows well and a name describes."""

    people: bool = False
    skin_tones: bool = False
    symbols: bool = False
    clocks: bool = False
    flags: bool = False

    def __call__(self, glyph: Glyph) -> bool:
        """Whether this glyph is selected."""
        if glyph.group == "Component":
            return False
        if not self.skin_tones and any(c in _SKIN_TONES for c in glyph.text):
            return False
        if not self.people and (_PEOPLE_SUBGROUPS.match(glyph.subgroup) or _gendered(glyph)):
            return False
        if not self.symbols and glyph.group == "Symbols":
            return False
        if not self.clocks and glyph.subgroup == "time" and "o’clock" in glyph.name.replace("-thirty", " o’clock"):
            return False
        return self.flags or glyph.group != "Flags"


def _gendered(glyph: Glyph) -> bool:
    return glyph.group == "People & Body" and _PERSON.search(glyph.name) is not None


def _font() -> str:
    return os.environ.get(FONT_VARIABLE) or FONT


def _emoji_test() -> str:
    return os.environ.get(EMOJI_TEST_VARIABLE) or EMOJI_TEST


def _annotations() -> str:
    return os.environ.get(ANNOTATIONS_VARIABLE) or ANNOTATIONS


def read_glyphs(
    selection: Selection | None = None, emoji_test: str | None = None, annotations: str | None = None
) -> list[Glyph]:
    """Read the fully-qualified emoji that `selection` accepts, in Unicode's order; the files are as for `Emoji`.

    Raises:
        DataError: a file is missing, or holds no emoji.
    """
    selection = selection or Selection()
    emoji_test = emoji_test or _emoji_test()
    keywords = _read_keywords(_existing(annotations or _annotations(), "unicode-cldr-core", ANNOTATIONS_VARIABLE))
    glyphs, group, subgroup = [], "", ""
    pattern = re.compile(r"^([0-9A-F ]+?)\s*; fully-qualified\s*# \S+ E[\d.]+ (.+)$")
    listed = _existing(emoji_test, "unicode-data", EMOJI_TEST_VARIABLE)
    for line in listed.read_text(encoding="utf-8").splitlines():
        if line.startswith("# group: "):
            group = line.removeprefix("# group: ")
        elif line.startswith("# subgroup: "):
            subgroup = line.removeprefix("# subgroup: ")
        elif match := pattern.match(line):
            text = "".join(chr(int(code, 16)) for code in match[1].split())
            name = match[2].lower()
            words = keywords.get(text.replace("\ufe0f", ""), ())
            glyph = Glyph(text, name, tuple(word for word in words if word != name), group, subgroup)
            if selection(glyph):
                glyphs.append(glyph)
    if not glyphs:
        raise DataError(f"no emoji selected from '{emoji_test}': it must be Unicode's emoji-test.txt")
    return glyphs


def _existing(path: str, package: str, variable: str) -> Path:
    found = Path(path)
    if not found.is_file():
        raise DataError(f"'{path}' is missing: install Debian's package '{package}', or give its path in {variable}")
    return found


def _read_keywords(path: Path) -> dict[str, tuple[str, ...]]:
    keywords = {}
    for element in ET.parse(path).iter("annotation"):
        if element.get("type") is None and element.text:
            key = (element.get("cp") or "").replace("\ufe0f", "")
            keywords[key] = tuple(word.strip().lower() for word in element.text.split("|"))
    return keywords


def draw(text: str, font: ImageFont.FreeTypeFont, size: int) -> Any | None:
    """Draw one emoji: premultiplied RGBA, float32 [4, size, size] in [0, 1]; None if the font lacks it."""
    canvas = Image.new("RGBA", (136, 136), (0, 0, 0, 0))
    ImageDraw.Draw(canvas).text((0, 4), text, font=font, embedded_color=True)
    pixels = np.asarray(canvas, dtype=np.float32) / 255
    if font.getlength(text) > 200 or not pixels[..., 3].any():
        return None
    premultiplied = np.concatenate([pixels[..., :3] * pixels[..., 3:], pixels[..., 3:]], axis=-1)
    channels = [
        np.asarray(Image.fromarray(premultiplied[..., c]).resize((size, size), Image.Resampling.LANCZOS))
        for c in range(4)
    ]
    return clamp(np.stack(channels))


def clamp(image: Any) -> Any:
    """The nearest premultiplied image: alpha in [0, 1], colour in [0, alpha]."""
    alpha = image[3:].clip(0, 1)
    return np.concatenate([image[:3].clip(0, alpha), alpha]).astype(np.float32)


@lru_cache(maxsize=2)
def _draw_all(
    size: int, selection: Selection, font: str, emoji_test: str, annotations: str
) -> tuple[list[Glyph], Any]:
    """The glyphs that the font has and their pictures, uint8 [n, 2·size, 2·size, 4]; takes seconds."""
    path = _existing(font, "fonts-noto-color-emoji", FONT_VARIABLE)
    if not features.check("raqm"):  # without it sequences fall apart, and 140 emoji would silently be missing
        raise DataError("Pillow draws emoji through Raqm, which needs FriBiDi: install Debian's 'libfribidi0'")
    loaded = ImageFont.truetype(str(path), _FONT_SIZE)
    glyphs, pictures = [], []
    for glyph in read_glyphs(selection, emoji_test, annotations):
        picture = draw(glyph.text, loaded, 2 * size)
        if picture is not None:
            glyphs.append(glyph)
            pictures.append(picture)
    # bytes, channels last, at twice the size: fastest for Pillow to transform
    stacked = (np.stack(pictures).transpose(0, 2, 3, 1) * 255).round().astype(np.uint8)
    return glyphs, np.ascontiguousarray(stacked)


@dataclass(frozen=True)
class Augmentation:
    """How often, and how far, a training example differs from the plain glyph.

    Args:
        shift: Largest shift, as a share of the side; uniformly distributed.
        turn: Largest rotation in degrees; uniformly distributed.
        shrink: Largest reduction, as a share of the size; uniformly distributed.
        still: Share of examples without a sketch that are not moved. A sketch shows where things are, but a prompt
            does not, and this uncertainty would blur the model's first estimates.
        colour: Share of examples with a colour word.
        style: Share of examples with a style word.
        control: Share of examples with a sketch.
        keywords: Share of captions that use CLDR keywords.
    """

    shift: float = 0.05
    turn: float = 8.0
    shrink: float = 0.12
    still: float = 0.0
    colour: float = 0.25
    style: float = 0.25
    control: float = 0.5
    keywords: float = 0.3


PLAIN = Augmentation(shift=0, turn=0, shrink=0, colour=0, style=0, control=0, keywords=0)
"""Plain glyphs, captioned with their names."""


@dataclass(frozen=True)
class Emoji:
    """Emoji as a `Dataset`: labels are glyphs, captions are made from names, keywords, colours and styles.

    Args:
        size: side in pixels.
        augmentation: how examples are augmented.
        selection: which emoji to use.
        font, emoji_test, annotations: paths of the colour font, Unicode's emoji-test.txt and CLDR's annotations; by
            default those named by FEWSTEP_EMOJI_FONT, FEWSTEP_EMOJI_TEST and FEWSTEP_EMOJI_ANNOTATIONS, else the
            paths of Debian's packages.
        styles: the style words of `STYLES` that examples are drawn in.
        held_out: one in this many colour × glyph and style × glyph combinations is held out of training.
    """

    size: int = 32
    augmentation: Augmentation = field(default_factory=Augmentation)
    selection: Selection = field(default_factory=Selection)
    font: str = field(default_factory=_font)
    emoji_test: str = field(default_factory=_emoji_test)
    annotations: str = field(default_factory=_annotations)
    styles: tuple[str, ...] = tuple(STYLES)
    held_out: int = 10
    name: str = "emoji"

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.styles) - set(STYLES)):
            raise DataError(f"styles must be some of {', '.join(STYLES)}, got {', '.join(unknown)}")
        if self.size not in SIZES:
            raise DataError(f"emoji size must be between {SIZES[0]} and {SIZES[-1]} pixels, got {self.size}")

    @cached_property
    def _drawn(self) -> tuple[list[Glyph], Any]:
        return _draw_all(self.size, self.selection, self.font, self.emoji_test, self.annotations)

    @property
    def glyphs(self) -> list[Glyph]:
        """The glyphs that the font has, by label."""
        return self._drawn[0]

    @property
    def shape(self) -> tuple[int, ...]:
        return (4, self.size, self.size)

    @property
    def classes(self) -> int:
        return len(self)

    @property
    def captions(self) -> list[str]:
        return [glyph.name for glyph in self.glyphs]

    def __len__(self) -> int:
        return len(self.glyphs)

    def is_held_out(self, index: int, word: str) -> bool:
        """Whether the combination of this glyph with this colour or style word is held out of training."""
        return derive("held out", self.glyphs[index].name, word) % self.held_out == 0

    def picture(self, index: int, rng: np.random.Generator | None = None) -> Any:
        """The plain glyph [4, size, size], moved as the augmentation says if `rng` is given."""
        large = self._drawn[1][index]
        aug = self.augmentation
        if rng is not None and (aug.shift or aug.turn or aug.shrink):
            large = self._moved(large, rng)
        small = large.reshape(self.size, 2, self.size, 2, 4).mean(axis=(1, 3)) / 255
        return clamp(small.transpose(2, 0, 1))

    def pose(self, index: int, rng: np.random.Generator) -> Any:
        """The plain glyph [4, size, size] as in an example without a sketch: in its place, or moved."""
        still = self.augmentation.still
        return self.picture(index, None if still and rng.random() < still else rng)

    def picture_in(
        self, index: int, rng: np.random.Generator, colour: str | None = None, style: str | None = None
    ) -> Any:
        """A glyph [4, size, size] with these colour and style words, as in an example without a sketch."""
        image = self.pose(index, rng)
        if colour:
            image = recolour(image, colour)
        if style:
            image = STYLES[style](image)
        return clamp(image)

    def _moved(self, image: Any, rng: np.random.Generator) -> Any:
        aug, side = self.augmentation, 2 * self.size
        angle = np.deg2rad(rng.uniform(-aug.turn, aug.turn))
        zoom = 1 / (1 - rng.uniform(0, aug.shrink))
        shift = rng.uniform(-aug.shift, aug.shift, size=2) * side
        cos, sin, middle = zoom * np.cos(angle), zoom * np.sin(angle), side / 2
        matrix = (
            cos, sin, middle - cos * (middle + shift[0]) - sin * (middle + shift[1]),
            -sin, cos, middle + sin * (middle + shift[0]) - cos * (middle + shift[1]),
        )  # fmt: skip
        # CMYK is Pillow's name for four plain channels: RGBA would be premultiplied a second time
        moved = Image.fromarray(image, "CMYK").transform(
            (side, side), Image.Transform.AFFINE, matrix, resample=Image.Resampling.BILINEAR
        )
        return np.asarray(moved)

    def example(self, index: int, rng: np.random.Generator) -> Example:
        """A glyph, possibly recoloured and restyled, with a matching caption and possibly a sketch."""
        aug = self.augmentation
        sketched = rng.random() < aug.control
        image = self.picture(index, rng) if sketched else self.pose(index, rng)
        colour = self._word(index, list(COLOURS), aug.colour, rng)
        style = self._word(index, list(self.styles), aug.style, rng)
        if colour:
            image = recolour(image, colour)
        control = sketch(image, rng) if sketched else None
        if style:
            image = STYLES[style](image)
        caption = self.caption(index, colour, style, rng if aug.keywords else None)
        return Example(clamp(image), caption, index, control)

    def _word(self, index: int, words: list[str], share: float, rng: np.random.Generator) -> str | None:
        """A random word for a `share` of examples, never one that is held out for this glyph."""
        drawn = words[int(rng.integers(len(words)))] if words and rng.random() < share else None
        return None if drawn is None or self.is_held_out(index, drawn) else drawn

    def caption(
        self, index: int, colour: str | None = None, style: str | None = None, rng: np.random.Generator | None = None
    ) -> str:
        """The plain caption of a glyph in a colour and style, or with `rng` one of its many other wordings."""
        glyph = self.glyphs[index]
        text = glyph.name
        if rng is not None and glyph.keywords and rng.random() < self.augmentation.keywords:
            chosen = rng.permutation(list(glyph.keywords))[: int(rng.integers(1, 4))].tolist()
            text = " ".join([glyph.name, *chosen] if rng.random() < 0.6 else chosen)
        if colour:
            text = f"{colour} {without_colours(text)}"
        if rng is not None and not style and rng.random() < 0.3:
            text = f"{'an' if text[:1] in 'aeiou' else 'a'} {text}"
        if style:
            text = f"{style} {text}" if rng is None or rng.random() < 0.5 else f"{text}, {style}"
        return text


def without_colours(text: str) -> str:
    """A caption without its colour words, so that another can replace them; unchanged if nothing would be left."""
    left = " ".join(word for word in text.split() if word not in COLOURS)
    return left or text
