"""Subjects that models are evaluated on: queries, real pictures that answer them, and a judge, per kind of data.

A new subject needs one class and one line in `SUBJECTS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from fewstep.core.randomness import derive
from fewstep.data.dataset import DataError
from fewstep.data.emoji import SIZES, Augmentation, Emoji
from fewstep.data.stickers import LINES, Stickers, Variation
from fewstep.data.stickers import STYLES as STICKER_STYLES
from fewstep.data.styles import COLOURS, recolour
from fewstep.data.wording import caption
from fewstep.generation.model import Model
from fewstep.measure.judges import PictureJudge, Recogniser, RecogniserError, Verdict, judge_of

HeldOutKind = Literal["colour", "style"]
GEOMETRY = Augmentation(shift=0.03, turn=6.0, shrink=0.1, colour=0, style=0, control=0, keywords=0)
PLACED = Variation(shrink=0.15, shift=0.5, colour=0)
"""How stickers are moved in pictures to compare with, as in the training of the model."""


@dataclass(frozen=True)
class Query:
    """One query and the expected answer.

    Args:
        index: index of the class or glyph.
        name: name that the picture must be recognised as.
        prompt: prompt, "" for a model without text.
        label: class, for a model with classes.
        colour, style: words that the picture must be recognised with, "" if any will do.
    """

    index: int
    name: str
    prompt: str = ""
    label: int | None = None
    colour: str = ""
    style: str = ""


def matches(queries: Sequence[Query], verdict: Verdict) -> Any:
    """Which pictures answer their query: bool [len(queries)]."""
    none = ("",) * len(queries)
    colours, styles = verdict.words.get("colour", none), verdict.words.get("style", none)
    return np.array(
        [
            name == query.name and query.colour in ("", colour) and query.style in ("", style)
            for query, name, colour, style in zip(queries, verdict.names, colours, styles, strict=True)
        ],
        dtype=bool,
    )


class Subject(Protocol):
    """A data set to evaluate models on."""

    @property
    def name(self) -> str: ...

    @property
    def judge(self) -> PictureJudge: ...

    def queries(self, n: int, seed: int) -> list[Query]:
        """Plain queries, evenly distributed over everything that can be asked for."""
        ...

    def held_out(self, kind: HeldOutKind, n: int, seed: int) -> list[Query]:
        """Queries for combinations held out of training; [] if there are none."""
        ...

    def real(self, queries: Sequence[Query], draw: int) -> Any:
        """Real pictures [n, c, h, w] that answer the queries, different ones for each draw; the judge never saw those
        of draw 0."""
        ...


def evenly(size: int, n: int, seed: int) -> list[int]:
    """n of `size` indices in random order; none repeats before all others have occurred."""
    rng = np.random.Generator(np.random.Philox(derive("evenly", seed)))
    rounds = [rng.permutation(size) for _ in range(-(-n // size))]
    return [int(i) for i in np.concatenate(rounds)[:n]] if n else []


@dataclass(frozen=True)
class EmojiSubject:
    """Emoji, judged by a recogniser.

    Args:
        dataset: the emoji that the model was trained on.
        recogniser: the judge.

    Raises:
        RecogniserError: the recogniser was trained on other emoji or another size.
    """

    dataset: Emoji
    recogniser: Recogniser
    name: str = "emoji"

    def __post_init__(self) -> None:
        _check_judge(self.recogniser, self.dataset.shape, self.dataset.captions, "emoji")

    @property
    def judge(self) -> PictureJudge:
        return self.recogniser

    def queries(self, n: int, seed: int) -> list[Query]:
        return [
            Query(i, self.dataset.captions[i], self.dataset.caption(i)) for i in evenly(len(self.dataset), n, seed)
        ]

    def held_out(self, kind: HeldOutKind, n: int, seed: int) -> list[Query]:
        """Held-out combinations, at most one per glyph, over all colour or style words."""
        queries: list[Query] = []
        for i in evenly(len(self.dataset), len(self.dataset), derive("held out", kind, seed)):
            name = self.dataset.captions[i]
            if kind == "colour" and set(name.split()) & set(COLOURS):
                continue  # "red" instead of the "green" of a green apple is another glyph's caption
            known = self.dataset.styles if kind == "style" else COLOURS
            words = [word for word in known if self.dataset.is_held_out(i, word)]
            if words and len(queries) < n:
                word = words[derive(kind, seed, i) % len(words)]
                colour, style = (word, "") if kind == "colour" else ("", word)
                queries.append(Query(i, name, self.dataset.caption(i, colour, style), colour=colour, style=style))
        return queries

    def real(self, queries: Sequence[Query], draw: int) -> Any:
        return np.stack(
            [self.dataset.picture_in(a.index, _rng(draw, k), a.colour, a.style) for k, a in enumerate(queries)]
        )


@dataclass(frozen=True)
class StickersSubject:
    """Stickers, judged by a recogniser. A query asks for a thing in a style; held-out ones were never shown together.

    Args:
        dataset: the drawings, held out as in the training of the model, moved as real pictures to compare with are.
        recogniser: the judge.

    Raises:
        RecogniserError: the recogniser was trained on other things or another size.
    """

    dataset: Stickers
    recogniser: Recogniser
    name: str = "stickers"

    def __post_init__(self) -> None:
        _check_judge(self.recogniser, self.dataset.shape, self.dataset.captions, "stickers")

    @property
    def judge(self) -> PictureJudge:
        return self.recogniser

    @cached_property
    def _places(self) -> Mapping[tuple[int, int], int]:
        """The drawings' indices by thing and style, held out or not."""
        rendered = self.dataset.rendered
        return {pair: place for place, pair in enumerate(zip(rendered.things, rendered.styles, strict=True))}

    def _query(self, place: int, colour: str = "") -> Query:
        thing, style = self.dataset.rendered.things[place], self.dataset.rendered.styles[place]
        words = caption(self.dataset.glyphs[thing], colour or None)
        return Query(place, self.dataset.captions[thing], words, style, colour, STICKER_STYLES[style])

    def queries(self, n: int, seed: int) -> list[Query]:
        shown = self.dataset.shown
        return [self._query(shown[i]) for i in evenly(len(shown), n, seed)]

    def held_out(self, kind: HeldOutKind, n: int, seed: int) -> list[Query]:
        """Held-out combinations: drawings of an artist that were never shown, or drawings in a colour never shown."""
        dataset, rendered = self.dataset, self.dataset.rendered
        queries: list[Query] = []
        for place in evenly(len(rendered.things), len(rendered.things), derive("held out", kind, seed)):
            thing, style = rendered.things[place], STICKER_STYLES[rendered.styles[place]]
            is_held_out = dataset.is_held_out(thing, style)
            if len(queries) == n:
                break
            if kind == "style" and is_held_out:
                queries.append(self._query(place))
            words = [word for word in COLOURS if dataset.is_held_out(thing, word)]
            named = set(dataset.captions[thing].split()) & set(COLOURS)  # another caption: red instead of green apple
            if kind == "colour" and not is_held_out and words and not named and style != LINES:
                queries.append(self._query(place, words[derive(kind, seed, place) % len(words)]))
        return queries

    def real(self, queries: Sequence[Query], draw: int) -> Any:
        pictures = []
        for position, query in enumerate(queries):
            image = self.dataset.posed(query.index, self.dataset.pose(_rng(draw, position)))
            pictures.append(recolour(image, query.colour) if query.colour else image)
        return np.stack(pictures)


def _check_judge(recogniser: Recogniser, shape: tuple[int, ...], names: Sequence[str], what: str) -> None:
    """Raise RecogniserError unless a recogniser judges pictures of this shape and knows these names."""
    if recogniser.shape != shape:
        raise RecogniserError(f"the recogniser judges pictures of shape {recogniser.shape}, the data have {shape}")
    if unknown := sorted(set(names) - set(recogniser.names)):
        raise RecogniserError(
            f"the recogniser does not know {len(unknown)} of {len(names)} {what}, such as '{unknown[0]}'"
        )


def _rng(draw: int, position: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(derive("evaluation", draw, position)))


@dataclass(frozen=True)
class DigitsSubject:
    """Handwritten digits, judged by a support vector machine trained on the real ones; needs scikit-learn.

    Args:
        size: pixels a side.
    """

    size: int
    name: str = "digits"

    @cached_property
    def _data(self) -> dict[str, tuple[Any, Any]]:
        """Pixels and labels of both splits."""
        from fewstep.data.digits import Digits

        nothing = np.random.Generator(np.random.Philox(0))
        splits: dict[str, tuple[Any, Any]] = {}
        for split in ("train", "test"):
            digits = Digits(self.size, "train" if split == "train" else "test")
            examples = [digits.example(i, nothing) for i in range(len(digits))]
            splits[split] = np.stack([e.data for e in examples]), np.array([e.label for e in examples])
        return splits

    @cached_property
    def judge(self) -> PictureJudge:
        return _DigitsJudge(*self._data["train"])

    def queries(self, n: int, seed: int) -> list[Query]:
        from fewstep.data.digits import NAMES

        return [Query(i, NAMES[i], label=i) for i in evenly(len(NAMES), n, seed)]

    def held_out(self, kind: HeldOutKind, n: int, seed: int) -> list[Query]:
        return []

    def real(self, queries: Sequence[Query], draw: int) -> Any:
        pixels, labels = self._data["train" if draw else "test"]
        chosen = []
        for position, query in enumerate(queries):
            same = np.flatnonzero(labels == query.index)
            chosen.append(same[derive("digit", draw, position) % len(same)])
        return pixels[chosen]


class _DigitsJudge:
    """A judge of digits: principal components as features and a support vector machine as classifier, trained on
    pixels [n, 1, h, w]."""

    def __init__(self, pixels: Any, labels: Any, components: int = 32) -> None:
        try:
            from sklearn.decomposition import PCA
            from sklearn.svm import SVC
        except ImportError as error:
            raise DataError("judging digits needs scikit-learn: pip install 'fewstep[train]'") from error
        flat = pixels.reshape(len(pixels), -1)
        self._components = PCA(components, random_state=0).fit(flat)
        self._machine = SVC(C=10.0).fit(flat, labels)

    def __call__(self, pixels: Any) -> Verdict:
        from fewstep.data.digits import NAMES

        flat = np.asarray(pixels, dtype=np.float32).reshape(len(pixels), -1).clip(0, 1)
        names = tuple(NAMES[int(label)] for label in self._machine.predict(flat))
        return Verdict(self._components.transform(flat), names)


def _emoji(model: Model, recogniser: Path | None, threads: int | None) -> Subject | None:
    """The emoji subject, for a text-to-image model whose captions are those of the emoji; else None."""
    spec, captions = model.spec, model.saved.captions
    if spec.pixel_format != "rgba_premultiplied" or captions is None or spec.pixels[-1] not in SIZES:
        return None
    dataset = Emoji(spec.pixels[-1], _geometry(spec.recipe), styles=spec.vocabulary.styles)
    if set(captions.captions) != set(dataset.captions):
        return None
    return EmojiSubject(dataset, Recogniser(recogniser, threads) if recogniser else judge_of(model.saved, threads))


def _stickers(model: Model, recogniser: Path | None, threads: int | None) -> Subject | None:
    """The stickers subject, for a model trained by the stickers recipe; else None."""
    spec = model.spec
    if spec.recipe.get("name") != StickersSubject.name or spec.pixel_format != "rgba_premultiplied":
        return None
    dataset = Stickers(spec.pixels[-1], PLACED)
    judge = Recogniser(recogniser, threads) if recogniser else judge_of(model.saved, threads)
    return StickersSubject(dataset, judge)


def _digits(model: Model, recogniser: Path | None, threads: int | None) -> Subject | None:
    """The digits subject, for a class-conditional model trained by the digits recipe; else None."""
    spec = model.spec
    is_digits = spec.pixel_format == "grey" and spec.conditioning.classes == 10
    return DigitsSubject(spec.pixels[-1]) if is_digits and spec.recipe.get("name") == DigitsSubject.name else None


SUBJECTS: Mapping[str, Callable[[Model, Path | None, int | None], Subject | None]] = {
    "emoji from text": _emoji,
    "stickers from text": _stickers,
    "digits by class": _digits,
}
"""Subjects by description: functions of a model, a recogniser file and threads, None if the model does not fit."""


def subject_for(model: Model, recogniser: Path | None = None, threads: int | None = None) -> Subject:
    """The subject that fits a model, by what the model was trained on and not merely by its shape.

    Args:
        model: the model to evaluate.
        recogniser: the judge of emoji; None for the one in the model's directory.
        threads: threads per operation of the judge; None for one per core.

    Raises:
        RecogniserError: there is no recogniser, or it was trained on other emoji.
        DataError: the data are missing; the message names the package.
        ValueError: no subject fits this model.
    """
    for make in SUBJECTS.values():
        if (subject := make(model, recogniser, threads)) is not None:
            return subject
    raise ValueError(
        f"the model '{model.name}' cannot be evaluated: there are judges for {' and '.join(SUBJECTS)}, "
        f"but it draws {model.spec.pixel_format} {model.spec.pixels} and was trained on other data"
    )


def _geometry(recipe: Any) -> Augmentation:
    """The augmentation of the model's own training, from its recipe; else the default."""
    said = dict(dict(recipe.get("settings") or {}).get("augmentation") or {})
    known = {name: float(said[name]) for name in ("shift", "turn", "shrink", "still") if name in said}
    return replace(GEOMETRY, **known)
