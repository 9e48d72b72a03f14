"""Stickers: which drawings there are, how they stand in their frame, what is said of them, and what is held out."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fewstep.data import rendered
from fewstep.data.artists import ARTISTS, CONTENT, Icons, rasterise, read_icons
from fewstep.data.dataset import DataError
from fewstep.data.emoji import ANNOTATIONS, EMOJI_TEST, Glyph
from fewstep.data.stickers import PLAIN, STYLES, Stickers, Variation, attributions
from fewstep.data.styles import COLOURS
from fewstep.data.wording import caption, plural
from sticker_packages import THINGS, archive, icons, packages, pin

MISSING = [file for file in (EMOJI_TEST, ANNOTATIONS) if not Path(file).is_file()]
needs_names = pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}")
pytest.importorskip("resvg_py")

SQUARE = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect x="8" y="4" width="8" height="16" fill="#0f0"/></svg>'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every artist's package, in a folder."""
    pin(monkeypatch, packages(tmp_path / "packages"), tmp_path / "cache")
    return tmp_path / "packages"


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def glyph(name: str = "cat face", text: str = "🐱", subgroup: str = "animal-mammal") -> Glyph:
    return Glyph(text, name, ("cat", "face", "pet"), "Animals & Nature", subgroup)


def test_a_drawing_fills_the_frame_by_its_longer_side_and_stands_in_the_middle() -> None:
    picture = rasterise(SQUARE, 64)
    assert picture.shape == (64, 64, 4)
    assert picture.dtype == np.uint8
    rows, columns = (np.flatnonzero((picture[..., 3] > 127).any(axis=axis)) for axis in (1, 0))
    assert len(rows) == pytest.approx(64 * CONTENT, abs=1)
    assert len(columns) == pytest.approx(32 * CONTENT, abs=1)
    assert (rows[0] + rows[-1]) / 2 == pytest.approx(31.5, abs=0.5)
    assert (columns[0] + columns[-1]) / 2 == pytest.approx(31.5, abs=0.5)


def test_pictures_are_premultiplied_and_clear_where_nothing_is_drawn() -> None:
    picture = rasterise(SQUARE.replace('fill="#0f0"', 'fill="#0f0" fill-opacity="0.5"'), 64)
    assert tuple(picture[32, 32]) == pytest.approx((0, 128, 0, 128), abs=1)
    assert np.all(picture[..., :3] <= picture[..., 3:])
    assert not picture[:, :12].any()


@pytest.mark.parametrize(
    ("drawing", "message"),
    [
        ('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"></svg>', "empty"),
        ("<svg", "cannot be read"),
        (b"no picture", "cannot be read"),
    ],
)
def test_what_cannot_be_drawn_is_an_error(drawing: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        rasterise(drawing, 32)


def test_an_alias_is_mirrored_and_one_turned_otherwise_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / archive(tmp_path, ARTISTS[1].package, icons("#ff0000")).archive
    held = read_icons(path)
    assert isinstance(held, Icons)
    plain, mirrored = (rasterise(held.svg(name) or "", 32) for name in ("face-to-the-left", "grinning-face"))
    assert np.abs(plain[:, ::-1].astype(int) - mirrored).max() <= 2
    assert np.abs(plain.astype(int) - mirrored).max() > 200
    turned = replace(held, aliases={"other": {"parent": "rocket", "rotate": 1}})
    assert turned.svg("other") is None
    assert held.svg("nothing") is None


def test_a_package_of_something_else_is_named(tmp_path: Path) -> None:
    path = tmp_path / archive(tmp_path, ARTISTS[1].package, {"package/index.js": b""}).archive
    with pytest.raises(DataError, match="is not an Iconify package"):
        read_icons(path)


@needs_names
def test_every_artist_draws_each_thing_in_a_colour_of_its_own(folder: Path) -> None:
    dataset = Stickers(32, PLAIN, folder, held_out=0)
    assert Counter(dataset.rendered.styles) == dict.fromkeys(range(7), 3)
    names = {dataset.glyphs[thing].name for thing in dataset.rendered.things}
    assert names == {"red apple", "rocket", "grinning face"} == {name.replace("-", " ") for name in THINGS}
    shown = [dataset.example(index, rng()) for index in range(len(dataset))]
    assert [example.label for example in shown] == list(dataset.rendered.styles)
    apples = {STYLES[e.label or 0]: e for e in shown if "red apple" in e.caption}
    assert apples["noto"].caption == "noto red apple"
    red, green, blue, alpha = apples["gradient"].data[:, 16, 16]  # 2040e0's neighbour in the list: 20a040
    assert green > 2 * blue > 2 * red * 0
    assert alpha == 1
    assert dataset.shape == apples["flat"].data.shape == (4, 32, 32)


@needs_names
def test_drawings_are_kept_and_made_anew_only_for_larger_pictures(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Stickers(32, PLAIN, folder).rendered.pictures
    monkeypatch.setattr(rendered, "rasterise", lambda drawing, side: pytest.fail("drawn again"))
    assert first.shape[1:] == (256, 256, 4)
    assert np.array_equal(first, Stickers(128, PLAIN, folder).rendered.pictures)
    with pytest.raises(pytest.fail.Exception):
        _ = Stickers(129, PLAIN, folder).rendered


@needs_names
def test_a_folder_that_lacks_the_packages_is_named_though_drawings_are_kept(folder: Path, tmp_path: Path) -> None:
    _ = Stickers(32, PLAIN, folder).rendered
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with pytest.raises(DataError, match="elsewhere' lacks"):
        _ = Stickers(32, PLAIN, elsewhere).rendered


@needs_names
def test_damaged_drawings_say_which_folder_to_delete(folder: Path, tmp_path: Path) -> None:
    _ = Stickers(32, PLAIN, folder).rendered
    (index,) = (tmp_path / "cache").glob("stickers/*/pictures.json")
    index.write_text(json.dumps({"things": [0], "styles": [0]}), encoding="utf-8")
    with pytest.raises(DataError, match=r"is damaged .*: delete it, and it will be made again"):
        _ = Stickers(32, PLAIN, folder).rendered


@needs_names
def test_varied_examples_stay_whole_move_and_are_clear_outside(folder: Path) -> None:
    vary = Variation(shrink=0.5, shift=1, colour=0, styled=0, worded=0)
    dataset = Stickers(64, vary, folder, held_out=0)
    index = next(i for i, place in enumerate(dataset.shown) if dataset.rendered.styles[place] == STYLES.index("flat"))
    drawn = [dataset.example(index, rng(seed)).data for seed in range(40)]
    masses = [picture[3].sum() for picture in drawn]
    assert 0.2 < min(masses) / max(masses) < 0.4  # half the side is a quarter of the area
    tops = {int(np.flatnonzero((picture[3] > 0.5).any(axis=1))[0]) for picture in drawn}
    assert len(tops) > 10
    edges = [max(p[3, 0].max(), p[3, -1].max(), p[3, :, 0].max(), p[3, :, -1].max()) for p in drawn]
    assert max(edges) == 0
    assert all(np.all(picture[:3] <= picture[3:]) for picture in drawn)


@needs_names
def test_held_out_pairs_are_never_shown(folder: Path) -> None:
    every = Stickers(32, PLAIN, folder, held_out=0)
    some = Stickers(32, Variation(colour=1, styled=0, worded=0), folder, held_out=2)
    pairs = {(some.rendered.things[place], some.rendered.styles[place]) for place in some.shown}
    assert 0 < len(pairs) < len(every) == 21
    assert not any(some.is_held_out(thing, STYLES[style]) for thing, style in pairs)
    said = {some.example(i, rng(seed)).caption for i in range(len(some)) for seed in range(60)}
    held = {name: {word for word in COLOURS if some.is_held_out(_place(some, name), word)} for name in ("rocket",)}
    assert 0 < len(held["rocket"]) < len(COLOURS)
    assert not {f"{word} rocket" for word in held["rocket"]} & said
    assert {f"{word} rocket" for word in set(COLOURS) - held["rocket"]} <= said


def _place(dataset: Stickers, name: str) -> int:
    return dataset.captions.index(name)


def test_one_of_ten_pairs_is_held_out_and_one_of_forty_things_kept_for_tests() -> None:
    if MISSING:
        pytest.skip("needs Unicode's names")
    dataset = Stickers()
    pairs = [dataset.is_held_out(thing, style) for thing in range(len(dataset.glyphs)) for style in STYLES]
    assert np.mean(pairs) == pytest.approx(0.1, abs=0.02)
    chosen = {
        things: [part._chosen(thing) for thing in range(len(part.glyphs))]
        for things, part in ((things, Stickers(things=things)) for things in ("all", "train", "test"))
    }
    assert all(chosen["all"])
    assert np.mean(chosen["test"]) == pytest.approx(1 / 40, abs=0.01)
    assert chosen["train"] == [not kept for kept in chosen["test"]]


def test_captions_say_name_colour_and_style() -> None:
    assert caption(glyph()) == "cat face"
    assert caption(glyph("red apple"), "green", "3D") == "3D green apple"
    worded = {caption(glyph(), "blue", "noto", rng(seed)) for seed in range(300)}
    assert all("blue" in text and "noto" in text for text in worded)
    assert {
        "noto blue cat face",
        "blue cats, noto",
        "noto blue 🐱",
        "a blue cat, noto",
        "a noto blue cat face",
    } <= worded
    assert not any(text.startswith("a ") and "cats" in text for text in worded)


def test_captions_vary_as_often_as_they_say() -> None:
    said = Counter(caption(glyph(), rng=rng(seed)) for seed in range(2000))
    assert 0.1 < said["🐱"] / 2000 < 0.2
    assert said["cat"] > 100  # an animal's face is the animal
    assert any("pet" in text for text in said)


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("cat", "cats"),
        ("fox", "foxes"),
        ("cherry", "cherries"),
        ("key", "keys"),
        ("hot dog", "hot dogs"),
        ("glasses", "glasses"),
        ("🐱", "🐱"),
    ],
)
def test_plurals(one: str, many: str) -> None:
    assert plural(one) == many


def test_every_artist_is_named_with_licence_and_source() -> None:
    lines = attributions()
    assert len(lines) == len(STYLES) == 7
    assert {line.split(":")[0] for line in lines} == {
        "3D",
        "gradient",
        "flat",
        "outline",
        "noto",
        "twemoji",
        "classic",
    }
    assert all(
        "https://" in line and ("MIT" in line or "Apache-2.0" in line or "CC-BY-4.0" in line) for line in lines
    )
    assert not any("-SA" in line for line in lines)
    assert all(len(artist.package.sha512) == 88 for artist in ARTISTS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 8}, "size must be between 16 and 512 pixels, got 8"),
        ({"things": "some"}, "things must be all, train or test, got 'some'"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Stickers(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(("setting", "value"), [("shrink", 1.0), ("shift", -0.1), ("colour", 1.1)])
def test_variations_that_cannot_be(setting: str, value: float) -> None:
    with pytest.raises(DataError, match=f"{setting} must be between 0 and"):
        Variation(**{setting: value})
