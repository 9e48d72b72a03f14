"""Pictures by URL: from public addresses alone, by whatever spelling, name or redirect they are asked for."""

from __future__ import annotations

import base64
import contextlib
import http.server
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fewstep.serving.engine import inputs
from fewstep.serving.engine.errors import InputError
from fewstep.serving.engine.fetching import REDIRECTS, SECONDS, fetch, is_public
from picture_cases import encoded, gradient
from servers import Running, call

PUBLIC = ("1.1.1.1", "8.8.8.8", "93.184.215.14", "172.15.0.1", "100.63.255.255", "2606:4700::1111", "::ffff:8.8.8.8")
HIDDEN = (
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.127.255.255",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd00:ec2::254",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::a00:1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "::127.0.0.1",
)


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", HIDDEN)
def test_an_address_of_a_machine_or_a_network_of_its_own_is_not(address: str) -> None:
    assert not is_public(address)


class Site(http.server.BaseHTTPRequestHandler):
    """Some bytes, redirects and troubles."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        path, _, rest = self.path.partition("?")
        if path == "/to":
            self.reply(302, b"", location=rest)
        elif path == "/again":
            self.reply(307, b"", location=f"/again?{int(rest) - 1}" if int(rest) else "/bytes")
        elif path == "/moved":
            self.reply(int(rest), b"", location="/bytes")
        elif path == "/bytes":
            self.reply(200, bytes(range(200)))
        elif path == "/broken":
            self.wfile.write(b"no HTTP at all\r\n\r\n")
        elif path == "/cut":
            self.reply(200, b"short", **{"content-length": "500"})
        elif path == "/away":
            self.close_connection = True
        else:
            self.reply(404, b"no")

    def reply(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def site() -> Iterator[tuple[str, list[str]]]:
    """Its URL at 127.0.0.1, and the paths it was asked for; it listens at 127.0.0.2 too."""
    asked: list[str] = []
    handler = type("Handler", (Site,), {"asked": asked})
    with http.server.ThreadingHTTPServer(("0.0.0.0", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def only_127_0_0_1(address: str) -> bool:
    return address == "127.0.0.1"


def get(url: str, most: int = 1000) -> bytes:
    return fetch(url, "image", most, only_127_0_0_1)


def refused(url: str, code: str, **options: Any) -> str:
    with pytest.raises(InputError) as error:
        fetch(url, "image", 1000, **options)
    assert (error.value.field, error.value.code) == ("image", code)
    return str(error.value)


def test_bytes_come_as_they_are_and_redirects_are_followed(site: tuple[str, list[str]]) -> None:
    url, asked = site
    assert get(f"{url}/bytes") == get(f"{url}/to?/bytes") == get(f"{url}/to?{url}/bytes") == bytes(range(200))
    assert asked[-1] == "/bytes"
    assert get(f"{url}/again?{REDIRECTS - 1}") == bytes(range(200))


def test_a_site_has_as_long_as_the_docs_say() -> None:
    docs = (Path(__file__).parents[3] / "docs" / "serve.md").read_text(encoding="utf-8")
    assert f"for at most {SECONDS:g} seconds" in docs


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_every_kind_of_redirect_is_followed(site: tuple[str, list[str]], status: int) -> None:
    assert get(f"{site[0]}/moved?{status}") == bytes(range(200))


def test_a_redirect_to_where_none_may_go_is_refused_before_it_is_asked(site: tuple[str, list[str]]) -> None:
    url, asked = site
    elsewhere = url.replace("127.0.0.1", "127.0.0.2")
    assert fetch(f"{elsewhere}/bytes", "image", 1000, lambda address: True)
    asked.clear()
    refused(f"{url}/to?{elsewhere}/bytes", "forbidden_url", may=only_127_0_0_1)
    assert asked == [f"/to?{elsewhere}/bytes"]


def test_a_redirect_to_another_scheme_is_refused(site: tuple[str, list[str]]) -> None:
    for target in ("file:///etc/passwd", "ftp://127.0.0.1/a", "gopher://127.0.0.1/a"):
        assert "http or https" in refused(f"{site[0]}/to?{target}", "invalid_url", may=only_127_0_0_1)


@pytest.mark.parametrize(
    ("path", "code", "said"),
    [
        (f"/again?{REDIRECTS}", "invalid_url", f"more than {REDIRECTS} times"),
        ("/nobody", "invalid_url", "answered 404"),
        ("/broken", "invalid_url", "could not be fetched"),
        ("/cut", "invalid_url", "could not be fetched"),
        ("/away", "invalid_url", "could not be fetched"),
        ("/with a space", "invalid_url", "could not be fetched"),
        ("/línea", "invalid_url", "could not be fetched"),
    ],
)
def test_a_trouble_is_named(site: tuple[str, list[str]], path: str, code: str, said: str) -> None:
    assert said in refused(f"{site[0]}{path}", code, may=only_127_0_0_1)


def test_what_is_too_large_is_refused(site: tuple[str, list[str]]) -> None:
    assert len(get(f"{site[0]}/bytes", 200)) == 200
    with pytest.raises(InputError, match="at most 199 bytes") as error:
        get(f"{site[0]}/bytes", 199)
    assert error.value.code == "too_large"


def test_a_server_that_is_not_there_is_a_trouble(site: tuple[str, list[str]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    assert "could not be fetched" in refused(f"http://127.0.0.1:{port}/", "invalid_url", may=only_127_0_0_1)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://8.8.8.8/a.png",
        "gopher://8.8.8.8/",
        "//8.8.8.8/a.png",
        "a.png",
        "",
        "http://",
        "http:///a.png",
        "http://user@8.8.8.8/",
        "http://user:word@8.8.8.8/",
        "http://@8.8.8.8/",
        "http://8.8.8.8:many/",
        "http://8.8.8.8:99999/",
        "http://[::1/",
        "http://a\x00b/",
        f"http://{'a' * 70}.example/",
        "http://\ud800.example/",
    ],
)
def test_what_is_no_url_to_fetch_is_refused_unasked(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    def unreachable(*args: Any, **options: Any) -> Any:
        raise AssertionError("it was connected to")

    monkeypatch.setattr(socket, "create_connection", unreachable)
    refused(url, "invalid_url")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "[::ffff:7f00:1]"],
)
def test_this_machine_is_refused_however_it_is_spelt(site: tuple[str, list[str]], host: str) -> None:
    url, asked = site
    refused(url.replace("127.0.0.1", host) + "/bytes", "forbidden_url")
    assert asked == []


@pytest.mark.parametrize(
    "addresses", [("10.0.0.7",), ("169.254.169.254",), ("8.8.8.8", "10.0.0.7"), ("fd00::1",), ()]
)
def test_a_name_that_leads_inside_is_refused(monkeypatch: pytest.MonkeyPatch, addresses: tuple[str, ...]) -> None:
    def found(host: str, port: int, **options: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    refused("https://pictures.example/a.png", "forbidden_url")


@pytest.mark.parametrize("fetches", [False, True])
def test_an_edit_by_url_is_refused_by_name(
    serve: Callable[..., Running], site: tuple[str, list[str]], fetches: bool
) -> None:
    server = serve(fetch_images=fetches)
    body = {"images": [{"image_url": f"{site[0]}/bytes"}], "prompt": "cat"}
    answer = call(server.url, "/v1/images/edits", body)
    assert (answer.status, answer.body["error"]["param"]) == (400, "images")
    said = "must lead to a public address" if fetches else "this server fetches no URLs"
    assert said in answer.body["error"]["message"]
    assert site[1] == []


class Drip:
    """Answers `start`, then a byte every 50 ms, for as long as it may; it sends nothing at all to who wants TLS."""

    def __init__(self, start: bytes) -> None:
        self._start = start
        self._ended = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._drip, args=(self._socket.accept()[0],), daemon=True).start()

    def _drip(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            asked = connection.recv(1000)
            connection.sendall(self._start if asked.startswith(b"GET") else b"")
            while not self._ended.wait(0.05):
                connection.sendall(b"X" if asked.startswith(b"GET") else b"")

    def close(self) -> None:
        """Nothing is sent any more: who still waits was not cut."""
        self._ended.set()
        self._socket.close()


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "start",
    [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n"],
    ids=["in its headers", "in a body without an end", "in a body"],
)
def test_a_site_that_drips_is_cut(monkeypatch: pytest.MonkeyPatch, scheme: str, start: bytes) -> None:
    monkeypatch.setattr("fewstep.serving.engine.fetching.SECONDS", 0.5)
    with contextlib.closing(Drip(start)) as site:
        said = refused(f"{scheme}://127.0.0.1:{site.port}/", "invalid_url", may=only_127_0_0_1)
    assert said == "image took more than 0.5 seconds to fetch"


def test_slow_sites_do_not_hold_up_other_work(serve: Callable[..., Running], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "fetch", partial(fetch, may=only_127_0_0_1))
    server = serve(fetch_images=True)
    with contextlib.closing(Drip(b"HTTP/1.1 200 OK\r\n")) as site:
        slow = {"images": [{"image_url": f"http://127.0.0.1:{site.port}/"}], "prompt": "cat"}
        threads = [threading.Thread(target=call, args=(server.url, "/v1/images/edits", slow)) for _ in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        url = f"data:image/png;base64,{base64.b64encode(encoded(gradient())).decode()}"
        body = {"images": [{"image_url": url}], "prompt": "cat"}
        assert call(server.url, "/v1/images/edits", body).status == 200
        assert any(thread.is_alive() for thread in threads), "the slow sites are still at it"
        site.close()
        for thread in threads:
            thread.join()


def test_the_next_address_is_tried(site: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    port = int(site[0].rpartition(":")[2])

    def found(host: str, port: int, **options: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in ("10.0.0.7", "127.0.0.1")]

    def connected(address: tuple[str, int], timeout: float) -> socket.socket:
        if address[0] == "10.0.0.7":
            raise ConnectionRefusedError
        raw = socket.socket()
        raw.settimeout(timeout)
        raw.connect(address)
        return raw

    monkeypatch.setattr(socket, "getaddrinfo", found)
    monkeypatch.setattr(socket, "create_connection", connected)
    assert fetch(f"http://pictures.example:{port}/bytes", "image", 1000, lambda address: True) == bytes(range(200))


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://pictures.example/a", "pictures.example"),
        ("https://pictures.example/a", "pictures.example"),
        ("https://pictures.example:8443/a", "pictures.example:8443"),
        ("https://pictures.example:80/a", "pictures.example:80"),
    ],
)
def test_a_site_is_called_by_its_plain_name(monkeypatch: pytest.MonkeyPatch, url: str, host: str) -> None:
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: [(0, 0, 0, "", ("8.8.8.8", 0))])
    monkeypatch.setattr(socket, "create_connection", lambda address, timeout: ours)
    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", lambda self, raw, server_hostname: raw)
    theirs.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    assert fetch(url, "image", 1000) == b"ok"
    with theirs:
        assert f"\r\nHost: {host}\r\n".encode() in theirs.recv(1000)


def test_what_an_error_quotes_need_not_be_text() -> None:
    said = refused("http://\ud800\u2100.example/", "invalid_url")
    assert said.encode()
