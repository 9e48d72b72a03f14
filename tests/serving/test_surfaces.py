"""One request means the same on every surface: its pixels, the ids of its images, and what is told of it."""

from __future__ import annotations

import asyncio
import base64
import http.client
import io
import json
import logging
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from PIL import Image
from websockets.sync.client import connect

from fewstep.cli.main import main
from fewstep.pictures import read_record
from fewstep.serving.engine.tracing import Traces
from fewstep.serving.http.keys import new_key
from fewstep.serving.http.live import packed, unpacked
from fewstep.serving.http.security import KEY_PROTOCOL, PROTOCOL
from servers import Running, call
from tiny_models import TinyModels, onnx

PROMPT = "red apple"
FIELDS: dict[str, Any] = {"prompt": PROMPT, "seed": 7, "steps": 3, "size": "40x24"}
STAGES = {"queue", "encode", "model", "sampler", "decode", "recognise", "encode_image"}


def authorization(key: str | None) -> dict[str, str]:
    return {} if key is None else {"authorization": f"Bearer {key}"}


# Each draws on one surface and gives the image's file and its id there. The last argument is an API key.


def http_b64(server: Running, fields: dict[str, Any], key: str | None = None) -> tuple[bytes, str]:
    answer = call(server.url, "/v1/images/generations", fields, **authorization(key))
    (image,) = answer.body["data"]
    return base64.b64decode(image["b64_json"]), image["id"]


def http_url(server: Running, fields: dict[str, Any], key: str | None = None) -> tuple[bytes, str]:
    asked = {**fields, "response_format": "url"}
    (image,) = call(server.url, "/v1/images/generations", asked, **authorization(key)).body["data"]
    with urllib.request.urlopen(image["url"]) as answer:
        return answer.read(), image["url"].rpartition("/")[2].partition("?")[0]


def http_stream(server: Running, fields: dict[str, Any], key: str | None = None) -> tuple[bytes, str]:
    asked = {**fields, "stream": True, "partial_images": 1}
    answer = call(server.url, "/v1/images/generations", asked, **authorization(key))
    events = [json.loads(line[6:]) for line in answer.data.decode().splitlines() if line.startswith("data: ")]
    return base64.b64decode(events[-1]["b64_json"]), events[-1]["id"]


def live_socket(server: Running, fields: dict[str, Any], key: str | None = None) -> tuple[bytes, str]:
    protocols = [PROTOCOL] if key is None else [PROTOCOL, f"{KEY_PROTOCOL}{key}"]
    with connect(f"{server.url.replace('http', 'ws')}/v1/live", subprotocols=protocols) as wire:
        wire.send(packed({"seq": 1, **fields}))
        answer = wire.recv(timeout=30)
    assert isinstance(answer, bytes)
    return in_frame(answer)


def live_post(server: Running, fields: dict[str, Any], key: str | None = None) -> tuple[bytes, str]:
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    connection.request("POST", "/v1/live", packed({"seq": 1, **fields}), authorization(key))
    return in_frame(connection.getresponse().read())


def in_frame(frame: bytes) -> tuple[bytes, str]:
    head, data = unpacked(frame)
    (part,) = head["parts"]
    return bytes(data), part["id"]


def mcp(server: Running, fields: dict[str, Any], key: str | None = None) -> tuple[bytes, str]:
    answer = mcp_call(server, "draw_image", fields, key)
    (content,) = [part for part in answer["content"] if part["type"] == "image"]
    return base64.b64decode(content["data"]), answer["structuredContent"]["image_id"]


def mcp_call(server: Running, tool: str, arguments: dict[str, Any], key: str | None = None) -> Any:
    params = {"name": tool, "arguments": arguments}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    headers = {"accept": "application/json, text/event-stream", **authorization(key)}
    answer = call(server.url, "/mcp", body, **headers)
    events = [json.loads(line[6:]) for line in answer.data.decode().splitlines() if line.startswith("data: ")]
    return events[-1]["result"]


SURFACES = (http_b64, http_url, http_stream, live_socket, live_post, mcp)
SERVED_AS = {
    http_b64: "http",
    http_url: "http",
    http_stream: "http",
    live_socket: "live",
    live_post: "live",
    mcp: "mcp",
}
Surface = Callable[..., tuple[bytes, str]]
on_every_surface = pytest.mark.parametrize("surface", SURFACES)


def pixels(file: bytes | Path) -> tuple[str, tuple[int, int], bytes]:
    with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
        return image.mode, image.size, image.tobytes()


@pytest.fixture(scope="module")
def expected(tiny: TinyModels) -> tuple[str, tuple[int, int], bytes]:
    """What Python draws."""
    image = onnx(tiny.student).generate(PROMPT, seed=7, steps=3, size=(40, 24))
    return image.mode, image.size, image.tobytes()


@on_every_surface
def test_a_request_gives_the_pixels_that_python_draws(server: Running, expected: Any, surface: Surface) -> None:
    file, _ = surface(server, FIELDS)
    assert pixels(file) == expected


def test_the_command_line_gives_the_pixels_that_python_draws(tiny: TinyModels, tmp_path: Path, expected: Any) -> None:
    out = tmp_path / "apple.png"
    chosen = ["--seed", "7", "--steps", "3", "--size", "40x24", "--model", str(tiny.student.directory)]
    with pytest.raises(SystemExit, match="0"):
        main(["generate", PROMPT, *chosen, "--out", str(out)])
    assert pixels(out) == expected


@on_every_surface
def test_an_image_goes_by_the_id_of_its_record_and_every_surface_finds_it(server: Running, surface: Surface) -> None:
    file, id = surface(server, FIELDS)
    record = read_record(file)
    assert record is not None
    assert id == record.id
    assert call(server.url, f"/v1/images/files/{id}").data == file

    def child(answer: bytes) -> tuple[str, ...]:
        made = read_record(answer)
        assert made is not None
        return tuple(made.parents)

    for name in (id, f"fewstep://images/{id}"):
        edited = call(server.url, "/v1/images/edits", {"images": [{"file_id": name}], "prompt": "cat"})
        assert child(base64.b64decode(edited.body["data"][0]["b64_json"])) == (id,)
        changed = mcp_call(server, "change_image", {"image_id": name})
        (content,) = [part for part in changed["content"] if part["type"] == "image"]
        assert child(base64.b64decode(content["data"])) == (id,)

    async def resource() -> bytes:
        async with Client(f"{server.url}/mcp") as client:
            (contents,) = (await client.read_resource(f"fewstep://images/{id}")).contents
            return base64.b64decode(contents.blob)

    assert asyncio.run(resource()) == file


@on_every_surface
def test_an_image_is_its_owners_alone_but_for_a_signed_address(
    serve: Callable[..., Running], tmp_path: Path, surface: Surface
) -> None:
    (ours, kept), (theirs, also_kept) = new_key(), new_key()
    (tmp_path / "keys").write_text(f"{kept}\n{also_kept}\n", encoding="utf-8")
    server = serve(keys_file=tmp_path / "keys")
    _, id = surface(server, FIELDS, ours)
    body = {"images": [{"file_id": id}], "prompt": "cat"}
    for key, status in ((ours, 200), (theirs, 404)):
        assert call(server.url, f"/v1/images/files/{id}", **authorization(key)).status == status
        assert call(server.url, "/v1/images/edits", body, **authorization(key)).status == status
        assert mcp_call(server, "change_image", {"image_id": id}, key)["isError"] is (status == 404)
    for unsigned in (id, f"{id}?signature=", f"{id}?signature={'0' * 32}"):
        assert call(server.url, f"/v1/images/files/{unsigned}").status == 404


def test_a_live_canvas_leaves_room_for_the_images_of_others(serve: Callable[..., Running]) -> None:
    server = serve(keep_images=40)
    _, promised = http_b64(server, FIELDS)
    ids = []
    with connect(f"{server.url.replace('http', 'ws')}/v1/live", subprotocols=[PROTOCOL]) as wire:
        for frame in range(60):
            wire.send(packed({"seq": frame, "prompt": PROMPT}))
            answer = wire.recv(timeout=30)
            assert isinstance(answer, bytes)
            ids.append(in_frame(answer)[1])
    found = [call(server.url, f"/v1/images/files/{id}").status == 200 for id in (promised, *ids)]
    assert found == [True] + [False] * 28 + [True] * 32


@on_every_surface
@pytest.mark.parametrize("logged", [True, False])
def test_prompts_are_logged_where_they_shall_be_and_nowhere_else(
    serve: Callable[..., Running], caplog: pytest.LogCaptureFixture, surface: Surface, logged: bool
) -> None:
    server = serve(log_prompts=logged)
    with caplog.at_level(logging.INFO, "fewstep.serving"):
        surface(server, FIELDS)
    (line,) = [record.getMessage() for record in caplog.records if record.getMessage().startswith("drawing ")]
    assert line.startswith(f"drawing {SERVED_AS[surface]}: ok after ")
    assert line.endswith(f" prompt='{PROMPT}'") is logged
    assert (PROMPT in caplog.text) is logged


@pytest.fixture
def traced(serve: Callable[..., Running], monkeypatch: pytest.MonkeyPatch) -> tuple[Running, InMemorySpanExporter]:
    """A server and the spans it made."""
    spans, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr("servers.Traces", lambda: Traces(provider.get_tracer("fewstep")))
    return serve(), spans


@on_every_surface
def test_a_request_is_a_span_with_one_for_each_stage(
    traced: tuple[Running, InMemorySpanExporter], surface: Surface
) -> None:
    server, exporter = traced
    surface(server, FIELDS)
    spans = exporter.get_finished_spans()
    (request,) = [span for span in spans if span.name.startswith("generate_content")]
    assert request.name == "generate_content tiny"
    told = dict(request.attributes or {})
    told.pop("fewstep.request_id")
    assert told == {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.output.type": "image",
        "gen_ai.request.model": "tiny",
        "gen_ai.request.seed": 7,
        "gen_ai.request.choice.count": 1,
        "fewstep.surface": SERVED_AS[surface],
        "fewstep.outcome": "ok",
    }
    assert request.context is not None
    stages = [span for span in spans if span.parent is not None and span.parent.span_id == request.context.span_id]
    assert {span.name for span in stages} == STAGES
    assert len(stages) == len(STAGES)
    assert all("apple" not in span.to_json() for span in spans)


@on_every_surface
def test_a_request_is_counted_with_how_it_ended(serve: Callable[..., Running], surface: Surface) -> None:
    server = serve()
    surface(server, FIELDS)
    with pytest.raises((KeyError, ValueError, IndexError)):  # there is no image in its answer
        surface(server, {**FIELDS, "prompt": "apple " * 6000})
    text = server.metrics.text().decode()
    for outcome in ("ok", "invalid"):
        labels = f'outcome="{outcome}",surface="{SERVED_AS[surface]}"'
        assert f"fewstep_request_seconds_count{{{labels}}} 1.0" in text
    for stage in STAGES - {"encode"}:
        assert f'fewstep_stage_seconds_count{{stage="{stage}"}} 1.0' in text


@pytest.mark.parametrize(
    ("surface", "fields"),
    [
        (http_b64, {"prompt": PROMPT, "seed": list(range(20_000))}),
        (http_b64, {"prompt": 3}),
        (live_socket, {"seq": -1}),
        (live_post, {"seq": -1}),
        (mcp, {}),
    ],
)
def test_a_message_that_cannot_be_read_is_counted_too(
    serve: Callable[..., Running], caplog: pytest.LogCaptureFixture, surface: Surface, fields: dict[str, Any]
) -> None:
    server = serve()
    with pytest.raises((KeyError, ValueError)):  # there is no image in its answer
        surface(server, fields)
    labels = f'outcome="invalid",surface="{SERVED_AS[surface]}"'
    assert f"fewstep_request_seconds_count{{{labels}}} 1.0" in server.metrics.text().decode()
    assert not [record for record in caplog.records if record.exc_info]
