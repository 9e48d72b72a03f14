"""Who gets in: keys, hosts, origins, sizes; and what uploads may do."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import struct
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from fewstep.cli.serve import serve_key
from fewstep.serving.http.keys import hashed, new_key, read_keys
from fewstep.serving.settings import ServeSettings, wrong_setting
from servers import Answer, Running, running
from servers import call as ask
from tiny_models import TinyModels


def call(url: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any, dict[str, str]]:
    """Status, JSON and headers of a request."""
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(url, data, {"content-type": "application/json", **(headers or {})})
    try:
        with urllib.request.urlopen(asked) as answer:
            return answer.status, json.loads(answer.read()), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read()), dict(error.headers)


def upload(server: Running, file: bytes, field: str = "image", **fields: str) -> tuple[int, Any]:
    """An edit with one file, written by hand."""
    edge = "edge-of-a-part"
    parts = [
        *(
            f'--{edge}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in {"prompt": "cat", **fields}.items()
        ),
        f'--{edge}\r\nContent-Disposition: form-data; name="{field}"; filename="a.png"\r\n\r\n'.encode()
        + file
        + b"\r\n",
    ]
    asked = urllib.request.Request(
        f"{server.url}/v1/images/edits",
        b"".join(parts) + f"--{edge}--\r\n".encode(),
        {"content-type": f"multipart/form-data; boundary={edge}"},
    )
    try:
        with urllib.request.urlopen(asked) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def saved(picture: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


PICTURE = Image.fromarray(np.arange(24 * 32 * 3, dtype=np.uint8).reshape(24, 32, 3))


def test_a_server_for_others_wants_keys(tmp_path: Path, serve: Callable[..., Running]) -> None:
    key, kept = new_key()
    assert kept == hashed(key)
    assert key not in kept
    file = tmp_path / "keys"
    file.write_text(f"# the studio's\n{kept}  studio\n", encoding="utf-8")
    server = serve(keys_file=file)
    url = f"{server.url}/v1/models"
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": key}, {"authorization": f"Basic {key}"}):
        status, body, _ = call(url, headers=headers)
        assert status == 401
        assert body["error"]["code"] == "invalid_api_key"
    assert call(url, headers={"authorization": f"Bearer {key}"})[0] == 200
    assert call(f"{server.url}/healthz")[0] == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::", "example.org"])
def test_listening_beyond_this_machine_needs_keys_or_a_word(host: str) -> None:
    with pytest.raises(ValidationError, match="lets others in"):
        ServeSettings(host=host)
    assert not ServeSettings(host=host, without_keys=True).is_local


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_listening_on_this_machine_needs_none(host: str) -> None:
    assert ServeSettings(host=host).is_local


def test_a_keys_file_with_a_plain_key_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(new_key()[0], encoding="utf-8")
    with pytest.raises(ValueError, match="line 1 is not a hashed key"):
        read_keys(file)
    file.write_text("# none\n", encoding="utf-8")
    with pytest.raises(ValueError, match="holds no key"):
        read_keys(file)


def test_a_name_made_to_point_here_is_refused(server: Running) -> None:
    status, body, _ = call(f"{server.url}/v1/models", headers={"host": "evil.example"})
    assert (status, body["error"]["code"]) == (403, "wrong_host")
    status, _, _ = call(f"{server.url}/mcp", {}, headers={"host": "evil.example:8642"})
    assert status == 403


@pytest.mark.parametrize("path", ["/v1/images/generations", "/mcp"])
def test_a_page_from_elsewhere_is_refused(server: Running, path: str) -> None:
    status, body, headers = call(f"{server.url}{path}", {"prompt": "cat"}, {"origin": "https://evil.example"})
    assert (status, body["error"]["code"]) == (403, "wrong_origin")
    assert "access-control-allow-origin" not in {name.lower() for name in headers}


def test_a_named_page_may_call_and_asks_first(serve: Callable[..., Running]) -> None:
    server = serve(origins=("https://studio.example/",))
    page = {"origin": "https://studio.example"}
    status, _, headers = call(f"{server.url}/v1/images/generations", {"prompt": "cat"}, page)
    assert status == 200
    assert {name.lower(): value for name, value in headers.items()}["access-control-allow-origin"] == page["origin"]
    asked = urllib.request.Request(
        f"{server.url}/v1/images/generations",
        headers={**page, "access-control-request-method": "POST", "access-control-request-headers": "content-type"},
        method="OPTIONS",
    )
    with urllib.request.urlopen(asked) as answer:
        assert answer.status in (200, 204)
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert "content-type" in answer.headers["access-control-allow-headers"].lower()


def lower(headers: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def test_a_named_page_can_read_why_it_was_refused_and_when_to_come_again(
    tmp_path: Path, serve: Callable[..., Running]
) -> None:
    key, kept = new_key()
    (tmp_path / "keys").write_text(kept, encoding="utf-8")
    server = serve(origins=("https://studio.example",), keys_file=tmp_path / "keys", max_body_bytes=2000)
    page = {"origin": "https://studio.example"}
    url = f"{server.url}/v1/images/generations"
    large = {**page, "authorization": f"Bearer {key}"}
    for status, asked in (
        (401, call(url, {"prompt": "cat"}, page)),
        (413, call(url, {"prompt": "x" * 3000}, large)),
        (200, call(url, {"prompt": "cat"}, large)),
    ):
        assert asked[0] == status
        headers = lower(asked[2])
        assert headers["access-control-allow-origin"] == page["origin"]
        exposed = set(headers["access-control-expose-headers"].replace(" ", "").split(","))
        assert exposed == {"retry-after", "retry-after-ms", "server-timing", "x-request-id", "x-should-retry"}


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
@pytest.mark.parametrize("path", ["/v1/models", "/mcp", "/healthz"])
@pytest.mark.parametrize(
    ("header", "status"), [({"host": "["}, 400), ({"host": "[x]"}, 400), ({"origin": "http://["}, 403)]
)
@pytest.mark.parametrize("settings", [{}, {"origins": ("https://studio.example",)}, {"without_keys": True}])
def test_a_broken_name_is_an_error_object(
    servers: Callable[..., Running], method: str, path: str, header: dict[str, str], status: int, settings: Any
) -> None:
    asked = urllib.request.Request(
        f"{servers(**settings).url}{path}", headers={**header, "access-control-request-method": "POST"}, method=method
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(asked)
    assert refused.value.code == status
    assert set(json.loads(refused.value.read())["error"]) == {"message", "type", "param", "code"}


@pytest.fixture(scope="module")
def servers(tiny: TinyModels) -> Iterator[Callable[..., Running]]:
    """One server for each of several settings."""
    with contextlib.ExitStack() as stack:
        started: dict[str, Running] = {}

        def server(**settings: Any) -> Running:
            if str(settings) not in started:
                started[str(settings)] = stack.enter_context(running(tiny, **settings))
            return started[str(settings)]

        yield server


INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}},
}


def mcp(server: Running, body: Any = INITIALIZE, **headers: str) -> Answer:
    return ask(server.url, "/mcp", body, accept="application/json, text/event-stream", **headers)


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "127.0.0.1"},
        {"host": "localhost"},
        {"host": "studio.example"},
        {"host": "Studio.Example:8642"},
        {"host": "[fd00::7]:8642"},
        {"origin": "https://page.example"},
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/mcp"])
def test_every_surface_goes_by_the_same_names(
    servers: Callable[..., Running], headers: dict[str, str], path: str
) -> None:
    server = servers(hosts=("STUDIO.example", "fd00:0::7"), origins=("https://Page.example:443",))
    answer = mcp(server, **headers) if path == "/mcp" else ask(server.url, path, **headers)
    assert answer.status == 200


def test_hosts_hold_beside_without_keys(servers: Callable[..., Running]) -> None:
    server = servers(without_keys=True, hosts=("studio.example",))
    assert ask(server.url, "/v1/models", host="studio.example").status == 200
    assert ask(server.url, "/v1/models", host="evil.example", origin="http://evil.example").status == 403
    assert ask(servers(without_keys=True).url, "/v1/models", host="any.example").status == 200


def test_mcp_takes_bodies_as_large_as_the_others(servers: Callable[..., Running]) -> None:
    url = "data:image/png;base64," + "A" * 6_000_000
    drawing = {"name": "change_image", "arguments": {"image": url, "prompt": "x"}}
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": drawing}
    answer = mcp(servers(), asked)
    assert answer.status == 200
    assert b"not an image that can be read" in answer.data


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("origins", "foo"),
        ("origins", "*"),
        ("origins", "https://studio.example/page"),
        ("origins", "ftp://studio.example"),
        ("hosts", "http://studio.example"),
        ("hosts", "studio.example:80"),
        ("hosts", "studio.example/"),
        ("hosts", ""),
    ],
)
def test_a_name_that_can_never_match_is_refused(setting: str, value: str) -> None:
    with pytest.raises(ValidationError, match="must be") as refused:
        ServeSettings(**{setting: (value,)})
    assert wrong_setting(refused.value, [f"--{setting}", value]).startswith(f"--{setting}: must be")
    assert value in wrong_setting(refused.value)


@pytest.mark.parametrize("name", ["a\nb", "a\x85b", "a\u2028b"])
def test_a_keys_name_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="on one line"):
        serve_key(name)
    serve_key("ada lovelace")
    line = capsys.readouterr().out.splitlines()[-1].partition(": ")[2]
    (tmp_path / "keys").write_text(line, encoding="utf-8")
    assert len(read_keys(tmp_path / "keys")) == 1


@pytest.mark.parametrize("path", ["/v1/images/generations", "/mcp"])
def test_a_body_that_is_too_large_is_refused_by_its_header_and_by_its_bytes(
    servers: Callable[..., Running], path: str
) -> None:
    server = servers(max_body_bytes=2000)
    status, body, _ = call(f"{server.url}{path}", {"prompt": "x" * 3000})
    assert (status, body["error"]["code"]) == (413, "too_large")
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 10) as raw:
        raw.sendall(
            f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\nconnection: close\r\n"
            "accept: application/json, text/event-stream\r\n"
            "transfer-encoding: chunked\r\n\r\n".encode()
            + (b"200\r\n" + b" " * 512 + b"\r\n") * 4
        )
        answer = b"".join(iter(lambda: raw.recv(1 << 16), b""))
    assert answer.startswith(b"HTTP/1.1 413")
    assert b'"too_large"' in answer
    assert call(f"{server.url}/v1/images/generations", {"prompt": "cat"})[0] == 200


def bomb() -> bytes:
    """A PNG of 60 000 × 60 000 in a few kilobytes, as its header has it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10_000)))
        + chunk(b"IEND", b"")
    )


WHOLE = saved(PICTURE, "PNG")

BAD = {
    "nothing": b"",
    "text": b"<html>not an image</html>",
    "cut": WHOLE[: len(WHOLE) // 2],
    "cut in its header": WHOLE[:20],
    "a bomb": bomb(),
    "a script that begins like a GIF": b"GIF89a/*" + b"A" * 500 + b"*/=alert(1)",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
    "a pdf": b"%PDF-1.4\n" + b"0" * 500,
    "noise": bytes(np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8)),
}

GOOD = {
    "png": WHOLE,
    "jpeg": saved(PICTURE, "JPEG"),
    "webp": saved(PICTURE, "WEBP"),
    "cmyk": saved(PICTURE.convert("CMYK"), "JPEG"),
    "palette": saved(PICTURE.convert("P"), "PNG"),
    "16 bits": saved(Image.fromarray(np.arange(768, dtype=np.uint16).reshape(24, 32) * 80), "PNG"),
    "one bit": saved(PICTURE.convert("1"), "PNG"),
    "animated": saved(PICTURE, "GIF", save_all=True, append_images=[PICTURE.rotate(90)]),
    "with another file behind it": WHOLE + b"PK\x03\x04" + bytes(500),
    "a jpeg called png": saved(PICTURE, "JPEG"),
    "one pixel": saved(Image.new("RGB", (1, 1)), "PNG"),
    "a line": saved(Image.new("RGB", (2000, 1)), "PNG"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_upload_is_refused_by_name_and_the_server_goes_on(server: Running, name: str) -> None:
    status, body = upload(server, BAD[name])
    assert status == 400
    assert body["error"]["param"] == "image"
    assert upload(server, WHOLE)[0] == 200


@pytest.mark.parametrize("name", GOOD)
def test_every_kind_of_picture_is_taken(server: Running, name: str) -> None:
    assert upload(server, GOOD[name])[0] == 200


def test_a_turned_photograph_stands_upright(server: Running) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    status, body = upload(server, saved(PICTURE, "JPEG", exif=exif), size="24x32")
    assert status == 200
    assert body["size"] == "24x32"


def test_hundreds_of_damaged_uploads_get_an_answer_each(server: Running) -> None:
    rng = np.random.default_rng(1)
    for name in ("png", "jpeg", "webp", "16 bits"):
        for _ in range(40):
            damaged = bytearray(GOOD[name])
            for _ in range(int(rng.integers(1, 8))):
                damaged[int(rng.integers(len(damaged)))] = int(rng.integers(256))
            status, body = upload(server, bytes(damaged[: int(rng.integers(1, len(damaged) + 1))]))
            assert status == 200 or (status == 400 and set(body["error"]) == {"message", "type", "param", "code"})


@pytest.mark.parametrize(
    "path", ["/v1/images/files/..%2f..%2fetc%2fpasswd", "/v1/images/files/nobody", "/v1/models/../../etc", "/nobody"]
)
def test_no_path_of_a_clients_reaches_a_file(server: Running, path: str) -> None:
    status, body, _ = call(f"{server.url}{path}")
    assert status == 404
    assert set(body["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    "body", [[], 7, None, {"prompt": None}, {"prompt": ["a"]}, {"prompt": "x", "n": "many"}, {"prompt": "\ud800"}]
)
def test_a_wrong_body_is_an_error_object(server: Running, body: Any) -> None:
    asked = urllib.request.Request(
        f"{server.url}/v1/images/generations", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(asked)
    assert refused.value.code == 400
    assert set(json.loads(refused.value.read())["error"]) == {"message", "type", "param", "code"}
