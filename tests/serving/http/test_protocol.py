"""What a connection may send beside bodies is bounded, whoever sends it; what clients and proxies send is taken."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fewstep.serving.http.protocol import MAX_FIELDS, MAX_HEAD
from servers import Running

END = b"\r\n\r\n"
START = b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n"
POST = b"POST /v1/images/generations HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
CHUNKED = POST + b"transfer-encoding: chunked" + END


@pytest.fixture
def connection(server: Running) -> Iterator[socket.socket]:
    port = int(server.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        yield connection


def answer(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """Status and JSON of one response."""
    reader = connection.makefile("rb")
    status = int(reader.readline().split()[1])
    length = 0
    while (line := reader.readline().strip().lower()) != b"":
        name, _, value = line.partition(b":")
        length = int(value) if name == b"content-length" else length
    body = json.loads(reader.read(length))
    return status, body if isinstance(body, dict) else {}


def send(connection: socket.socket, data: bytes) -> None:
    """As much as the server reads: it may close in the middle."""
    try:
        connection.sendall(data)
    except (BrokenPipeError, ConnectionResetError):
        time.sleep(0.05)  # its answer may still be on the way


LARGE = {
    "a field that never ends": START + b"x-long: " + b"a" * 3_000_000,
    "a whole field": START + b"x-long: " + b"a" * (MAX_HEAD + 1) + END,
    "a field's name": START + b"x" * 400_000,
    "many fields": START + b"a: b\r\n" * (MAX_FIELDS + 1) + b"\r\n",
    "many long fields": START + (b"a: " + b"b" * 5_000 + b"\r\n") * 14 + b"\r\n",
    "a request line": b"GET /healthz?" + b"a" * 400_000,
    "an extension of a chunk": CHUNKED + b"1;" + b"x" * 400_000,
    "a trailer": CHUNKED + b"2\r\n{}\r\n0\r\nx-trailer: " + b"a" * 400_000,
}


@pytest.mark.parametrize("data", LARGE.values(), ids=LARGE)
def test_what_is_no_body_is_bounded(connection: socket.socket, server: Running, data: bytes) -> None:
    for start in range(0, len(data), 8_192):
        send(connection, data[start : start + 8_192])
    status, body = answer(connection)
    assert (status, body["error"]["code"]) == (431, "headers_too_large")
    assert connection.recv(1) == b"", "the connection must be closed"


@pytest.mark.parametrize("data", LARGE.values(), ids=LARGE)
def test_it_is_bounded_when_it_comes_at_once(connection: socket.socket, data: bytes) -> None:
    send(connection, data)
    status, _ = answer(connection)
    assert status == 431


def test_what_is_not_http_is_refused_as_all_errors_are(connection: socket.socket) -> None:
    send(connection, b"HELLO\r\n\r\n")
    status, body = answer(connection)
    assert (status, body["error"]["code"]) == (400, "invalid_http")


def test_a_long_cookie_is_taken(connection: socket.socket) -> None:
    send(connection, START + b"cookie: " + b"a" * (MAX_HEAD - 200) + END)
    assert answer(connection)[0] == 200


def test_a_body_in_the_smallest_chunks_is_taken(connection: socket.socket) -> None:
    body = json.dumps({"prompt": "cat" + " " * 33_000, "response_format": "b64_json", "nonsense": 1}).encode()
    send(connection, CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n")
    status, answered = answer(connection)
    assert status == 400
    assert "prompt" in str(answered) or "nonsense" in str(answered)  # it was read to its end


def test_a_request_after_a_large_body_in_one_packet_is_taken(connection: socket.socket) -> None:
    body = b'{"prompt": 3, "user": "' + b"x" * 150_000 + b'"}'
    first = POST + b"content-length: %d" % len(body) + END + body
    send(connection, first + START + b"\r\n")
    reader = connection.makefile("rb")
    found = b""
    while found.count(b"HTTP/1.1 ") < 2 and (line := reader.readline()):
        found += line
    assert b"HTTP/1.1 400" in found
    assert b"HTTP/1.1 200" in found


def test_an_idle_connection_stays_as_long_as_the_setting_says(serve: Callable[..., Running]) -> None:
    server = serve(keep_alive=1)
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=20) as connection:
        send(connection, START + b"\r\n")
        assert answer(connection)[0] == 200
        send(connection, START + b"\r\n")
        assert answer(connection)[0] == 200
        assert connection.recv(1) == b"", "closed by the server once it is idle"


def counted(server: Running, status: int) -> float:
    """How many requests have been answered with this status, by the server's metrics."""
    found = re.findall(
        rf'^fewstep_http_errors_total{{status="{status}"}} (\S+)$', server.metrics.text().decode(), re.M
    )
    return sum(map(float, found))


@pytest.mark.parametrize(
    ("path", "kind", "begun"),
    [
        ("/v1/images/generations", "application/json", "{"),
        ("/v1/images/edits", "multipart/form-data; boundary=edge", "--edge\r\n"),
        ("/v1/live", "application/octet-stream", "{"),
        ("/mcp", "application/json", "{"),
    ],
)
def test_a_client_that_leaves_while_it_sends_is_no_fault_of_the_server(
    connection: socket.socket, server: Running, path: str, kind: str, begun: str, caplog: pytest.LogCaptureFixture
) -> None:
    left, failed = counted(server, 499), counted(server, 500)
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {kind}\r\naccept: application/json, text/event-stream\r\n"
    send(connection, head.encode() + b"content-length: 1000\r\n\r\n" + begun.encode())
    time.sleep(0.1)  # until it reads the body
    connection.close()
    ends = time.monotonic() + 20
    while counted(server, 499) == left and time.monotonic() < ends:
        time.sleep(0.02)
    assert counted(server, 499) == left + 1
    assert counted(server, 500) == failed
    assert not [record for record in caplog.records if record.exc_info]
