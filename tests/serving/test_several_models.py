"""One server with several models: named, loaded on demand within a budget, closed when unused, replaced while it runs."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fewstep.cli.serve import _settings
from fewstep.models.finding import find
from fewstep.models.saved import SavedModel
from fewstep.serving.app import build_desk
from fewstep.serving.engine import shelf as shelves
from fewstep.serving.engine.errors import Busy, ShuttingDown
from fewstep.serving.engine.shelf import Shelf, footprint
from fewstep.serving.engine.tracing import Traces
from fewstep.serving.http.keys import hashed
from fewstep.serving.server import Server
from fewstep.serving.settings import ServeSettings
from servers import Running, call, draw, process
from tiny_models import TinyModels, onnx


class Runs:
    """A runtime that does nothing."""

    def __init__(self, model: Any) -> None:
        self.model, self.waiting, self.running, self.closed = model, 0, 0, False

    def close(self, timeout: float = 30.0) -> None:
        self.closed = True


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelves, "GRACE", 0.0)


def shelf_of(tiny: TinyModels, **settings: Any) -> Shelf:
    models = {"one": tiny.student, "two": tiny.teacher, "three": tiny.points}
    return Shelf(models, lambda saved: saved, Runs, **settings)  # type: ignore[arg-type,return-value]  # a stand-in


def test_a_model_is_loaded_once_when_it_is_first_asked_for(tiny: TinyModels) -> None:
    shelf = shelf_of(tiny)
    assert shelf.loaded == []
    one = shelf.get("one")
    assert one is shelf.get("one")
    assert shelf.loaded == ["one"]
    shelf.tidy()
    assert not one.closed


@pytest.mark.usefixtures("quick")
def test_the_longest_unused_makes_room_and_none_that_is_in_use(tiny: TinyModels) -> None:
    budget = footprint(tiny.student) + footprint(tiny.teacher) + 1
    shelf = shelf_of(tiny, budget=budget)
    one, two = shelf.get("one"), shelf.get("two")
    shelf.get("one")
    three = shelf.get("three")
    assert (one.closed, two.closed) == (False, True)
    assert shelf.loaded == ["one", "three"]
    one.running, three.waiting = 1, 1  # type: ignore[misc]  # a stand-in
    with pytest.raises(Busy, match="the models in use leave no memory for another"):
        shelf.get("two")
    three.waiting = 0  # type: ignore[misc]  # a stand-in
    assert not shelf.get("two").closed
    assert three.closed


@pytest.mark.usefixtures("quick")
def test_one_alone_is_loaded_whatever_the_budget(tiny: TinyModels) -> None:
    shelf = shelf_of(tiny, budget=1)
    one = shelf.get("one")
    assert not shelf.get("two").closed
    assert one.closed


def test_one_that_was_just_asked_for_is_not_closed(tiny: TinyModels) -> None:
    shelf = shelf_of(tiny, budget=1, idle_seconds=0.0)
    one = shelf.get("one")
    with pytest.raises(Busy):
        shelf.get("two")
    assert not one.closed


@pytest.mark.usefixtures("quick")
def test_what_nobody_uses_is_closed(tiny: TinyModels) -> None:
    shelf = shelf_of(tiny, idle_seconds=0.01)
    one, two = shelf.get("one"), shelf.get("two")
    two.running = 1  # type: ignore[misc]  # a stand-in
    time.sleep(0.02)
    shelf.tidy()
    assert (one.closed, two.closed, shelf.loaded) == (True, False, ["two"])
    assert shelf.get("one") is not one


@pytest.mark.usefixtures("quick")
def test_a_new_version_is_for_new_requests(tiny: TinyModels) -> None:
    shelf = shelf_of(tiny)
    old = shelf.get("one")
    old.running = 1  # type: ignore[misc]  # a stand-in
    shelf.replace("one", tiny.teacher)
    assert shelf.get("one").model is tiny.teacher  # type: ignore[comparison-overlap]  # a stand-in
    shelf.tidy()
    assert not old.closed
    old.running = 0  # type: ignore[misc]  # a stand-in
    shelf.tidy()
    assert old.closed


def test_while_one_is_loaded_others_are_there(tiny: TinyModels) -> None:
    begun, go = threading.Event(), threading.Event()

    def slow(saved: SavedModel) -> Any:
        if saved is tiny.teacher:
            begun.set()
            assert go.wait(20)
        return saved

    shelf = Shelf({"one": tiny.student, "two": tiny.teacher}, slow, Runs)  # type: ignore[arg-type]  # does nothing
    one = shelf.get("one")
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(shelf.get("two")))
    thread.start()
    assert begun.wait(20)
    assert shelf.get("one") is one
    shelf.replace("two", tiny.points)  # a new version arrives while the old one is loaded
    go.set()
    thread.join(20)
    assert found[0].model is tiny.teacher
    assert shelf.get("two").model is tiny.points  # type: ignore[comparison-overlap]  # a stand-in


def test_a_server_that_closes_while_a_model_is_loaded_closes_it(tiny: TinyModels) -> None:
    made: list[Runs] = []

    def closing(model: Any) -> Any:
        shelf.close(0)
        made.append(Runs(model))
        return made[0]

    shelf = Shelf({"one": tiny.student}, lambda saved: saved, closing)  # type: ignore[arg-type,return-value]  # stand-ins
    with pytest.raises(ShuttingDown):
        shelf.get("one")
    assert made[0].closed


def test_a_closed_shelf_loads_nothing(tiny: TinyModels) -> None:
    shelf = shelf_of(tiny)
    one = shelf.get("one")
    shelf.close(0)
    assert one.closed
    with pytest.raises(ShuttingDown):
        shelf.get("two")


@pytest.fixture
def two(tiny: TinyModels, tmp_path: Path) -> Iterator[Running]:
    """A served student with another model beside it."""
    from servers import running

    with running(tiny, others=[tiny.teacher]) as server:
        yield server


def test_requests_name_their_model(two: Running, tiny: TinyModels) -> None:
    names = [model["id"] for model in call(two.url, "/v1/models").body["data"]]
    assert names == ["tiny", "tiny-teacher"]
    assert call(two.url, "/v1/models/tiny-teacher").body["about"]["loaded"] is False
    for name, saved in (("tiny", tiny.student), ("tiny-teacher", tiny.teacher)):
        answer = draw(two.url, seed=3, steps=2, model=name)
        assert answer.status == 200, answer.body
        assert (answer.body["model"], answer.body["model_hash"]) == (name, saved.hash)
    assert call(two.url, "/v1/models/tiny-teacher").body["about"]["loaded"] is True
    assert [each["model_name"] for each in call(two.url, "/sdapi/v1/sd-models").body] == names
    title = call(two.url, "/sdapi/v1/sd-models").body[1]["title"]
    body = {"prompt": "cat", "steps": 2, "override_settings": {"sd_model_checkpoint": title}}
    assert '"sd_model_name": "tiny-teacher"' in call(two.url, "/sdapi/v1/txt2img", body).body["info"]
    unknown = draw(two.url, model="another")
    assert unknown.status == 404
    assert "this server has 'tiny', 'tiny-teacher'" in unknown.body["error"]["message"]


def changed_copy(saved: SavedModel, folder: Path, steps: int) -> None:
    """The model's files with another default number of steps, in place of those that are there."""
    folder.mkdir(exist_ok=True)
    for file in saved.directory.iterdir():
        if file.name != "model.json":
            shutil.copyfile(file, folder / file.name)
    text = (saved.directory / "model.json").read_text(encoding="utf-8")
    assert f'"steps": {saved.spec.steps}' in text
    (folder / "model.json").write_text(text.replace(f'"steps": {saved.spec.steps}', f'"steps": {steps}', 1), "utf-8")


def test_a_model_is_replaced_without_a_dropped_request(
    tiny: TinyModels, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changed_copy(tiny.student, tmp_path / "model", tiny.student.spec.steps)
    settings = ServeSettings(port=0, threads=1)
    desk = build_desk(settings, onnx(find(tmp_path / "model")), Traces())
    server = Server(desk, settings)
    before = desk.host.model.hash
    server._reload_models()
    assert desk.host.model.hash == before  # nothing has changed
    old = desk.host.runtime
    changed_copy(tiny.student, tmp_path / "model", 3)
    server._reload_models()
    assert desk.host.model.hash != before
    assert desk.host.model.spec.steps == 3
    assert not old.closed
    assert "new versions of tiny" in caplog.text
    (tmp_path / "model" / "model.json").write_text("{", encoding="utf-8")
    server._reload_models()
    assert "a model cannot be loaded again, the old one stays" in caplog.text
    assert desk.host.model.spec.steps == 3
    desk.close(0)
    assert old.closed


def test_two_models_of_one_name_are_refused(tiny: TinyModels, capsys: pytest.CaptureFixture[str]) -> None:
    from fewstep.cli.main import main

    one = str(tiny.student.directory)
    with pytest.raises(SystemExit) as stopped:
        main(["serve", "--port", "0", "--model", one, "--model", one])
    assert stopped.value.code == 2
    assert "two of the models are called 'tiny'" in capsys.readouterr().err


def test_the_command_takes_several_models(tiny: TinyModels, tmp_path: Path) -> None:
    with process(tiny, tmp_path, "--model", tiny.teacher.directory) as server:
        names = [model["id"] for model in call(server.url, "/v1/models").body["data"]]
        assert names == ["tiny", "tiny-teacher"]
        picture = draw(server.url, model="tiny-teacher", steps=1).body["data"][0]["b64_json"]
        assert picture


def test_only_a_key_for_it_changes_the_server(serve: Callable[..., Running], tmp_path: Path) -> None:
    lines = [f"{hashed('boss')} scope=admin", hashed("user")]
    (tmp_path / "keys").write_text("\n".join(lines) + "\n", encoding="utf-8")
    server = serve(keys_file=tmp_path / "keys")

    def asked(key: str, path: str = "/admin/models/reload", body: Any = None) -> Any:
        return call(server.url, path, body, authorization=f"Bearer {key}")

    assert asked("boss", body={}).body == {"changed": []}
    assert asked("boss", "/admin/models").body == {"served": ["tiny"], "loaded": ["tiny"]}
    assert asked("user", body={}).status == 403
    assert asked("boss", "/v1/models").status == 403
    assert asked("nobody", body={}).status == 401


def test_the_metrics_say_which_models_and_which_refusals(serve: Callable[..., Running], tiny: TinyModels) -> None:
    server = serve()
    draw(server.url, model="another")
    draw(server.url, steps=0)
    call(server.url, "/v1/models", origin="https://elsewhere.example")
    text = call(server.url, "/metrics").data.decode()
    assert f'fewstep_model_info{{hash="{tiny.student.hash}",model="tiny"}} 1.0' in text
    for reason in ("model_not_found", "invalid_request_error", "wrong_origin"):
        assert f'fewstep_refusals_total{{reason="{reason}"}} 1.0' in text
    assert "process_resident_memory_bytes" in text


@pytest.mark.parametrize(
    ("variable", "flags", "models"),
    [
        ("one", [], ("one",)),
        ('["one", "two"]', [], ("one", "two")),
        ("one", ["--model", "two"], ("two",)),
        ("one", ["--model", "two", "--model", "three"], ("two", "three")),
    ],
)
def test_models_in_the_environment_and_as_flags(
    variable: str, flags: list[str], models: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEWSTEP_SERVE_MODEL", variable)
    assert _settings(flags).model == models


def test_models_in_the_file(tmp_path: Path) -> None:
    for text, models in (('model = "one"', ("one",)), ('model = ["one", "two"]', ("one", "two"))):
        (tmp_path / "serve.toml").write_text(text, encoding="utf-8")
        assert _settings(["--file", str(tmp_path / "serve.toml")]).model == models
