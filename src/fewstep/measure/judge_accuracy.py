"""Test the judge itself on real pictures that it was not trained on."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from fewstep.data.stickers import LINES
from fewstep.data.styles import COLOURS
from fewstep.measure.subjects import EmojiSubject, Query, StickersSubject, matches


def judge_accuracy(subject: EmojiSubject, draws: int = 2, most: int = 12) -> dict[str, Any]:
    """A recogniser's accuracies on augmented real glyphs, as JSON values.

    Args:
        subject: the glyphs and the recogniser.
        draws: pictures per glyph.
        most: the most confusions to list.

    Returns:
        For plain pictures: `glyph`, the share named correctly; `no_colour` and `no_style`, the shares without a false
        colour or style word; and `confusions`, the most frequent ones. For pictures with a colour word:
        `glyph_in_colour` and `colour`. For pictures with a style word: `style`, and by style `style_by_style` and
        `glyph_in_style`.
    """
    plain = subject.queries(len(subject.dataset), seed=0)
    wrong: Counter[tuple[str, str]] = Counter()
    right = no_colour = no_style = total = 0
    for draw in range(draws):
        verdict = subject.judge(subject.real(plain, _unseen(draw)))
        correct = matches(plain, verdict)
        wrong.update((a.name, n) for a, n, ok in zip(plain, verdict.names, correct, strict=True) if not ok)
        right, total = right + int(correct.sum()), total + len(plain)
        no_colour += sum(word == "" for word in verdict.words["colour"])
        no_style += sum(word == "" for word in verdict.words["style"])
    coloured = [Query(a.index, a.name, colour=list(COLOURS)[i % len(COLOURS)]) for i, a in enumerate(plain)]
    seen = subject.judge(subject.real(coloured, _unseen(draws)))
    figures: dict[str, Any] = {
        "glyph": right / total,
        "pictures": total,
        "no_colour": no_colour / total,
        "no_style": no_style / total,
        "glyph_in_colour": _share(a.name == n for a, n in zip(coloured, seen.names, strict=True)),
        "colour": _share(a.colour == c for a, c in zip(coloured, seen.words["colour"], strict=True)),
    }
    by_style, styles_right = {}, {}
    for position, style in enumerate(subject.dataset.styles):
        styled = [Query(a.index, a.name, style=style) for a in plain]
        seen = subject.judge(subject.real(styled, _unseen(draws + 1 + position)))
        by_style[style] = _share(a.name == n for a, n in zip(styled, seen.names, strict=True))
        styles_right[style] = _share(s == style for s in seen.words["style"])
    confusions = [{"glyph": a, "taken_for": b, "times": count} for (a, b), count in wrong.most_common(most)]
    return {
        **figures,
        "style": sum(styles_right.values()) / len(styles_right),
        "style_by_style": styles_right,
        "glyph_in_style": by_style,
        "confusions": confusions,
    }


def sticker_judge_accuracy(
    subject: StickersSubject, draws: int = 1, part: int = 512, most: int = 12
) -> dict[str, Any]:
    """A recogniser's accuracies on augmented real stickers, as JSON values.

    Args:
        subject: the drawings and the recogniser.
        draws: pictures per drawing.
        part: pictures drawn at once.
        most: the most confusions to list.

    Returns:
        For drawings in their own colours: `thing`, `style` and `both`, the shares named correctly, by style
        `thing_by_style` and `style_by_style`, `no_colour`, the share without a false colour word, and `confusions`,
        the most frequent ones. For the same in a colour: `thing_in_colour` and `colour`.
    """
    things: dict[str, list[bool]] = {}
    styles: dict[str, list[bool]] = {}
    plain, in_colour, colours = [], [], []
    wrong: Counter[tuple[str, str]] = Counter()
    queries = subject.queries(len(subject.dataset), seed=0)
    words = list(COLOURS)
    for draw in range(draws):
        for start in range(0, len(queries), part):
            asked = queries[start : start + part]
            seen = subject.judge(subject.real(asked, _unseen(draw)))
            for query, name, style, colour in zip(
                asked, seen.names, seen.words["style"], seen.words["colour"], strict=True
            ):
                things.setdefault(query.style, []).append(query.name == name)
                styles.setdefault(query.style, []).append(query.style == style)
                plain.append(query.style == LINES or colour == "")
                if query.name != name:
                    wrong[query.name, name] += 1
            painted = [replace(each, colour=words[i % len(words)]) for i, each in enumerate(asked)]
            painted = [each for each in painted if each.style != LINES]
            seen = subject.judge(subject.real(painted, _unseen(draws + draw)))
            in_colour += [query.name == name for query, name in zip(painted, seen.names, strict=True)]
            colours += [query.colour == word for query, word in zip(painted, seen.words["colour"], strict=True)]
    named, styled = ([right for each in kind.values() for right in each] for kind in (things, styles))
    return {
        "thing": _share(named),
        "style": _share(styled),
        "both": _share(a and b for a, b in zip(named, styled, strict=True)),
        "pictures": len(named),
        "no_colour": _share(plain),
        "thing_in_colour": _share(in_colour),
        "colour": _share(colours),
        "thing_by_style": {word: _share(right) for word, right in things.items()},
        "style_by_style": {word: _share(right) for word, right in styles.items()},
        "confusions": [{"thing": a, "taken_for": b, "times": n} for (a, b), n in wrong.most_common(most)],
    }


def _unseen(draw: int) -> int:
    """A draw that neither the references nor the rows of an evaluation use."""
    return 1000 + draw


def _share(right: Any) -> float:
    values = [bool(value) for value in right]
    return sum(values) / len(values)
