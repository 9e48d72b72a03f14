"""Answers that nobody reads: they take no memory beyond a bound, and not for ever."""

from __future__ import annotations

import gc
import json
import socket
import threading
import time
from collections.abc import Callable

import pytest

from fewstep.serving.engine.errors import Busy
from fewstep.serving.engine.room import Place, Room
from servers import Answer, Gate, Running, call, draw, running, until
from tiny_models import SIDE, TinyModels

LARGE = {"prompt": "red apple", "size": "1536x1536", "n": 4}


def unread(server: Running, body: dict[str, object]) -> socket.socket:
    """A connection that asks and never reads."""
    host, port = server.url.removeprefix("http://").split(":")
    line = socket.create_connection((host, int(port)), timeout=30)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    data = json.dumps(body).encode()
    head = f"POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n"
    line.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + data)
    return line


def test_a_place_is_given_back_once() -> None:
    room = Room(100, "full")
    first = Place(room, 150)  # alone it is always admitted
    with pytest.raises(Busy, match="full"):
        Place(room, 1)
    first.give_back()
    first.give_back()
    assert room.held == 0
    Place(room, 60)
    Place(room, 40)
    assert room.held == 100


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_drawn_counts_until_it_is_sent(server: Running, stream: bool) -> None:
    room = server.desk.room
    assert draw(server.url, stream=stream).status == 200
    until(lambda: room.held == 0)
    assert draw(server.url, steps=0).status == 400
    assert room.held == 0


def test_images_in_flight_are_bounded_and_further_requests_are_told_when_to_come_again(tiny: TinyModels) -> None:
    gate = Gate()
    with running(tiny, through=gate, max_answer_pixels=4 * SIDE * SIDE) as server:
        gate.open.clear()
        answers: list[Answer] = []
        waiting = threading.Thread(target=lambda: answers.append(draw(server.url, n=3)))
        waiting.start()
        until(lambda: server.desk.room.held == 3 * SIDE * SIDE)
        refused = draw(server.url, n=2)
        assert refused.status == 429
        assert "the answers to other requests take up all the memory" in refused.body["error"]["message"]
        assert refused.headers["retry-after"] == "1"
        gate.open.set()
        waiting.join()
        assert answers[0].status == 200
        until(lambda: server.desk.room.held == 0)
        assert draw(server.url, n=5).status == 200  # alone, more than that is admitted


def test_a_request_that_is_given_up_gives_its_place_back(tiny: TinyModels) -> None:
    gate = Gate()
    with running(tiny, through=gate) as server:
        gate.open.clear()
        for stream in (False, True):
            line = unread(server, {"prompt": "cat", "stream": stream})
            until(lambda: server.desk.room.held > 0)
            line.close()
            gate.open.set()
            until(lambda: gc.collect() >= 0 and server.desk.room.held == 0)
            gate.open.clear()
        gate.open.set()


def test_a_client_that_reads_nothing_is_cut_off(
    serve: Callable[..., Running], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "fewstep.serving")
    server = serve(write_timeout=0.3)
    lines = [unread(server, {**LARGE, "seed": seed}) for seed in range(2)]
    until(lambda: sum("read nothing for 0.3 s" in message for message in caplog.messages) == 2, 60)
    until(lambda: server.desk.room.held == 0)
    for line in lines:
        line.close()
    assert call(server.url, "/healthz").status == 200


def test_a_slow_reader_is_not_cut_off(serve: Callable[..., Running], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "fewstep.serving")
    server = serve(write_timeout=1.0)
    line = unread(server, LARGE)
    assert line.recv(4).startswith(b"HTTP")
    until_read = time.monotonic() + 4.0  # several times the time-out
    while time.monotonic() < until_read:
        time.sleep(0.05)
        assert line.recv(16_384)
    assert not any("read nothing" in message for message in caplog.messages)
    line.close()
    until(lambda: server.desk.room.held == 0)
