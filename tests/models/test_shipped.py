"""The models inside the package, where there are any."""

from __future__ import annotations

import getpass
import json
import re
import socket
from pathlib import Path

import pytest

from fewstep.models.finding import BUILT_IN, built_in, find
from fewstep.models.text import BUILT_IN as TEXT

SHIPPED = ["emoji", "emoji-teacher"]
LARGEST = 30e6  # bytes of all models and the text table together


def test_these_are_the_models_inside_the_package() -> None:
    assert built_in() == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_is_whole_licensed_and_has_a_recipe(name: str) -> None:
    model = find(name)
    assert model.spec.name == name
    assert model.spec.licence
    assert model.spec.recipe["name"]
    assert model.exported.is_file()
    assert model.captions is None or len(model.captions.captions) > 100
    assert {file.name for file in model.directory.iterdir()} == {"model.json", *model.spec.files}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_tells_nothing_of_where_it_was_made(name: str) -> None:
    model = find(name)
    described = (model.directory / "model.json").read_text(encoding="utf-8")
    exported = b"\n".join(re.findall(rb"[\x20-\x7e]{4,}", model.exported.read_bytes())).decode()
    path = re.compile(r"(?<![\w.])(/[\w.-]+){2,}|[A-Za-z]:\\|file:")
    for text in (*strings(json.loads(described)), exported):
        assert not path.search(text), path.search(text)
    for secret in {socket.gethostname(), str(Path.home())}:
        assert secret not in described + exported
    assert not re.search(rf"\b{re.escape(getpass.getuser())}\b", described)


def strings(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for entry in value.items() for part in entry for text in strings(part)]
    if isinstance(value, list):
        return [text for part in value for text in strings(part)]
    return [value] if isinstance(value, str) else []


def test_the_shipped_models_are_small_together() -> None:
    folders = (BUILT_IN, TEXT)
    assert sum(f.stat().st_size for folder in folders for f in folder.rglob("*") if f.is_file()) <= LARGEST


@pytest.mark.parametrize(
    ("prompt", "caption"),
    [
        ("kitty", "cat"),
        ("puppy", "dog"),
        ("something to drink when it is cold", "hot beverage"),
        ("automobile", "automobile"),
    ],
)
def test_words_land_near_their_meaning_among_all_the_captions(prompt: str, caption: str) -> None:
    model = find("emoji")
    assert model.captions is not None
    nearest = [name for name, _ in model.captions.report(prompt, model.spec.conditioning.text_length).nearest]
    assert caption in nearest
