"""Prompts of pictographs, meanings in numbers, and a directory that is somebody else's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from fewstep.models.finding import find
from fewstep.models.parts import ModelError
from fewstep.models.saved import read, sha256
from fewstep.models.text import Captions, spoken, table, words
from fewstep.models.writing import write
from models_spec import WEIGHTS, spec
from tiny_models import CAPTIONS, TinyModels, onnx


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a 🍎 on the table", ["a", "🍎", "on", "the", "table"]),
        ("👩‍🚀🚀", ["👩‍🚀🚀"]),
        ("I ❤️ you", ["i", "❤️", "you"]),
        ("cat🐱cat", ["cat", "🐱", "cat"]),
        ("well-known, isn't it?", ["well", "known", "isn", "t", "it"]),
        ("snake_case 1st", ["snake", "case", "1st"]),
        ("!? … — §", []),
    ],
)
def test_pictographs_are_words(text: str, found: list[str]) -> None:
    assert words(text) == found


def test_a_pictograph_that_no_caption_holds_is_an_unknown_word() -> None:
    known = Captions(["cat face", "red ❤️"], [], table())
    assert known.report("🍎", 8).unknown_words == ("🍎",)
    assert known.report("cat ❤️", 8).unknown_words == ()


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("🍎", "red apple"),
        ("a 🚀!", "a rocket !"),
        ("🐱🐶", "cat face dog face"),
        ("👩‍🚀", "woman rocket"),
        ("👍🏽", "thumbs up sign"),
        ("🇫🇷", "f r"),
        ("❤️", "heavy black heart"),
        ("\U0001faff", ""),
        ("plain text", "plain text"),
    ],
)
def test_pictographs_are_read_by_their_names(text: str, read: str) -> None:
    assert spoken(text) == read
    assert table().tokens(text) == table().tokens(read)


def test_a_pictograph_that_the_table_has_is_itself() -> None:
    assert table()._tokenizer.token_to_id("♥") is not None
    assert table().tokens("♥") == (table()._tokenizer.token_to_id("♥"),)
    assert len(table().tokens("♥️ ♥")) == 2


def test_a_pictograph_is_known_if_its_name_is() -> None:
    known = Captions(["red apple", "cat"], [], table())
    assert known.report("🍎 and 🐱 and 🚀", 8).unknown_words == ("🐱", "🚀")
    assert known.report("🍎", 8).nearest[0] == ("red apple", 1.0)


def test_meanings_are_the_same_alone_and_together() -> None:
    texts = ["red apple", "", "cat", "something to drink when it is cold"]
    together = table().meanings(texts)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), [1, 0, 1, 1], atol=1e-5)
    for text, meaning in zip(texts, together, strict=True):
        np.testing.assert_array_equal(table().meaning(text), meaning)
    rows = list(table().tokens("red apple"))
    weighed = table()._weight[rows] @ table().vectors(rows)
    np.testing.assert_allclose(together[0], weighed / np.linalg.norm(weighed), atol=1e-6)


def test_many_threads_read_prompts_as_one_does() -> None:
    prompts = [f"{caption} {i}" for i in range(40) for caption in CAPTIONS]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda prompt: table().encode([prompt], 8)["text"], prompts))
    for prompt, found in zip(prompts, together, strict=True):
        np.testing.assert_array_equal(found, table().encode([prompt], 8)["text"])


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_what_is_no_model_is_never_replaced(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "holiday"
    if kind == "directory":
        place.mkdir()
        (place / "beach.jpg").write_bytes(b"sand")
    else:
        place.write_bytes(b"sand")
    with pytest.raises(ModelError, match="holiday' contains something other than a model"):
        write(spec(), WEIGHTS, place)
    assert (place / "beach.jpg" if kind == "directory" else place).read_bytes() == b"sand"
    assert list(tmp_path.iterdir()) == [place]


def test_an_empty_directory_is_a_place_for_a_model(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    assert write(spec(), WEIGHTS, tmp_path / "m") == read(tmp_path / "m")


def test_a_snapshot_of_links_as_the_hub_makes_them_is_a_model(tiny: TinyModels, tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "snapshots" / "0123", tmp_path / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for file in tiny.student.directory.iterdir():
        name = sha256(file)
        (blobs / name).write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(Path("../../blobs") / name)
    found = find(snapshot)
    assert found.hash == tiny.student.hash
    assert onnx(found).generate("cat", seed=1).tobytes() == onnx(tiny.student).generate("cat", seed=1).tobytes()
