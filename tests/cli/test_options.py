"""The commands that draw take every field of the table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fewstep.cli.main import main
from fewstep.editing.fields import Field, Flag
from fewstep.generation import Model, Request
from fewstep.generation.request import FIELDS, fields_of
from request_fields import OTHER, Seen, arrived, is_image, picture, recording
from tiny_models import TinyModels, onnx

COMMANDS: dict[str, tuple[str, ...]] = {
    "generate x": (),
    "edit inpaint in.png x --mask mask.png": ("strength", "fit"),
    "edit outpaint in.png x --margin 0.5": ("left", "top", "right", "bottom", "fit"),
    "edit stroke in.png x": ("strength",),
    "edit vary in.png x": ("strength",),
    "edit colorize in.png x": ("strength", "fit"),
    "edit super-resolve in.png x": ("strength", "fit"),
    "edit denoise in.png x": ("noise",),
    "edit interpolate x y": ("to_seed", "position"),
}
"""Commands, and the fields that they have beside those of `generate`."""
DRAWING = [field.name for field in fields_of("cli", "draw") if field.name != "prompt" and not is_image(field)]


@pytest.fixture
def requests(tiny: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Request]]:
    model: Model = onnx(tiny.student)
    picture((8, 8)).save(tmp_path / "in.png")
    picture((8, 8)).save(tmp_path / "mask.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fewstep.cli.drawing.load", lambda *args, **options: model)
    with recording(model) as requests:
        yield requests


def option(field: Field, value: Any) -> list[str]:
    name = field.public.replace("_", "-")
    if isinstance(field, Flag):
        return [f"--{name}" if value else f"--no-{name}"]
    return [f"--{name}", value if isinstance(value, str) else json.dumps(value)]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", DRAWING)
def test_every_option_of_generate_arrives_from_every_command_that_draws(
    requests: list[Request], command: str, name: str
) -> None:
    field = FIELDS[name]
    more = ["--control", "in.png"] if name.startswith("control_") else []
    with pytest.raises(Seen):
        main([*command.split(), *more, *option(field, OTHER[name])])
    assert [arrived(request, field) for request in requests] == [OTHER[name]]


@pytest.mark.parametrize(("command", "name"), [(c, name) for c, names in COMMANDS.items() for name in names])
def test_what_only_some_commands_take_arrives(requests: list[Request], command: str, name: str) -> None:
    field = FIELDS[name]
    value = OTHER.get(name, 1.5)
    with pytest.raises(Seen):
        main([*command.split(), *option(field, value)])
    (request,) = requests
    if field.operation == "outpaint":
        assert request.edit is not None
        assert request.edit.image.size == ((8 + 12 + 4, 16) if name in ("left", "right") else (16, 8 + 12 + 4))
    else:
        assert arrived(request, field) == value


def test_a_model_without_classes_says_why_it_takes_no_label(run: Any, tmp_path: Path, tiny: TinyModels) -> None:
    picture().save(tmp_path / "in.png")
    ran = run("edit", "vary", tmp_path / "in.png", "--label", 3, "--model", tiny.student.directory)
    assert ran.code == 2
    assert "label must be left out: this model has no classes, got 3" in ran.err


@pytest.mark.parametrize("command", ["generate", "edit vary"])
def test_the_help_of_an_option_is_the_table_s(run: Any, command: str) -> None:
    said = " ".join(run(*command.split(), "--help").out.replace("│", " ").split())
    for name in DRAWING:
        assert FIELDS[name].description in said
