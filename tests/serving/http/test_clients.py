"""Clients that go away, read slowly, storm or come in crowds: each gets what is its own, and harms nobody."""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fewstep.pictures import read_record
from fewstep.serving.engine.encoding import Encoding
from fewstep.serving.engine.uploads import ImageDecoder
from servers import Answer, Gate, Running, call, connect, draw, receive, send, until

GENERATIONS = "/v1/images/generations"


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


def pixels(answer: Answer) -> Any:
    assert answer.status == 200, answer.data
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(answer.body["data"][0]["b64_json"])))).astype(int)


def asks(server: Running, **fields: Any) -> socket.socket:
    """A raw connection that has asked for an image."""
    host, port = server.url.removeprefix("http://").split(":")
    body = json.dumps({"prompt": "red apple", **fields}).encode()
    head = f"POST {GENERATIONS} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
    raw = socket.create_connection((host, int(port)), 30)
    raw.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    return raw


def cancelled(server: Running) -> float:
    lines = server.metrics.text().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("fewstep_cancelled_total"))


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_while_it_waits_frees_its_place(
    serve: Callable[..., Running], gate: Gate, stream: bool
) -> None:
    server = serve(through=gate, jobs=1, max_waiting=1)
    runtime = server.runtime
    gate.open.clear()
    calls = gate.calls
    running = asks(server)
    assert gate.entered.acquire(timeout=30)
    waiting = asks(server, stream=stream)
    until(lambda: runtime.waiting == 1)
    assert draw(server.url).body["error"]["code"] == "queue_full"
    waiting.close()
    until(lambda: runtime.waiting == 0)
    assert cancelled(server) == 1
    running.close()
    until(lambda: next(iter(runtime._running)).reason is not None)
    gate.open.set()
    until(lambda: runtime.running == 0)
    assert cancelled(server) == 2
    assert gate.calls == calls + 1
    assert draw(server.url).status == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_stops_its_job_at_the_next_jump(
    serve: Callable[..., Running], gate: Gate, stream: bool
) -> None:
    server = serve(through=gate, jobs=1)
    runtime = server.runtime
    gate.open.clear()
    calls = gate.calls
    client = asks(server, steps=8, stream=stream)
    assert gate.entered.acquire(timeout=30)
    client.close()
    until(lambda: next(iter(runtime._running)).reason is not None)
    gate.open.set()
    until(lambda: runtime.running == 0)
    assert gate.calls == calls + 1
    assert cancelled(server) == 1


def test_a_client_that_goes_away_after_a_part_of_its_stream_stops_its_job(
    serve: Callable[..., Running], gate: Gate
) -> None:
    def shut_from_the_third_call(network: Any) -> Callable[..., Any]:
        held = gate(network)

        def counted(*args: Any) -> Any:
            if gate.calls == calls[0] + 2:
                gate.open.clear()
            return held(*args)

        return counted

    calls = [1000]
    server = serve(through=shut_from_the_third_call, jobs=1)
    runtime = server.runtime
    calls[0] = gate.calls
    client = asks(server, steps=8, stream=True, partial_images=3)
    assert gate.entered.acquire(timeout=30)
    begun = b""
    while b"partial_image" not in begun:
        begun += client.recv(65536)
    client.close()
    until(lambda: next(iter(runtime._running)).reason is not None)
    gate.open.set()
    until(lambda: runtime.running == 0)
    assert gate.calls == calls[0] + 3
    assert cancelled(server) == 1


def test_a_slow_reader_holds_up_nobody(server: Running) -> None:
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, port = server.url.removeprefix("http://").split(":")
        slow.settimeout(60)
        slow.connect((host, int(port)))
        body = json.dumps({"prompt": "red apple", "size": "1024x1024", "n": 10, "seed": 1}).encode()
        head = (
            f"POST {GENERATIONS} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\nconnection: close\r\n"
        )
        slow.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        begun = b"".join(slow.recv(1) for _ in range(100))
        for seed in range(20):
            assert draw(server.url, seed=seed).body["data"][0]["seed"] == seed
            begun += slow.recv(1)
        rest = b"".join(iter(lambda: slow.recv(1 << 20), b""))
    head, _, data = (begun + rest).partition(b"\r\n\r\n")
    assert len(data) > 8 << 20  # more than the buffers between take
    assert [image["seed"] for image in json.loads(data)["data"]] == list(range(1, 11))


def test_a_storm_of_a_session_ends_with_its_last_image(serve: Callable[..., Running]) -> None:
    server, updates, clients = serve(), 1000, 12
    runtime, seen, ends = server.runtime, threading.Semaphore(0), {}
    submit = runtime.submit

    def noted(*args: Any, **options: Any) -> Any:
        try:
            return submit(*args, **options)
        finally:
            seen.release()

    runtime.submit = noted  # type: ignore[method-assign]
    numbers, taking = iter(range(updates - 1)), threading.Lock()

    def asked(number: int) -> dict[str, Any]:
        return {"prompt": f"cat {number}", "seed": number, "steps": 1 + number % 3, "session": "canvas"}

    def client() -> None:
        connection = connect(server.url)
        while True:
            with taking:
                number = next(numbers, None)
            if number is None:
                return connection.close()
            send(connection, GENERATIONS, asked(number))
            ends[number] = receive(connection)

    with ThreadPoolExecutor(clients) as pool:
        storm = [pool.submit(client) for _ in range(clients)]
        for _ in range(updates - 1):
            assert seen.acquire(timeout=60)
        ends[updates - 1] = call(server.url, GENERATIONS, asked(updates - 1))
        for each in storm:
            each.result(60)
    assert sorted(ends) == list(range(updates))
    assert ends[updates - 1].status == 200
    refused = [answer for answer in ends.values() if answer.status != 200]
    for answer in refused:
        assert (answer.status, answer.body["error"]["code"]) == (499, "superseded")
        assert answer.headers["x-should-retry"] == "false"
    assert refused
    for number, answer in ends.items():
        if answer.status == 200:
            record = read_record(base64.b64decode(answer.body["data"][0]["b64_json"]))
            assert record is not None
            assert (answer.body["data"][0]["seed"], answer.body["steps"]) == (number, 1 + number % 3)
            assert (record.prompt, record.seed, record.steps) == (f"cat {number}", number, 1 + number % 3)
    assert (runtime.running, runtime.waiting) == (0, 0)
    for number in sorted(number for number, answer in ends.items() if answer.status == 200)[-10:]:
        alone = pixels(draw(server.url, **{**asked(number), "session": None}))
        assert np.abs(pixels(ends[number]) - alone).max() <= 1


def test_an_image_is_the_same_alone_and_in_company(serve: Callable[..., Running], gate: Gate) -> None:
    server = serve(through=gate)
    mine: dict[str, Any] = {"prompt": "red apple", "seed": 7, "steps": 4}
    alone = pixels(draw(server.url, **mine))
    company = [{"prompt": f"dog {i}", "seed": i, "steps": 1 + i % 5, "n": 1 + i % 2} for i in range(16)]
    gate.open.clear()
    with ThreadPoolExecutor(17) as pool:
        answers = [pool.submit(draw, server.url, **fields) for fields in (mine, *company)]
        until(lambda: server.runtime.running == 17)
        gate.open.set()
        together, *others = [answer.result(60) for answer in answers]
    assert np.abs(pixels(together) - alone).max() <= 1
    assert [other.body["data"][0]["seed"] for other in others] == list(range(16))
    assert max(np.abs(pixels(other) - alone).max() for other in others) > 16


def data_url(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def test_the_later_of_a_session_wins_though_its_picture_is_read_first(
    serve: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    reading, go_on, read = threading.Event(), threading.Event(), ImageDecoder.open

    def slow(decoder: ImageDecoder, source: bytes | str, field: str) -> Image.Image:
        opened = read(decoder, source, field)
        if opened.width == 64:
            reading.set()
            assert go_on.wait(30)
        return opened

    monkeypatch.setattr(ImageDecoder, "open", slow)

    def edit(side: int) -> Answer:
        images = [{"image_url": data_url(Image.new("RGB", (side, side), "red"))}]
        return call(server.url, "/v1/images/edits", {"images": images, "prompt": "cat", "session": "canvas"})

    with ThreadPoolExecutor(1) as pool:
        earlier = pool.submit(edit, 64)
        assert reading.wait(30)
        assert edit(32).status == 200
        go_on.set()
        answer = earlier.result(60)
    assert (answer.status, answer.body["error"]["code"]) == (499, "superseded")
    assert answer.headers["x-should-retry"] == "false"


def test_images_of_a_superseded_request_are_not_kept(
    serve: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    encoding, go_on, encoded = threading.Event(), threading.Event(), Encoding.encoded

    def slow(*args: Any) -> bytes:
        encoding.set()
        assert go_on.wait(30)
        return encoded(*args)

    monkeypatch.setattr(Encoding, "encoded", slow)
    with ThreadPoolExecutor(2) as pool:
        earlier = pool.submit(draw, server.url, session="canvas", n=3)
        assert encoding.wait(30)
        later = pool.submit(draw, server.url, session="canvas")
        until(lambda: any(job.reason for job in server.runtime._running))
        go_on.set()
        assert (earlier.result(60).status, later.result(60).status) == (499, 200)
    assert len(server.desk.store) == 1


def test_who_goes_away_while_a_picture_is_decoded_leaves_no_job(
    serve: Callable[..., Running], gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(through=gate)
    decoding, go_on, decode = threading.Event(), threading.Event(), server.decoder.open
    calls = gate.calls

    def slow(source: bytes | str, field: str) -> Image.Image:
        decoding.set()
        assert go_on.wait(30)
        return decode(source, field)

    monkeypatch.setattr(server.decoder, "open", slow)
    images = [{"image_url": data_url(Image.new("RGB", (32, 32), "red"))}]
    connection = connect(server.url)
    send(connection, "/v1/images/edits", {"images": images, "prompt": "cat"})
    assert decoding.wait(30)
    connection.close()
    until(lambda: 'outcome="cancelled",surface="http"} 1.0' in server.metrics.text().decode())
    go_on.set()
    until(lambda: server.decoder.held == 0)
    assert (server.runtime.running, server.runtime.waiting, gate.calls) == (0, 0, calls)
