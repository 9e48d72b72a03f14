"""`fewstep edit colorize | super-resolve | denoise | interpolate`: files in, files out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fewstep.pictures import read_record
from tiny_models import SIDE, TinyModels


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "side", "made", "settings"),
    [
        ("colorize in.png cat --fit 1", 24, 24, {"edit": "colorize", "strength": 1.0, "fit": 1}),
        ("super-resolve in.png", 8, SIDE, {"edit": "super-resolve", "strength": 1.0, "fit": 4}),
        ("super-resolve in.png cat --strength 0.6", 4, SIDE, {"edit": "super-resolve", "strength": 0.6}),
        ("denoise in.png --noise 0.2", 24, SIDE, {"edit": "denoise", "noise": 0.2}),
    ],
)
def test_an_image_is_restored(
    run: Any, place: Path, tiny: TinyModels, words: str, side: int, made: int, settings: dict[str, Any]
) -> None:
    Image.effect_noise((side, side), 60).save("in.png")
    ran = run("edit", *words.split(), "--model", tiny.student.directory, "--seed", 1, "--out", "out.png")
    assert ran.code == 0, ran.err
    with Image.open("out.png") as picture:
        assert picture.size == (made, made)
    record = read_record(place / "out.png")
    assert record is not None
    assert dict(record.sampler_settings) == settings


def test_what_a_drawn_image_shows_need_not_be_said_again(run: Any, place: Path, tiny: TinyModels) -> None:
    model = ("--model", tiny.student.directory)
    assert run("generate", "red apple", *model, "--seed", 3, "--out", "in.png").code == 0
    assert run("edit", "colorize", "in.png", *model, "--out", "out.png").code == 0
    assert run("edit", "colorize", "in.png", "", *model, "--out", "untold.png").code == 0
    told, untold = (read_record(place / name) for name in ("out.png", "untold.png"))
    assert told is not None
    assert untold is not None
    assert (told.prompt, untold.prompt) == ("red apple", "")


@pytest.mark.parametrize("film", ["way.webp", "way.png"])
def test_a_way_is_numbered_images_and_a_film_there_and_back(
    run: Any, place: Path, tiny: TinyModels, film: str
) -> None:
    model = ("--model", tiny.student.directory, "--seed", 1)
    ran = run("edit", "interpolate", "cat", "dog", *model, "--to-seed", 2, "--n", 3, "--film", film, "--out", "f.png")
    assert ran.code == 0, ran.err
    assert run("generate", "cat", *model, "--out", "cat.png").code == 0
    frames = [np.asarray(Image.open(f"f-{i}.png")) for i in (1, 2, 3)]
    assert np.array_equal(frames[0], np.asarray(Image.open("cat.png")))
    with Image.open(film) as opened:
        assert opened.n_frames == 4
        for place_in_film, frame in enumerate((*frames, frames[1])):
            opened.seek(place_in_film)
            shown = np.asarray(opened.convert("RGBA"))
            seen = frame[..., 3] > 0
            assert np.array_equal(shown[seen], frame[seen])


def test_one_place_of_the_way(run: Any, place: Path, tiny: TinyModels) -> None:
    ran = run("edit", "interpolate", "cat", "--to-seed", 2, "--position", 0.25, "--seed", 1,
              "--model", tiny.student.directory, "--out", "x.png")  # fmt: skip
    assert ran.code == 0, ran.err
    record = read_record(place / "x.png")
    assert record is not None
    assert dict(record.sampler_settings) == {"to_seed": 2, "position": 0.25}
