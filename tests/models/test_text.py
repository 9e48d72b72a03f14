"""Prompts as arrays, and what a model can say about a prompt."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from fewstep.models.text import BUILT_IN, MAX_PROMPT, Captions, PromptError, check_prompt, table
from tiny_models import CAPTIONS, OTHER_WORDS

LENGTH = 8
KNOWN = Captions(CAPTIONS, OTHER_WORDS, table())


def test_the_stored_table_is_small() -> None:
    assert (BUILT_IN / "table.safetensors").stat().st_size <= 4 * 2**20


def test_the_vocabulary_is_the_one_that_the_shipped_models_were_trained_with() -> None:
    vocabulary = hashlib.sha256((BUILT_IN / "tokenizer.json").read_bytes()).hexdigest()
    assert vocabulary == "2ac201705df3ee77fd7c75a61b96ad40039279cd5994c5918939cf5b40e913b1"


def test_a_prompt_is_its_tokens_in_order_then_zeros() -> None:
    ids = table().tokens("red apple")
    encoded = table().encode(["red apple"], LENGTH)
    assert encoded["text"].shape == (1, LENGTH, table().width)
    np.testing.assert_array_equal(encoded["text"][0, : len(ids)], table().vectors(ids))
    assert encoded["text_mask"][0].tolist() == [1.0] * len(ids) + [0.0] * (LENGTH - len(ids))
    assert not encoded["text"][0, len(ids) :].any()


def test_token_vectors_have_root_mean_square_one() -> None:
    vectors = table().vectors(range(1000, 1100))
    np.testing.assert_allclose(np.sqrt((vectors**2).mean(axis=1)), 1.0, atol=0.02)


def test_the_order_of_words_matters() -> None:
    one, other = table().encode(["blue cat on red", "red cat on blue"], LENGTH)["text"]
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(np.sort(one, axis=0), np.sort(other, axis=0))


def test_the_empty_prompt_is_valid_and_has_no_tokens() -> None:
    for prompt in ("", "   ", "\n\t"):
        encoded = table().encode([prompt], LENGTH)
        assert not encoded["text"].any()
        assert not encoded["text_mask"].any()
    assert KNOWN.report("", LENGTH).nearest == ()
    assert not table().meaning("").any()


def test_a_prompt_does_not_see_its_neighbours() -> None:
    together = table().encode(["cat", "", "a much longer prompt about dogs"], LENGTH)
    for row, prompt in enumerate(["cat", "", "a much longer prompt about dogs"]):
        for name, values in table().encode([prompt], LENGTH).items():
            np.testing.assert_array_equal(values[0], together[name][row])


@pytest.mark.parametrize(
    "prompt", ["🍎🐱", "é à ü", "猫", "line\nbreak\r\ttab", "a\0b", "\u202eright to left", "x" * 9999]
)
def test_any_text_is_a_prompt(prompt: str) -> None:
    encoded = table().encode([prompt], LENGTH)
    assert np.isfinite(encoded["text"]).all()
    report = KNOWN.report(prompt, LENGTH)
    assert all(np.isfinite(similarity) for _, similarity in report.nearest)


@pytest.mark.parametrize(
    ("prompt", "complaint"),
    [
        ("x" * (MAX_PROMPT + 1), f"at most {MAX_PROMPT} characters, got {MAX_PROMPT + 1}"),
        (None, "must be text, got NoneType"),
        (b"cat", "must be text, got bytes"),
        ("half \ud83d of a pair", "must be valid Unicode"),
    ],
)
def test_what_is_no_prompt_is_refused(prompt: object, complaint: str) -> None:
    with pytest.raises(PromptError, match=complaint):
        check_prompt(prompt)  # type: ignore[arg-type]
    with pytest.raises(PromptError, match=complaint):
        table().encode([prompt], LENGTH)  # type: ignore[list-item]


def test_the_longest_prompt_is_taken() -> None:
    assert check_prompt("x" * MAX_PROMPT)


@pytest.mark.parametrize(
    ("prompt", "caption"),
    [
        ("kitty", "cat face"),
        ("puppy", "dog face"),
        ("I love you", "couple with heart"),
        ("something to drink when it is cold", "hot beverage"),
        ("Red Apple!", "red apple"),
    ],
)
def test_words_outside_the_captions_land_near_their_meaning(prompt: str, caption: str) -> None:
    nearest = KNOWN.report(prompt, LENGTH).nearest
    assert nearest[0][0] == caption
    similarities = [similarity for _, similarity in nearest]
    assert similarities == sorted(similarities, reverse=True)
    assert len(nearest) == 3


def test_a_caption_is_its_own_nearest() -> None:
    for caption in CAPTIONS:
        assert KNOWN.report(caption, LENGTH).nearest[0] == (caption, pytest.approx(1.0, abs=1e-3))


@pytest.mark.parametrize("prompt", ["", " ", "\u200b", "\u200d\ufe0f", "\x07"])
def test_a_prompt_without_tokens_is_near_no_caption(prompt: str) -> None:
    assert table().tokens(prompt) == ()
    assert KNOWN.report(prompt, LENGTH).nearest == ()


def test_unknown_words_are_named_once_in_order() -> None:
    report = KNOWN.report("A blue zeppelin with the CAT; quixotic zeppelin, pixel-art", 4 * LENGTH)
    assert report.unknown_words == ("zeppelin", "quixotic")


def test_a_prompt_that_is_cut_off_is_reported() -> None:
    words = "cat " * LENGTH
    assert len(table().tokens(words)) == LENGTH
    assert KNOWN.report(words, LENGTH).unread == ""
    assert KNOWN.report(words + "dog", LENGTH).unread == "dog"
    cut, whole = table().encode([words + "dog", words], LENGTH)["text"]
    np.testing.assert_array_equal(cut, whole)


@pytest.mark.parametrize(
    ("prompt", "read"),
    [
        ("dog " * (LENGTH - 1) + "mortarboards cat", "dog " * (LENGTH - 2) + "dog"),  # a word of several tokens
        ("日" * (LENGTH + 3), "日" * LENGTH),  # no space to cut at
        ("🍎" * LENGTH, "🍎" * (LENGTH // 2)),  # two words each
        ("cat", "cat"),
    ],
)
def test_what_is_read_is_the_beginning_of_whole_words(prompt: str, read: str) -> None:
    beginning, rest = table().divided(prompt, LENGTH)
    assert (beginning, beginning + rest) == (read, prompt.replace(f"{read} ", read))
    assert len(table().tokens(beginning)) <= LENGTH


def test_the_nearest_captions_and_unknown_words_are_of_what_is_read() -> None:
    captions = Captions(["cat", "dog"], [], table())
    report = captions.report("cat " * LENGTH + "dog dog dog quixotic", LENGTH)
    assert report.nearest[0][0] == "cat"
    assert (report.unknown_words, report.unread) == ((), "dog dog dog quixotic")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("caf\u00e9", "cafe\u0301"),  # NFC and NFD
        ("piñata", "pinata"),
        ("na\u00adive", "naive"),  # a soft hyphen
        ("CAFÉ", "cafe"),
        ("cat\u200bdog", "catdog"),  # a zero-width space joins words, and changes the picture
        ("cat\u200ddog", "cat dog"),  # a joiner divides them
        ("日本", "日 本"),
    ],
)
def test_what_has_the_same_tokens_has_the_same_report(one: str, other: str) -> None:
    assert table().tokens(one) == table().tokens(other)
    captions = Captions(["cat", "dog", "naive piñata"], [], table())
    assert captions.report(one, LENGTH) == captions.report(other, LENGTH)


def test_words_that_format_characters_join_are_unknown() -> None:
    captions = Captions(["red apple"], [], table())
    assert captions.report("red apple", LENGTH).unknown_words == ()
    assert captions.report("red\u200bapple", LENGTH).unknown_words == ("redapple",)
