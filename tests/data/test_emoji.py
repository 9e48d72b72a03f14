"""Emoji: which glyphs, how they are drawn, captioned and varied."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fewstep.data.dataset import DataError
from fewstep.data.emoji import (
    ANNOTATIONS,
    EMOJI_TEST,
    FONT,
    PLAIN,
    Augmentation,
    Emoji,
    Selection,
    read_glyphs,
    without_colours,
)
from fewstep.data.styles import COLOURS, STYLES

ROOT = Path(__file__).parent.parent.parent
VARIABLES = {
    "FEWSTEP_EMOJI_FONT": "fonts-noto-color-emoji",
    "FEWSTEP_EMOJI_TEST": "unicode-data",
    "FEWSTEP_EMOJI_ANNOTATIONS": "unicode-cldr-core",
}
PACKAGES = {FONT: "fonts-noto-color-emoji", EMOJI_TEST: "unicode-data", ANNOTATIONS: "unicode-cldr-core"}
MISSING = [package for file, package in PACKAGES.items() if not Path(file).is_file()]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"needs Debian's packages {', '.join(MISSING)}")


@pytest.fixture(scope="module")
def plain() -> Emoji:
    return Emoji(32, PLAIN)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_red_apple_is_red_and_round(plain: Emoji) -> None:
    picture = plain.picture(plain.captions.index("red apple"))
    red, green, blue, alpha = picture[:, 12:24, 8:24].mean(axis=(1, 2))
    assert red > 2 * green
    assert red > 2 * blue
    assert alpha > 0.9
    assert picture[3, 0, 0] == 0


def test_pictures_are_premultiplied_and_in_range(plain: Emoji) -> None:
    for index in range(0, len(plain), 50):
        picture = plain.picture(index)
        assert picture.shape == plain.shape == (4, 32, 32)
        assert picture.dtype == np.float32
        assert picture.min() >= 0
        assert picture.max() <= 1
        assert np.all(picture[:3] <= picture[3:])


def test_captions_are_unique_and_keywords_are_known(plain: Emoji) -> None:
    assert len(set(plain.captions)) == len(plain) == plain.classes
    apple = plain.glyphs[plain.captions.index("red apple")]
    assert {"apple", "fruit"} <= set(apple.keywords)


@pytest.mark.parametrize(
    ("setting", "example"),
    [
        ("people", "man firefighter"),
        ("skin_tones", "waving hand: dark skin tone"),
        ("symbols", "no entry"),
        ("clocks", "three o’clock"),
        ("flags", "flag: japan"),
    ],
)
def test_each_kind_of_emoji_can_be_selected(setting: str, example: str) -> None:
    chosen = {glyph.name for glyph in read_glyphs(Selection(**{setting: True}))}
    default = {glyph.name for glyph in read_glyphs()}
    assert example in chosen
    assert example not in default
    assert default < chosen


def test_a_sequence_the_font_knows_is_one_picture() -> None:
    dataset = Emoji(32, PLAIN, Selection(flags=True))
    assert {"flag: japan", "rainbow flag", "pirate flag"} <= set(dataset.captions)


@pytest.mark.parametrize("size", [16, 64])
def test_any_size_can_be_drawn(size: int) -> None:
    assert Emoji(size, PLAIN).picture(0).shape == (4, size, size)


def test_the_same_rng_gives_the_same_example() -> None:
    dataset = Emoji(32)
    for index in (0, 100):
        one, two = dataset.example(index, rng(5)), dataset.example(index, rng(5))
        assert np.array_equal(one.data, two.data)
        assert one.caption == two.caption


def test_plain_examples_are_the_glyphs_under_their_names(plain: Emoji) -> None:
    example = plain.example(7, rng())
    assert np.array_equal(example.data, plain.picture(7))
    assert example.caption == plain.captions[7]
    assert example.control is None


def test_geometry_moves_a_glyph_but_keeps_it() -> None:
    dataset = Emoji(32, Augmentation(colour=0, style=0, control=0, keywords=0))
    still = dataset.picture(0)
    moved = dataset.picture(0, rng(3))
    assert not np.array_equal(still, moved)
    assert abs(moved[3].mean() - still[3].mean()) < 0.25
    assert np.abs(moved - still).mean() < 0.2


def test_what_has_no_sketch_mostly_stands_still() -> None:
    moving = Augmentation(colour=0, style=0, keywords=0, control=0.5, still=0.8)
    dataset = Emoji(16, moving)
    plain = dataset.picture(0)
    still: dict[bool, list[bool]] = {True: [], False: []}
    for seed in range(200):
        example = dataset.example(0, rng(seed))
        still[example.control is not None].append(np.array_equal(example.data, plain))
    assert not any(still[True])
    assert 0.7 < np.mean(still[False]) < 0.9


def test_colour_and_style_words_stand_in_the_caption() -> None:
    dataset = Emoji(32, Augmentation(colour=1, style=1, control=0, keywords=0))
    captions = [dataset.example(i, rng(i)).caption for i in range(0, 200, 2)]
    assert sum(any(colour in caption.split() for colour in COLOURS) for caption in captions) > 80
    assert sum(any(style in caption for style in STYLES) for caption in captions) > 80


def test_held_out_combinations_are_never_shown() -> None:
    dataset = Emoji(32, Augmentation(colour=1, style=1, control=0, keywords=0, shift=0, turn=0, shrink=0))
    index = next(i for i in range(len(dataset)) if dataset.is_held_out(i, "blue"))
    style = next(s for s in STYLES if any(dataset.is_held_out(i, s) for i in range(len(dataset))))
    other = next(i for i in range(len(dataset)) if dataset.is_held_out(i, style))
    for seed in range(150):
        assert "blue" not in dataset.example(index, rng(seed)).caption.split()
        assert style not in dataset.example(other, rng(seed)).caption


def test_about_one_combination_in_ten_is_held_out(plain: Emoji) -> None:
    held_out = [plain.is_held_out(i, word) for i in range(len(plain)) for word in COLOURS]
    assert 0.08 < np.mean(held_out) < 0.12


def test_a_recoloured_caption_names_one_colour(plain: Emoji) -> None:
    index = plain.captions.index("red apple")
    assert plain.caption(index, colour="blue") == "blue apple"
    assert plain.caption(index, style="pixel art") == "pixel art red apple"
    assert without_colours("orange") == "orange"


def test_sketches_come_as_often_as_asked() -> None:
    dataset = Emoji(32, Augmentation(control=0.5))
    share = np.mean([dataset.example(i, rng(i)).control is not None for i in range(200)])
    assert 0.38 < share < 0.62


@pytest.mark.parametrize("field", ["font", "emoji_test", "annotations"])
def test_a_missing_file_names_itself_and_its_package(field: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.*install Debian's package"):
        len(Emoji(32, **{field: str(tmp_path / "nowhere")}))


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_missing_file_that_a_variable_names_is_named_with_it(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=rf"nowhere.*package '{VARIABLES[variable]}', or give its path in {variable}"):
        len(Emoji(32))
    assert variable in (ROOT / "docs" / "evaluate.md").read_text(encoding="utf-8")


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.setenv(variable, "")
    made = Emoji(32)
    assert (made.font, made.emoji_test, made.annotations) == (FONT, EMOJI_TEST, ANNOTATIONS)


def test_a_file_without_emoji_is_an_error(tmp_path: Path) -> None:
    empty = tmp_path / "emoji-test.txt"
    empty.write_text("# nothing\n")
    with pytest.raises(DataError, match="no emoji selected"):
        read_glyphs(emoji_test=str(empty))


@pytest.mark.parametrize("size", [0, 7, 129])
def test_a_size_out_of_range_is_an_error(size: int) -> None:
    with pytest.raises(DataError, match=f"between 8 and 128 pixels, got {size}"):
        Emoji(size)
