"""The benchmarks of the server send what they are asked to send, and count what they sent."""

from __future__ import annotations

import socketserver
import subprocess
import threading
from collections.abc import Iterator
from itertools import takewhile
from typing import Any

import pytest

from fewstep.lab.serving import Served, served, soak
from tiny_models import TinyModels


class Counting(socketserver.StreamRequestHandler):
    """Answers every request at once."""

    seen = 0

    def handle(self) -> None:
        while head := list(takewhile(lambda line: line not in (b"\r\n", b""), iter(self.rfile.readline, None))):
            length = next(int(line.split(b":")[1]) for line in head if line.startswith(b"content-length"))
            self.rfile.read(length)
            type(self).seen += 1
            self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(Counting, "seen", 0)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Counting) as listening:
        listening.daemon_threads = True
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield listening
        listening.shutdown()


@pytest.mark.parametrize(("clients", "requests"), [(32, 30), (32, 1), (3, 10), (4, 4)])
def test_so_many_requests_are_made_as_are_asked_for(server: Any, clients: int, requests: int) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    load = Served(server.server_address[1], process, 0.0, ["x"]).together(clients, requests)
    assert Counting.seen == len(load.latencies) == requests
    assert load.quantile(0.5) > 0


def test_a_server_that_does_not_start_is_told_in_its_own_words() -> None:
    with pytest.raises(RuntimeError, match="the server stopped: fewstep: no model 'nothing'"), served("nothing"):
        pass


def test_a_soak_tells_the_requests_it_made(tiny: TinyModels) -> None:
    said: list[str] = []
    figures = soak(str(tiny.student.directory), "onnx", clients=3, requests=35, progress=said.append)
    assert figures["requests"] == 30  # ten parts of three
    assert said[-1].startswith("30 requests: ")
    assert figures["last_mb"] > 20
