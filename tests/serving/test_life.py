"""`fewstep serve` from its first line to its last: settings, readiness, counts, and its end under load."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException, IncompleteRead
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from fewstep.generation import Model, Request
from fewstep.serving.app import build_app, build_desk
from fewstep.serving.engine.accounting import Caller
from fewstep.serving.engine.desk import Answer, AnswerOptions, Desk, PendingAnswer
from fewstep.serving.engine.encoding import Encoding
from fewstep.serving.engine.errors import Busy
from fewstep.serving.engine.inputs import SourceImages
from fewstep.serving.http.keys import new_key
from fewstep.serving.settings import ServeSettings
from servers import Process, Running, call, command, connect, draw, environment, process, receive, send, until
from tiny_models import SIDE, TinyModels, onnx

STAGES = {"queue", "encode", "model", "decode", "encode_image"}


def image(b64: str) -> Image.Image:
    picture = Image.open(io.BytesIO(base64.b64decode(b64)))
    picture.load()
    return picture


def refusal(*arguments: str | Path, **env: str) -> str:
    """What a server says that does not start: one line."""
    done = subprocess.run(command(*arguments), env=environment(**env), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("fewstep: ")
    return line


def toml(folder: Path, text: str) -> Path:
    file = folder / "serve.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_port_that_is_taken_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"cannot listen at 127.0.0.1, port {port}" in refusal("--port", str(port))


def test_an_unknown_flag_is_one_line() -> None:
    assert "--nobody" in refusal("--nobody", "3")


def test_an_unknown_variable_is_one_line() -> None:
    assert "FEWSTEP_SERVE_NOBODY" in refusal(FEWSTEP_SERVE_NOBODY="3")


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("PORT", "abc", "FEWSTEP_SERVE_PORT: "),
        ("JOBS", "0", ", got '0'"),
        ("HOSTS", "x", "HOSTS: must be a JSON list"),
    ],
)
def test_a_wrong_variable_is_named_as_it_was_given(variable: str, value: str, says: str) -> None:
    assert says in refusal(**{f"FEWSTEP_SERVE_{variable}": value})


def test_a_wrong_flag_is_named_as_it_was_given() -> None:
    assert "--max-steps: " in refusal("--max-steps", "0", FEWSTEP_SERVE_MAX_STEPS="3")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("nobody = 3", "nobody"),
        ("jobs = 0", "jobs in the file: must be at least 1, got 0"),
        ('port = "many"', "port in the file:"),
        ("port = = 3", "is not valid TOML"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str, named: str) -> None:
    assert named in refusal("--file", toml(tmp_path, text))


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    assert "nobody.toml" in refusal("--file", tmp_path / "nobody.toml")


@pytest.fixture(scope="module")
def keys() -> tuple[str, str]:
    """A key and its hash."""
    return new_key()


@pytest.fixture(scope="module")
def own(tiny: TinyModels, tmp_path_factory: pytest.TempPathFactory, keys: tuple[str, str]) -> Process:
    """A server with settings from everywhere, which drew one image and was told to stop."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "keys").write_text(f"{keys[1]} studio\n", encoding="utf-8")
    file = toml(folder, f'jobs = 3\nmax_waiting = 33\nmax_steps = 13\nkeys_file = "{folder / "keys"}"\n')
    variables = {"FEWSTEP_SERVE_MAX_WAITING": "22", "FEWSTEP_SERVE_MAX_STEPS": "12", "FEWSTEP_SERVE_FILE": str(file)}
    with process(tiny, folder, "--max-steps", "11", **variables) as server:
        asked = {"prompt": "a secret rocket", "user": "somebody", "session": "canvas"}
        key = f"Bearer {keys[0]}"
        assert call(server.url, "/v1/images/generations", asked, authorization=key).status == 200
        assert call(server.url, "/v1/images/generations", asked, authorization="Bearer wrong").status == 401
        assert server.end() in (0, -15)
    return server


def test_flags_beat_the_environment_which_beats_the_file(own: Process) -> None:
    (line,) = [line for line in own.log.read_text().splitlines() if "settings: " in line]
    shown = dict(pair.split("=", 1) for pair in line.split("settings: ")[1].split() if "=" in pair)
    assert (shown["jobs"], shown["max_waiting"], shown["max_steps"]) == ("3", "22", "11")
    assert shown["model"].endswith("tiny']")


def test_the_log_has_requests_and_neither_keys_nor_prompts(own: Process, keys: tuple[str, str]) -> None:
    log = own.log.read_text()
    assert "POST /v1/images/generations 200" in log
    assert "Traceback" not in log
    for hidden in (*keys, "wrong", "rocket", "somebody", "canvas"):
        assert hidden not in log


def test_the_end_under_load_answers_or_refuses_everybody(tiny: TinyModels, tmp_path: Path) -> None:
    with process(tiny, tmp_path, "--jobs", "4", "--max-waiting", "16", "--shutdown-timeout", "30") as server:
        answers = under_load(server, {"steps": 4}, lambda: bool(first.wait(30)), first := threading.Event())
    assert answers.count("image") >= 1
    assert set(answers) <= {"image", "queue_full", "memory_full", "closing", "closed"}
    assert "Traceback" not in server.log.read_text()


def test_work_beyond_the_patience_is_refused_by_name(tiny: TinyModels, tmp_path: Path) -> None:
    with process(tiny, tmp_path, "--jobs", "4", "--shutdown-timeout", "1", "--max-steps", "1000") as server:
        running = "fewstep_running_requests 4.0"
        answers = under_load(
            server,
            {"steps": 1000, "n": 10},
            lambda: until(lambda: running in call(server.url, "/metrics").data.decode()),
        )
    assert answers.count("closing") >= 1
    assert set(answers) <= {"closing", "closed"}
    assert "Traceback" not in server.log.read_text()


def test_a_stream_beyond_the_patience_ends_with_an_event_that_says_so(tiny: TinyModels, tmp_path: Path) -> None:
    with process(tiny, tmp_path, "--shutdown-timeout", "1", "--max-steps", "1000") as server:
        connection = connect(server.url)
        asked = {"prompt": "red apple", "steps": 1000, "n": 10, "stream": True, "partial_images": 1}
        send(connection, "/v1/images/generations", asked)
        until(lambda: "fewstep_running_requests 1.0" in call(server.url, "/metrics").data.decode())
        server.handle.terminate()
        events = connection.getresponse().read().decode().strip().split("\n\n")
        assert json.loads(events[-1].removeprefix("data: "))["error"]["code"] == "closing"
        assert server.end() in (0, -15)
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("stream", [False, True])
def test_a_second_ctrl_c_ends_the_patience_and_everybody_is_told(
    tiny: TinyModels, tmp_path: Path, stream: bool
) -> None:
    with process(tiny, tmp_path, "--shutdown-timeout", "60", "--max-steps", "1000", "--jobs", "2") as server:
        asked = {"prompt": "red apple", "steps": 1000, "n": 10, "stream": stream}
        connections = [connect(server.url) for _ in range(3)]
        for connection in connections:
            send(connection, "/v1/images/generations", asked)
        running, waiting = "fewstep_running_requests 2.0", "fewstep_waiting_requests 1.0"
        until(lambda: {running, waiting} <= set(call(server.url, "/metrics").data.decode().splitlines()))
        server.handle.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert server.handle.poll() is None
        server.handle.send_signal(signal.SIGINT)
        for connection in connections:
            data = connection.getresponse().read().decode().strip()
            assert json.loads(data.removeprefix("data: "))["error"]["code"] == "closing"
        assert server.handle.wait(20) == 130
    log = server.log.read_text()
    assert "Traceback" not in log
    assert "never retrieved" not in log


def test_sighup_reads_keys_and_file_again_and_ends_nothing(tiny: TinyModels, tmp_path: Path) -> None:
    settings, keys = tmp_path / "serve.toml", tmp_path / "keys"
    settings.write_text('aliases = ["sticker"]\n', encoding="utf-8")
    key, kept = new_key()
    keys.write_text(f"{kept}\n", encoding="utf-8")
    with process(tiny, tmp_path, "--file", settings) as server:

        def status(path: str, **headers: str) -> int:
            return call(server.url, path, **headers).status

        assert status("/v1/models/sticker") == 200
        settings.write_text(f'aliases = ["badge"]\nkeys_file = "{keys}"\nmax_steps = 5\n', encoding="utf-8")
        server.handle.send_signal(signal.SIGHUP)
        until(lambda: status("/v1/models/sticker") == 401)
        assert status("/v1/models/badge", authorization=f"Bearer {key}") == 200
        until(lambda: "settings read again; these wait for a restart: max_steps" in server.log.read_text())
        settings.write_text("aliases = 3\n", encoding="utf-8")
        server.handle.send_signal(signal.SIGHUP)
        until(lambda: "settings not read again, the old ones stay" in server.log.read_text())
        assert status("/v1/models/badge", authorization=f"Bearer {key}") == 200


def under_load(
    server: Process,
    fields: Mapping[str, object],
    loaded: Callable[[], object],
    answered: threading.Event | None = None,
) -> list[str]:
    """What the requests of 24 clients came to, SIGTERM sent when the server was loaded."""
    asked = {"prompt": "red apple", **fields}

    def ask(client: int) -> list[str]:
        ends: list[str] = []
        connection = connect(server.url)
        while "closed" not in ends and "closing" not in ends:
            try:
                send(connection, "/v1/images/generations", asked)
                answer = receive(connection)
            except IncompleteRead:
                raise  # half an answer
            except (OSError, HTTPException):
                ends.append("closed")
                continue
            if answer.status == 200:
                assert image(answer.body["data"][0]["b64_json"]).size == (SIDE, SIDE)
                ends.append("image")
            else:
                assert set(answer.body["error"]) == {"message", "type", "param", "code"}
                ends.append(answer.body["error"]["code"])
            if answered is not None:
                answered.set()
        return ends

    with ThreadPoolExecutor(24) as pool:
        clients = pool.map(ask, range(24))
        loaded()
        assert server.end() in (0, -15)
        return [end for ends in clients for end in ends]


def counted(server: Running) -> dict[str, float]:
    """The samples of /metrics by name and labels."""
    answer = call(server.url, "/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        " ".join([sample.name, *(value for _, value in sorted(sample.labels.items()))]): sample.value
        for family in text_string_to_metric_families(answer.data.decode())
        for sample in family.samples
    }


def test_health_and_readiness_are_told(serve: Callable[..., Running]) -> None:
    server = serve()
    assert (call(server.url, "/healthz").status, call(server.url, "/healthz").body) == (200, {"status": "ok"})
    assert (call(server.url, "/readyz").status, call(server.url, "/readyz").body) == (200, {"status": "ready"})
    server.desk.host.stop(1.0)
    assert (call(server.url, "/readyz").status, call(server.url, "/readyz").body) == (503, {"status": "closed"})
    assert call(server.url, "/healthz").status == 200


def test_what_happens_is_counted(serve: Callable[..., Running]) -> None:
    server = serve()
    before = counted(server)
    assert draw(server.url, n=3, steps=2).status == 200
    assert draw(server.url).status == 200
    assert draw(server.url, n=0).status == 400
    assert call(server.url, "/nobody").status == 404
    after = counted(server)
    grown = {name: value - before.get(name, 0) for name, value in after.items()}
    route = "/v1/images/generations"
    for stage in STAGES:
        assert grown[f"fewstep_stage_seconds_count {stage}"] == 2
        assert grown[f"fewstep_stage_seconds_bucket +Inf {stage}"] == 2
    assert grown["fewstep_images_total"] == 4
    assert grown["fewstep_network_evaluations_total"] == 3 * 2 + 1
    assert grown["fewstep_http_errors_total 400"] == grown["fewstep_http_errors_total 404"] == 1
    assert grown[f"fewstep_http_request_seconds_count {route} 200"] == 2
    assert grown[f"fewstep_http_request_seconds_count {route} 400"] == 1
    assert grown["fewstep_request_seconds_count ok http"] == 2
    assert after["fewstep_running_requests"] == after["fewstep_waiting_requests"] == 0
    assert after["fewstep_superseded_total"] == after["fewstep_cancelled_total"] == 0
    assert json.dumps(after).count("nobody") == 0


def test_the_first_images_are_not_counted(serve: Callable[..., Running]) -> None:
    counts = counted(serve())
    assert counts["fewstep_images_total"] == counts["fewstep_network_evaluations_total"] == 0


class Held:
    """A network built for several sizes that waits for `open`, or fails."""

    sizes = (1, 2, 4)

    def __init__(self, network: Any) -> None:
        self.network = network
        self.entered, self.open = threading.Event(), threading.Event()
        self.error: Exception | None = None

    def __call__(self, *args: Any) -> Any:
        self.entered.set()
        assert self.open.wait(30)
        if self.error is not None:
            raise self.error
        return self.network(*args)


BRIEF = ServeSettings(max_waiting=0, jobs=1, shutdown_timeout=0.2)


@pytest.fixture
def held(tiny: TinyModels) -> Iterator[tuple[Desk, Held]]:
    """A desk whose network is held in the warm-up."""
    model = onnx(tiny.student)
    network = Held(model.network)
    yield build_desk(BRIEF, Model(model.saved, network, "onnx")), network
    network.open.set()


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the process sent itself."""
    sent: list[int] = []
    monkeypatch.setattr(signal, "raise_signal", sent.append)
    return sent


def lived(desk: Desk, doing: Callable[[], Awaitable[None]]) -> None:
    app = build_app(desk, BRIEF)

    async def life() -> None:
        async with app.router.lifespan_context(app):
            await doing()

    asyncio.run(life())


async def accepted(desk: Desk, client: str) -> PendingAnswer[int]:
    """A request whose answer is its number of images."""

    def count(answer: Answer) -> int:
        return len(answer.images)

    request = Request("cat", seed=1)
    output = AnswerOptions(Encoding())
    return await desk.draw(lambda images, model: request, SourceImages(), Caller("http", client), output, count)


def test_a_full_queue_does_not_end_a_server_that_warms_up(held: tuple[Desk, Held], signals: list[int]) -> None:
    desk, network = held

    async def crowd() -> None:
        await asyncio.to_thread(network.entered.wait, 30)
        early = await accepted(desk, "early")
        with pytest.raises(Busy):
            await accepted(desk, "late")
        assert desk.host.state == "starting"
        network.open.set()
        assert await early.answer() == 1
        await asyncio.to_thread(until, lambda: desk.host.state == "ready")

    lived(desk, crowd)
    assert signals == []


def test_a_server_that_warms_up_stops_when_told(held: tuple[Desk, Held], signals: list[int]) -> None:
    desk, network = held

    async def stopping() -> None:
        await asyncio.to_thread(network.entered.wait, 30)

    begun = time.monotonic()
    lived(desk, stopping)
    assert time.monotonic() - begun < 10  # the network hangs longer
    assert (desk.host.state, signals) == ("closed", [])


def test_a_server_that_cannot_draw_ends(held: tuple[Desk, Held], signals: list[int]) -> None:
    desk, network = held
    network.error = MemoryError()
    network.open.set()
    lived(desk, lambda: asyncio.to_thread(until, lambda: signals))
    assert signals == [signal.SIGTERM]
