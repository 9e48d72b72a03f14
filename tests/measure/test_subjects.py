"""What is asked: evenly, reproducibly, and with answers that are really right."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

from fewstep.core.parameterisations import Targets
from fewstep.data.dataset import DataError
from fewstep.data.digits import Digits
from fewstep.data.emoji import Emoji
from fewstep.generation import Model, load
from fewstep.measure.judges import Recogniser, RecogniserError, Verdict
from fewstep.measure.subjects import DigitsSubject, EmojiSubject, Query, evenly, matches, subject_for
from fewstep.models.components import components
from fewstep.models.conditioning import Conditioning, conditioners
from judging import tiny_model


def test_everything_is_asked_before_anything_is_asked_again() -> None:
    chosen = evenly(10, 25, seed=0)
    assert sorted(Counter(chosen).values()) == [2] * 5 + [3] * 5
    assert sorted(chosen[:10]) == sorted(chosen[10:20]) == list(range(10))
    assert evenly(10, 25, seed=0) == chosen != evenly(10, 25, seed=1)
    assert evenly(10, 0, seed=0) == []


def test_an_answer_needs_the_name_and_the_words_that_were_asked() -> None:
    queries = [
        Query(0, "cat"),
        Query(0, "cat", colour="blue"),
        Query(0, "cat", style="flat"),
        Query(0, "cat", colour="blue"),
    ]
    verdict = Verdict(
        np.zeros((4, 1)),
        ("cat", "cat", "cat", "dog"),
        {"colour": ("red", "blue", "", "blue"), "style": ("flat", "flat", "outline", "")},
    )
    assert matches(queries, verdict).tolist() == [True, True, False, False]
    assert matches(queries[:1], Verdict(np.zeros((1, 1)), ("cat",))).tolist() == [True]


def test_emoji_are_asked_by_their_plain_captions(subject: EmojiSubject) -> None:
    queries = subject.queries(12, seed=0)
    assert sorted(query.prompt for query in queries) == sorted(subject.dataset.captions)
    assert all(query.prompt == query.name == subject.dataset.glyphs[query.index].name for query in queries)


def test_held_out_combinations_are_those_that_training_never_shows(subject: EmojiSubject) -> None:
    for kind in ("colour", "style"):
        queries = subject.held_out(kind, 100, seed=0)  # type: ignore[arg-type]
        assert queries
        for query in queries:
            word = query.colour or query.style
            assert subject.dataset.is_held_out(query.index, word)
            assert query.prompt == f"{word} {query.name}"
        assert len({query.index for query in queries}) == len(queries)
    assert len(subject.held_out("colour", 2, seed=0)) == 2
    assert not any("green" in query.name for query in subject.held_out("colour", 100, seed=0))


def test_real_pictures_are_what_the_data_set_draws(emoji: Emoji) -> None:
    """Of the augmented examples, the ones with a given caption: the same drawing from the same random numbers."""
    plain = replace(emoji, augmentation=replace(emoji.augmentation, colour=0, style=0, control=0, keywords=0))
    rng = lambda: np.random.Generator(np.random.Philox(4))  # noqa: E731
    without_sketch = rng()
    without_sketch.random()  # whether there is one
    np.testing.assert_array_equal(plain.picture_in(3, without_sketch), plain.example(3, rng()).data)


def test_every_draw_of_real_pictures_is_another_and_each_is_repeatable(subject: EmojiSubject) -> None:
    queries = subject.queries(5, seed=0)
    one, other = subject.real(queries, 0), subject.real(queries, 1)
    assert one.shape == (5, 4, 16, 16)
    np.testing.assert_array_equal(one, subject.real(queries, 0))
    assert all(np.abs(a - b).max() > 0.01 for a, b in zip(one, other, strict=True))


def test_a_recogniser_of_other_emoji_or_another_size_is_refused(
    emoji: Emoji, recogniser_file: Path, tmp_path: Path
) -> None:
    judge = Recogniser(recogniser_file)
    with pytest.raises(RecogniserError, match=r"\(4, 32, 32\)"):
        EmojiSubject(replace(emoji, size=32), judge)
    judge.names = judge.names[:-1]
    with pytest.raises(RecogniserError, match="does not know 1 of 12 emoji, such as"):
        EmojiSubject(emoji, judge)


def test_a_judge_says_the_likeliest_and_how_likely_it_is() -> None:
    """Of a network that gives each picture's first row as its logits: more pictures than one call takes."""
    logits = np.random.default_rng(0).normal(0, 3, (300, 4, 2, 3)).astype(np.float32)

    def run(outputs: Any, inputs: Any) -> Any:
        pixels = inputs["pixels"]
        return pixels[:, 3, 0], pixels[:, 0, 0], pixels[:, 1, 0, :2], pixels[:, 2, 0]

    judge = Recogniser.__new__(Recogniser)
    judge.names, judge._kinds = ("cat", "dog", "fox"), {"colour": ("red",), "style": ("flat", "neon")}
    judge._session, judge._shape = SimpleNamespace(run=run), (4, 2, 3)
    verdict = judge(logits)
    likely = softmax(logits[:, 0, 0], axis=1)
    assert verdict.names == tuple(judge.names[i] for i in likely.argmax(axis=1))
    np.testing.assert_allclose(verdict.confidence, likely.max(axis=1), rtol=1e-5)
    assert verdict.words["colour"] == tuple(("", "red")[i] for i in logits[:, 1, 0, :2].argmax(axis=1))
    assert verdict.words["style"] == tuple(("", "flat", "neon")[i] for i in logits[:, 2, 0].argmax(axis=1))
    np.testing.assert_array_equal(verdict.features, logits[:, 3, 0])


def test_missing_fonts_name_their_package(
    pair: tuple[Model, Model], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FEWSTEP_EMOJI_FONT", str(tmp_path / "none.ttf"))
    with pytest.raises(DataError, match="fonts-noto-color-emoji"):
        subject_for(pair[0])


def test_digits_are_judged_by_a_classifier_of_the_real_ones() -> None:
    pytest.importorskip("sklearn")
    subject = DigitsSubject(8)
    queries = subject.queries(200, seed=0)
    assert Counter(query.label for query in queries) == dict.fromkeys(range(10), 20)
    verdict = subject.judge(subject.real(queries, draw=0))
    assert matches(queries, verdict).mean() >= 0.95
    assert verdict.features.shape == (200, 32)
    assert subject.held_out("colour", 10, seed=0) == []


def test_the_first_draw_of_digits_is_of_those_that_the_judge_never_saw() -> None:
    pytest.importorskip("sklearn")
    subject = DigitsSubject(8)
    queries = subject.queries(20, seed=0)
    splits = Digits(8, "train"), Digits(8, "test")
    rng = np.random.default_rng(0)
    train, test = ({digits.example(i, rng).data.tobytes() for i in range(len(digits))} for digits in splits)
    for draw, seen in ((0, test), (1, train)):
        assert all(pixels.tobytes() in seen for pixels in subject.real(queries, draw))


def test_a_model_of_digits_gets_digits_and_others_are_refused(tmp_path: Path) -> None:
    model = load(tiny_model(tmp_path / "tiny-digits", Targets.SAME, classes=10).directory)
    digits = replace(model.spec, recipe={"name": "digits"})
    assert isinstance(subject_for(fake(model, spec=digits)), DigitsSubject)
    others = [
        replace(digits, components=components(digits.network, Conditioning(digits.codec, conditioners(classes=7)))),
        model.spec,
    ]
    others.append(replace(digits, recipe={"name": "images"}))  # ten classes of something else
    for other in others:
        with pytest.raises(ValueError, match=r"'tiny-digits' cannot be evaluated.*grey"):
            subject_for(fake(model, spec=other))


def test_only_a_model_of_the_emojis_own_captions_is_judged_as_emoji(
    emoji: Emoji, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def judge(*asked_for: Any) -> Any:
        asked.append(asked_for)
        return SimpleNamespace(shape=emoji.shape, names=emoji.captions)

    monkeypatch.setattr(
        "fewstep.measure.subjects.Emoji", lambda size, augmentation, styles: replace(emoji, size=size)
    )
    monkeypatch.setattr("fewstep.measure.subjects.Recogniser", judge)
    model = load(tiny_model(tmp_path / "tiny", Targets.CLEAN, emoji.captions).directory)
    file = tmp_path / "recogniser.onnx"
    assert isinstance(subject_for(model, file, threads=3), EmojiSubject)
    assert asked == [(file, 3)]
    for captions in (emoji.captions[1:], [*emoji.captions, "my cat"], ["my cat"]):
        (tmp_path / "vocabulary.txt").write_text("\n".join(captions) + "\n\n\n", encoding="utf-8")
        with pytest.raises(ValueError, match=r"'tiny' cannot be evaluated.*rgba_premultiplied"):
            subject_for(fake(model, directory=tmp_path), file)
    large = replace(model.spec, pixels=(4, 256, 256))
    with pytest.raises(ValueError, match=r"'tiny' cannot be evaluated.*256"):
        subject_for(fake(model, spec=large), file)
    assert len(asked) == 1


def fake(model: Model, **values: Any) -> Model:
    """A model that says other things of itself, and is never run."""
    return Model(replace(model.saved, **values), lambda x, at, to, cond: x, "fake")


def test_evaluation_needs_no_torch() -> None:
    code = (
        "import sys; import fewstep.measure.report, fewstep.measure.subjects, fewstep.measure.judge_accuracy;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'sklearn', 'scipy', 'onnx')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
