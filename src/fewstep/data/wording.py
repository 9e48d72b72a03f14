"""Captions of emoji as people phrase them: names, keywords and word forms, colours and styles, the emoji itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from fewstep.data.emoji import Glyph, without_colours

MANY = 3  # most keywords in one caption


def caption(
    glyph: Glyph, colour: str | None = None, style: str | None = None, rng: np.random.Generator | None = None
) -> str:
    """A caption of a glyph in a colour and a style.

    Args:
        glyph: the glyph shown.
        colour, style: words to include, or None.
        rng: random numbers that choose one of many wordings; None gives the plainest.
    """
    if rng is None:
        return _with_style(_with_colour(glyph.name, colour), style, before=True)
    forms: Sequence[Callable[[Glyph, np.random.Generator], str]] = (_named, _keyed, _short, _plural, _pictograph)
    form = forms[int(np.searchsorted(np.cumsum(SHARES), rng.random()))]
    before, article = bool(rng.random() < 0.6), bool(rng.random() < 0.25)
    text = _with_style(_with_colour(form(glyph, rng), colour), style, before)
    return _with_article(text) if article and form in (_named, _short) else text


SHARES = (0.25, 0.3, 0.2, 0.1)
"""Shares of captions by name, keywords, short form and plural; the rest are the emoji itself."""


def _named(glyph: Glyph, rng: np.random.Generator) -> str:
    return glyph.name


def _keyed(glyph: Glyph, rng: np.random.Generator) -> str:
    """Some keywords, mostly after the name, since alone they are often ambiguous."""
    if not glyph.keywords:
        return glyph.name
    chosen = rng.permutation(list(glyph.keywords))[: int(rng.integers(1, MANY + 1))].tolist()
    return " ".join([glyph.name, *chosen] if rng.random() < 0.7 else chosen)


def _short(glyph: Glyph, rng: np.random.Generator) -> str:
    """A name without what people leave out: "grinning face with smiling eyes" becomes "grinning face", "dog face"
    "dog"."""
    text = re.sub(r"\b(button|symbol)\b", "", glyph.name)
    text = re.sub(r" (with|and|in|on|over|without) .*$", "", text).strip() if rng.random() < 0.5 else text
    if glyph.subgroup.startswith("animal"):
        text = text.removesuffix(" face")
    return text or glyph.name


def _plural(glyph: Glyph, rng: np.random.Generator) -> str:
    return plural(_short(glyph, rng))


def _pictograph(glyph: Glyph, rng: np.random.Generator) -> str:
    return glyph.text


def plural(text: str) -> str:
    """The plural of an English noun phrase, by rules that have few exceptions."""
    *before, last = text.split(" ")
    if not last.isascii() or not last.isalpha() or last.endswith("s"):
        return text
    if re.search(r"[^aeiou]y$", last):
        last = last[:-1] + "ies"
    else:
        last += "es" if re.search(r"(x|z|ch|sh)$", last) else "s"
    return " ".join([*before, last])


def _with_article(text: str) -> str:
    return f"{'an' if text[:1] in 'aeiou' else 'a'} {text}"


def _with_colour(text: str, colour: str | None) -> str:
    return text if colour is None else f"{colour} {without_colours(text)}"


def _with_style(text: str, style: str | None, before: bool) -> str:
    if style is None:
        return text
    return f"{style} {text}" if before else f"{text}, {style}"
