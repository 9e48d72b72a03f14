"""What clients really send and older servers dropped or refused: several images, odd data URLs, empty fields, HEAD."""

from __future__ import annotations

import base64
import http.client
import io
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fewstep import pictures
from fewstep.serving.http.keys import hashed
from servers import EDGE, Answer, Running, call, draw, form, running
from tiny_models import LENGTH, TinyModels


def png(colour: str = "orange", size: tuple[int, int] = (20, 12)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def edit(server: Running, *parts: tuple[str, str | bytes]) -> Answer:
    return form(server.url, "/v1/images/edits", ("prompt", "cat"), ("seed", "3"), *parts)


def refused(answer: Answer, status: int = 400) -> dict[str, Any]:
    assert answer.status == status, answer.data
    return dict(answer.body["error"])


def picture(answer: Answer) -> bytes:
    """The pixels of an answer's first image."""
    assert answer.status == 200, answer.data
    return Image.open(io.BytesIO(base64.b64decode(answer.body["data"][0]["b64_json"]))).tobytes()


# forms


def test_of_several_images_the_first_is_edited_and_the_others_are_named(server: Running) -> None:
    alone = edit(server, ("image", png()))
    assert alone.body["ignored"] == []
    several = edit(server, ("image[]", png()), ("image[]", png("navy")), ("image[]", png("red")))
    assert several.body["ignored"] == ["image[1]", "image[2]"]
    assert picture(several) == picture(alone)
    urls = [{"image_url": "data:;base64," + base64.b64encode(png(colour)).decode()} for colour in ("orange", "navy")]
    asked = {"prompt": "cat", "seed": 3, "images": urls}
    as_json = call(server.url, "/v1/images/edits", asked)
    assert as_json.body["ignored"] == ["images[1]"]
    assert picture(as_json) == picture(alone)


def test_a_mask_counts_under_either_name(server: Running) -> None:
    half = Image.new("L", (20, 12))
    half.paste(255, (10, 0, 20, 12))
    buffer = io.BytesIO()
    half.save(buffer, "PNG")
    named, listed = (edit(server, ("image", png()), (name, buffer.getvalue())) for name in ("mask", "mask[]"))
    assert picture(named) == picture(listed) != picture(edit(server, ("image", png())))
    twice = refused(edit(server, ("image", png()), ("mask", buffer.getvalue()), ("mask[]", buffer.getvalue())))
    assert (twice["param"], twice["message"]) == ("mask", "mask must be one file, got 2")


@pytest.mark.parametrize("name", ["markup", "file", "Mask", "reference[]"])
def test_a_file_that_no_field_takes_is_refused(server: Running, name: str) -> None:
    error = refused(edit(server, ("image", png()), (name, png())))
    assert error["param"] == name
    assert error["message"] == f"there is no file field '{name}' here, only image, mask and control"


def test_a_text_given_twice_is_refused(server: Running) -> None:
    error = refused(edit(server, ("image", png()), ("prompt", "dog")))
    assert (error["param"], error["message"]) == ("prompt", "prompt must be given once")


def test_empty_fields_of_a_form_are_left_out(server: Running) -> None:
    empty = [(name, "") for name in ("size", "n", "background", "response_format", "strength", "user", "control")]
    assert picture(edit(server, ("image", png()), *empty)) == picture(edit(server, ("image", png())))


def test_a_file_field_that_was_left_empty_is_left_out(server: Running) -> None:
    """As browsers send it."""
    parts = [("prompt", "", b"cat"), ("seed", "", b"3"), ("image", '; filename="x.png"', png())]
    parts.append(("mask", '; filename=""', b""))
    body = b"".join(
        f'--{EDGE}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + data + b"\r\n"
        for name, more, data in parts
    )
    answer = posted(server, body + f"--{EDGE}--\r\n".encode(), f"multipart/form-data; boundary={EDGE}")
    assert picture(answer) == picture(edit(server, ("image", png())))


def posted(server: Running, body: bytes, kind: str, path: str = "/v1/images/edits") -> Answer:
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    connection.request("POST", path, body, {"content-type": kind})
    answer = connection.getresponse()
    try:
        return Answer(answer.status, dict(answer.getheaders()), answer.read())
    finally:
        connection.close()


@pytest.mark.parametrize("kept", ["no last boundary", "half a boundary", "half a file"])
def test_a_form_that_is_cut_is_refused(server: Running, kept: str) -> None:
    head = f'--{EDGE}\r\nContent-Disposition: form-data; name="prompt"\r\n\r\ncat\r\n'
    head += f'--{EDGE}\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
    body = head.encode() + png() + b"\r\n"
    body = {"no last boundary": body, "half a boundary": body + f"--{EDGE}"[:-2].encode(), "half a file": body[:-30]}[
        kept
    ]
    error = refused(posted(server, body, f"multipart/form-data; boundary={EDGE}"))
    assert error["message"] == "the form ends before its last boundary"
    assert error["code"] == "incomplete_form"


def test_a_form_of_another_kind_is_refused(server: Running) -> None:
    error = refused(posted(server, b"prompt=cat", "application/x-www-form-urlencoded"))
    assert "must be a multipart/form-data form with a file named image, or JSON" in error["message"]
    error = refused(posted(server, b"--x", "multipart/form-data"))
    assert error["message"] == "the form cannot be read: Missing boundary in multipart."


# data URLs and JSON


@pytest.mark.parametrize("kind", ["image/png", "", "application/octet-stream", "text/plain", "image/png;name=a.png"])
def test_the_content_of_a_data_url_decides_what_it_is(server: Running, kind: str) -> None:
    assert edited(server, f"data:{kind};base64,{base64.b64encode(png()).decode()}").status == 200
    assert "is not an image" in refused(edited(server, f"data:{kind};base64,aGVsbG8="))["message"]


@pytest.mark.parametrize(
    "spelt",
    [
        lambda text: "\r\n".join(text[i : i + 76] for i in range(0, len(text), 76)),
        lambda text: f" {text}\n",
        lambda text: text.replace("+", "-").replace("/", "_"),
        lambda text: text.rstrip("="),
        lambda text: text.replace("+", "%2B").replace("=", "%3D"),
    ],
)
def test_base64_is_taken_in_every_spelling(server: Running, spelt: Callable[[str], str]) -> None:
    data = png("crimson", (21, 13)) + b"\xfb\xff\xfe>"  # what follows a PNG is not read
    text = base64.b64encode(data).decode()
    assert "+" in text or "/" in text
    plain = edited(server, f"data:image/png;base64,{text}")
    assert picture(edited(server, f" DATA:image/png; base64,{spelt(text)}")) == picture(plain)


@pytest.mark.parametrize("text", ["é", "====", "abc=def", "a", "*"])
def test_what_is_no_base64_is_refused(server: Running, text: str) -> None:
    error = refused(edited(server, f"data:image/png;base64,{text}"))
    assert error["code"] in ("invalid_url", "invalid_image")


def edited(server: Running, url: str) -> Answer:
    asked = {"prompt": "cat", "seed": 3, "images": [{"image_url": url}]}
    return call(server.url, "/v1/images/edits", asked)


def test_json_may_begin_with_a_byte_order_mark(server: Running) -> None:
    body = b"\xef\xbb\xbf" + json.dumps({"prompt": "cat", "seed": 3}).encode()
    marked = posted(server, body, "application/json", "/v1/images/generations")
    assert picture(marked) == picture(draw(server.url, "cat", seed=3))
    asked = {"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": {}}
    headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    answers = []
    for mark in (b"", b"\xef\xbb\xbf"):
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
        connection.request("POST", "/mcp", mark + json.dumps(asked).encode(), headers)
        answers.append(connection.getresponse().read())
        connection.close()
    assert answers[0] == answers[1]


# headers


def raw(server: Running, head: str) -> bytes:
    """The answer to a request written by hand."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as line:
        line.sendall(f"{head}\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: line.recv(65_536), b""))


@pytest.mark.parametrize(
    "host", ["localhost/x", "user@localhost", "local host", "localhost:80:80", "localhost?", "[x]"]
)
def test_a_host_that_is_none_is_refused(server: Running, host: str) -> None:
    answer = raw(server, f"GET /healthz HTTP/1.1\r\nHost: {host}")
    assert answer.startswith(b"HTTP/1.1 400"), answer
    assert b"wrong_host" in answer


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8642", "127.0.0.1", "[::1]:80"])
def test_a_host_with_or_without_a_port_is_taken(server: Running, host: str) -> None:
    assert raw(server, f"GET /healthz HTTP/1.1\r\nHost: {host}").startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("name", ["Host: localhost", "Authorization: Bearer a"])
def test_what_must_be_there_once_is_refused_twice(server: Running, name: str) -> None:
    host = "" if name.startswith("Host") else "Host: localhost\r\n"
    answer = raw(server, f"GET /healthz HTTP/1.1\r\n{host}{name}\r\n{name}")
    assert answer.startswith(b"HTTP/1.1 400"), answer
    assert b"must be given once" in answer


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/v1/models", "/v1/live", "/", "/openapi.json"])
def test_head_is_answered_wherever_get_is(server: Running, path: str) -> None:
    got = raw(server, f"GET {path} HTTP/1.1\r\nHost: localhost")
    head = raw(server, f"HEAD {path} HTTP/1.1\r\nHost: localhost")
    assert head.splitlines()[0] == got.splitlines()[0]
    assert head.endswith(b"\r\n\r\n")
    length = [line for line in head.lower().splitlines() if line.startswith(b"content-length")]
    if path != "/metrics":  # which counts the request itself
        assert length == [line for line in got.lower().splitlines() if line.startswith(b"content-length")]


def test_head_of_an_image_is_answered(server: Running) -> None:
    id = draw(server.url).body["data"][0]["id"]
    assert raw(server, f"HEAD /v1/images/files/{id} HTTP/1.1\r\nHost: localhost").startswith(b"HTTP/1.1 200")
    assert raw(server, "HEAD /v1/images/generations HTTP/1.1\r\nHost: localhost").startswith(b"HTTP/1.1 405")
    assert b'route="/v1/images/files/{id}"' in server.metrics.text()


@contextmanager
def with_keys(tiny: TinyModels, tmp_path: Path) -> Iterator[Running]:
    (tmp_path / "keys").write_text(f"\ufeff{hashed('secret')} a name\n", encoding="utf-8")
    with running(tiny, keys_file=tmp_path / "keys") as server:
        yield server


def test_a_missing_key_is_asked_for(tiny: TinyModels, tmp_path: Path) -> None:
    with with_keys(tiny, tmp_path) as server:
        answer = raw(server, "GET /v1/models HTTP/1.1\r\nHost: localhost")
        assert answer.startswith(b"HTTP/1.1 401")
        assert b'www-authenticate: Bearer realm="fewstep"' in answer
        answer = raw(server, "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer secret")
        assert answer.startswith(b"HTTP/1.1 200")


# OpenAI's current names and answers


@pytest.mark.parametrize(
    "name", ["gpt-image-1", "gpt-image-1-mini", "gpt-image-2.6-x", "chatgpt-image-latest", "dall-e-3", "tiny"]
)
def test_living_names_lead_to_the_model(server: Running, name: str) -> None:
    answer = draw(server.url, model=name, response_format="b64_json")
    assert answer.body["model"] == "tiny"
    assert call(server.url, f"/v1/models/{name}").body["id"] == "tiny"


def test_any_name_is_taken_if_the_operator_allows_it(tiny: TinyModels, server: Running) -> None:
    assert refused(draw(server.url, model="flux"), 404)["code"] == "model_not_found"
    with running(tiny, aliases=("*",)) as open_minded:
        assert draw(open_minded.url, model="flux").body["model"] == "tiny"


def test_dall_e_is_answered_with_addresses_unless_files_are_asked_for(server: Running) -> None:
    (by_default,) = draw(server.url, model="dall-e-3").body["data"]
    assert by_default["b64_json"] is None
    assert by_default["url"].startswith(server.url)
    (asked,) = draw(server.url, model="dall-e-3", response_format="b64_json").body["data"]
    assert asked["url"] is None
    (other,) = draw(server.url, model="gpt-image-1").body["data"]
    assert other["url"] is None


@pytest.mark.parametrize(
    ("asked", "steps", "answered"),
    [("auto", 1, "low"), ("hd", 2, "medium"), (None, 4, "high"), ("low", 4, "low"), ("medium", 1, "medium")],
)
def test_quality_is_one_of_openais(server: Running, asked: str | None, steps: int, answered: str) -> None:
    assert draw(server.url, quality=asked, steps=steps).body["quality"] == answered


@pytest.mark.parametrize(("partials", "steps", "made"), [(1, None, 2), (3, None, 4), (3, 2, 2), (0, None, 1)])
def test_partial_images_are_made_by_enough_steps(
    server: Running, partials: int, steps: int | None, made: int
) -> None:
    events = streamed(server, {"prompt": "cat", "stream": True, "partial_images": partials, "steps": steps})
    *partial, completed = events
    assert completed["steps"] == made
    assert len(partial) == min(partials, made - 1)
    assert {event["quality"] for event in events} == {completed["quality"]}


def test_partial_images_stay_within_the_servers_steps(tiny: TinyModels) -> None:
    with running(tiny, max_steps=2) as server:
        *partial, completed = streamed(server, {"prompt": "cat", "stream": True, "partial_images": 3})
        assert (len(partial), completed["steps"]) == (1, 2)


def streamed(server: Running, body: dict[str, Any]) -> list[dict[str, Any]]:
    answer = posted(server, json.dumps(body).encode(), "application/json", "/v1/images/generations")
    return [json.loads(line[6:]) for line in answer.data.decode().splitlines() if line.startswith("data: ")]


def test_a_long_prompt_is_drawn_and_what_was_not_read_is_told(server: Running) -> None:
    prompt = "cat " * LENGTH + "dog " * 7_900
    answer = draw(server.url, prompt)
    (image,) = answer.body["data"]
    assert image["unread_prompt"] == ("dog " * 7_900).strip()
    assert image["nearest_captions"][0][0].startswith("cat")
    record = pictures.read_record(base64.b64decode(image["b64_json"]))
    assert record is not None
    assert record.unread_prompt == image["unread_prompt"]
    assert draw(server.url, "cat").body["data"][0]["unread_prompt"] == ""
