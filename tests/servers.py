"""Servers on the untrained student: in a thread of this process, or as people start them."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

import fewstep
from fewstep.generation import Model
from fewstep.models.saved import SavedModel
from fewstep.serving.app import build_desk, guarded
from fewstep.serving.engine.desk import Desk
from fewstep.serving.engine.metrics import Metrics
from fewstep.serving.engine.tracing import Traces
from fewstep.serving.engine.uploads import ImageDecoder
from fewstep.serving.server import wire
from fewstep.serving.settings import ServeSettings
from tiny_models import TinyModels, onnx

EDGE = "edge"
"""Between the parts of a form."""


@dataclass(frozen=True)
class Running:
    """A server that runs.

    Args:
        url: where, without /v1.
        desk: that draws.
    """

    url: str
    desk: Desk

    @property
    def runtime(self) -> Any:
        """What runs its jobs; tests look into it."""
        return self.desk.host.runtime

    @property
    def metrics(self) -> Metrics:
        return self.desk.accounting.metrics

    @property
    def decoder(self) -> ImageDecoder:
        return self.desk.loader.decoder


class Gate:
    """Holds a network while it is shut, and tells when it is entered."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Semaphore(0)
        self.calls = 0

    def __call__(self, network: Any) -> Callable[..., Any]:
        def held(*args: Any) -> Any:
            self.calls += 1
            if not self.open.is_set():
                self.entered.release()
                assert self.open.wait(30)
            return network(*args)

        return held


@contextlib.contextmanager
def running(
    tiny: TinyModels,
    through: Callable[[Any], Any] | None = None,
    model: Model | None = None,
    others: Sequence[SavedModel] = (),
    **settings: Any,
) -> Iterator[Running]:
    """A server of the student or another model in a thread, its network wrapped by `through`."""
    chosen = ServeSettings(**{"port": 0, "threads": 1, "shutdown_timeout": 1.0, **settings})
    model = model or onnx(tiny.student)
    if through is not None:
        model = Model(model.saved, through(model.network), model.engine)
    desk = build_desk(chosen, model, Traces(), others)
    config = wire(guarded(desk, chosen), chosen)
    config.port = 0
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    while desk.host.state != "ready":
        time.sleep(0.005)
    try:
        yield Running(f"http://127.0.0.1:{port}", desk)
    finally:
        server.should_exit = True
        thread.join(20)


@dataclass(frozen=True)
class Process:
    """A `fewstep serve` that runs.

    Args:
        url: where, without /v1.
        handle: its process.
        log: what it says.
    """

    url: str
    handle: subprocess.Popen[str]
    log: Path

    def end(self) -> int:
        """Its exit code, after SIGTERM."""
        self.handle.terminate()
        return self.handle.wait(60)


HEARS_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
"""As in a terminal: a job in a shell's background is started deaf to it."""


def command(*arguments: str | Path) -> list[str]:
    program = f"{HEARS_CTRL_C}; from fewstep.cli.main import main; main()"
    return [sys.executable, "-c", program, "serve", *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    """Of a process that runs the code under test."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FEWSTEP_", "OTEL_"))}
    return {**kept, "PYTHONPATH": str(Path(fewstep.__file__).parents[1]), **more}


@contextlib.contextmanager
def process(tiny: TinyModels, folder: Path, *flags: str | Path, **env: str) -> Iterator[Process]:
    """The server as people start it, ready to draw."""
    log = folder / "log"
    flags = ("--model", tiny.student.directory, "--port", "0", "--engine", "onnx", "--threads", "1", *flags)
    with log.open("w") as to:
        handle = subprocess.Popen(
            command(*flags), env=environment(**env), stdout=subprocess.PIPE, stderr=to, text=True
        )
    try:
        assert handle.stdout is not None
        hello = handle.stdout.readline()
        assert " at http://" in hello, log.read_text()
        url = hello.split(" at ")[1].split("/v1")[0]
        until(lambda: call(url, "/readyz").status == 200)
        yield Process(url, handle, log)
    finally:
        if handle.poll() is None:
            handle.kill()
        handle.communicate()


def until(true: Callable[[], object], seconds: float = 30) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


@dataclass(frozen=True)
class Answer:
    """What came back.

    Args:
        status: of HTTP.
        headers: names in lower case.
        data: the body.
    """

    status: int
    headers: dict[str, str]
    data: bytes

    @property
    def body(self) -> Any:
        """The JSON."""
        return json.loads(self.data)


def connect(url: str) -> http.client.HTTPConnection:
    """A connection that is kept for further requests."""
    return http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)


def send(connection: http.client.HTTPConnection, path: str, body: Any = None, **headers: str) -> None:
    data = None if body is None else json.dumps(body).encode()
    connection.request("GET" if data is None else "POST", path, data, {"content-type": "application/json", **headers})


def receive(connection: http.client.HTTPConnection) -> Answer:
    answer = connection.getresponse()
    return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())


def call(url: str, path: str, body: Any = None, **headers: str) -> Answer:
    """One request on a connection of its own."""
    connection = connect(url)
    try:
        send(connection, path, body, **headers)
        return receive(connection)
    finally:
        connection.close()


def form(url: str, path: str, *parts: tuple[str, str | bytes], more: str = "") -> Answer:
    """A form; a part of bytes is a file."""
    body = b""
    for name, value in parts:
        file = '; filename="x"' if isinstance(value, bytes) else ""
        data = value if isinstance(value, bytes) else value.encode()
        body += f'--{EDGE}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + data + b"\r\n"
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    kind = f"multipart/form-data; boundary={EDGE}{more}"
    connection.request("POST", path, body + f"--{EDGE}--\r\n".encode(), {"content-type": kind})
    answer = connection.getresponse()
    try:
        return Answer(answer.status, dict(answer.getheaders()), answer.read())
    finally:
        connection.close()


def draw(url: str, prompt: str = "red apple", **fields: Any) -> Answer:
    """One image."""
    return call(url, "/v1/images/generations", {"prompt": prompt, **fields})
