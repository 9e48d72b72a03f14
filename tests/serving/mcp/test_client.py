"""The official MCP client against the server: over HTTP and stdio, in both of the protocol's eras."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcp import Client, MCPError, StdioServerParameters
from PIL import Image

from fewstep.serving.engine.jobs import Recognition
from fewstep.serving.http.keys import hashed, new_key
from servers import Running, call, draw, environment
from tiny_models import SIDE, TinyModels, onnx

ERAS = ("2026-07-28", "legacy")


def talk(url: str, era: str, doing: Callable[[Client], Awaitable[Any]]) -> Any:
    async def conversation() -> Any:
        async with Client(f"{url}/mcp", mode=era) as client:
            return await doing(client)

    return asyncio.run(conversation())


def image_in(result: Any) -> Image.Image:
    (content,) = [part for part in result.content if part.type == "image"]
    return Image.open(io.BytesIO(base64.b64decode(content.data)))


@pytest.mark.parametrize("era", ERAS)
def test_a_drawing_is_an_image_a_structured_result_and_a_link(server: Running, tiny: TinyModels, era: str) -> None:
    async def drawing(client: Client) -> Any:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        result = await client.call_tool("draw_image", {"prompt": "red apple", "seed": 7})
        again = await client.read_resource(result.structured_content["uri"])
        return tools, result, again

    tools, result, again = talk(server.url, era, drawing)
    assert set(tools) == {"draw_image", "change_image", "draw_between", "list_models"}
    assert not result.is_error
    expected = onnx(tiny.student).generate("red apple", seed=7)
    assert np.abs(np.asarray(image_in(result)).astype(int) - np.asarray(expected)).max() <= 1
    told = result.structured_content
    assert (told["seed"], told["prompt"], told["size"], told["model"]) == (7, "red apple", f"{SIDE}x{SIDE}", "tiny")
    (text,) = [part.text for part in result.content if part.type == "text"]
    assert json.loads(text) == told
    (link,) = [part for part in result.content if part.type == "resource_link"]
    assert str(link.uri) == told["uri"]
    full = Image.open(io.BytesIO(base64.b64decode(again.contents[0].blob)))
    assert np.array_equal(np.asarray(full), np.asarray(image_in(result)))
    assert set(told) == set(tools["draw_image"].output_schema["properties"])


def test_tools_say_what_they_do_to_the_world(server: Running) -> None:
    tools = talk(server.url, "2026-07-28", lambda client: client.list_tools()).tools
    for tool in tools:
        assert tool.annotations.destructive_hint is False
        assert tool.annotations.open_world_hint is False
        assert tool.annotations.read_only_hint is (tool.name == "list_models")
        assert tool.description


@pytest.mark.parametrize("era", ERAS)
def test_an_image_is_changed_by_its_handle(server: Running, era: str) -> None:
    async def drawing(client: Client) -> Any:
        first = await client.call_tool("draw_image", {"prompt": "red apple", "seed": 7})
        handle = first.structured_content["image_id"]
        return first, await client.call_tool("change_image", {"image_id": handle, "seed": 8, "strength": 0.4})

    first, changed = talk(server.url, era, drawing)
    assert not changed.is_error
    assert changed.structured_content["prompt"] == "red apple"
    assert changed.structured_content["image_id"] != first.structured_content["image_id"]
    assert not np.array_equal(np.asarray(image_in(first)), np.asarray(image_in(changed)))


@pytest.mark.parametrize("era", ERAS)
def test_outside_a_region_an_image_stays_to_the_bit(server: Running, era: str) -> None:
    async def drawing(client: Client) -> Any:
        first = await client.call_tool("draw_image", {"prompt": "red apple", "seed": 7})
        handle = first.structured_content["image_id"]
        region = {"image_id": handle, "prompt": "dog face", "region": [0.5, 0.0, 1.0, 1.0]}
        return first, await client.call_tool("change_image", region)

    first, changed = (np.asarray(image_in(result)) for result in talk(server.url, era, drawing))
    assert np.array_equal(first[:, : SIDE // 2], changed[:, : SIDE // 2])
    assert not np.array_equal(first[:, SIDE // 2 :], changed[:, SIDE // 2 :])


def test_any_picture_can_be_changed(server: Running) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), "green").save(buffer, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    asked = {"image": url, "prompt": "red apple", "strength": 0.7}
    result = talk(server.url, "2026-07-28", lambda client: client.call_tool("change_image", asked))
    assert not result.is_error
    assert result.structured_content["prompt"] == "red apple"


def test_an_image_gets_colours_or_detail(server: Running) -> None:
    def changed(**asked: Any) -> Any:
        return talk(server.url, "2026-07-28", lambda client: client.call_tool("change_image", asked))

    buffer = io.BytesIO()
    grey = Image.radial_gradient("L").resize((8, 8))
    grey.save(buffer, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    coloured = image_in(changed(image=url, prompt="red apple", edit="colorize"))
    assert coloured.size == (8, 8)
    assert np.ptp(np.asarray(coloured)[..., :3].astype(int), axis=-1).max() > 0
    assert np.abs(np.asarray(coloured.convert("L")).astype(int) - np.asarray(grey)).max() <= 1
    assert image_in(changed(image=url, prompt="red apple", edit="super-resolve")).size == (SIDE, SIDE)


def test_an_image_goes_on_beyond_its_borders(server: Running) -> None:
    async def drawing(client: Client) -> Any:
        first = await client.call_tool("draw_image", {"prompt": "red apple", "seed": 7})
        asked = {"image_id": first.structured_content["image_id"], "margins": [0.5, 0, 0, 0.25]}
        return first, await client.call_tool("change_image", asked)

    first, wider = (image_in(result) for result in talk(server.url, "2026-07-28", drawing))
    assert wider.size == (SIDE * 3 // 2, SIDE * 5 // 4)
    assert np.array_equal(np.asarray(wider)[:SIDE, SIDE // 2 :], np.asarray(first))


def test_between_two_images_lies_another(server: Running) -> None:
    def drawn(tool: str, **asked: Any) -> Any:
        return talk(server.url, "2026-07-28", lambda client: client.call_tool(tool, asked))

    ends = [drawn("draw_image", prompt=prompt, seed=seed) for prompt, seed in (("red apple", 7), ("dog face", 8))]
    way = {"prompt": "red apple", "seed": 7, "to_prompt": "dog face", "to_seed": 8}
    first, middle, last = (drawn("draw_between", **way, position=position) for position in (0, 0.5, 1))
    for end, reached in zip(ends, (first, last), strict=True):
        assert np.array_equal(np.asarray(image_in(end)), np.asarray(image_in(reached)))
    assert not any(np.array_equal(np.asarray(image_in(end)), np.asarray(image_in(middle))) for end in ends)


def test_a_cancelled_call_frees_its_place(serve: Callable[..., Running]) -> None:
    server = serve()
    runtime = server.runtime
    network = runtime._batcher._network
    begun, go_on = threading.Event(), threading.Event()

    def slow(*arguments: Any) -> Any:
        begun.set()
        go_on.wait(10)
        return network(*arguments)

    runtime._batcher._network = slow

    async def drawing(client: Client) -> None:
        call = asyncio.ensure_future(client.call_tool("draw_image", {"prompt": "cat", "steps": 4}))
        await asyncio.to_thread(begun.wait, 10)
        call.cancel()
        async with asyncio.timeout(10):
            while not any(job.reason for job in runtime._running):
                await asyncio.sleep(0.01)
            go_on.set()
            while b"fewstep_cancelled_total 1.0" not in server.metrics.text():
                await asyncio.sleep(0.01)

    talk(server.url, "2026-07-28", drawing)


@pytest.mark.parametrize(
    ("tool", "arguments", "says"),
    [
        ("draw_image", {"prompt": "x", "size": "1x1"}, "between 8 and"),
        ("draw_image", {"prompt": "x", "size": "big"}, "size must be like 64x64"),
        ("draw_image", {"prompt": "x", "steps": 0}, "steps must be a whole number between 1 and 64, got 0"),
        ("draw_image", {"prompt": "x", "steps": 65}, "steps must be a whole number between 1 and 64, got 65"),
        (
            "draw_image",
            {"prompt": "x", "seed": -1},
            "seed must be a whole number between 0 and 9223372036854775807, got -1",
        ),
        ("draw_image", {"prompt": "x", "seed": True}, "seed must be a whole number between 0 and"),
        ("draw_image", {"prompt": "x", "steps": True}, "steps must be a whole number between 1 and 64"),
        ("draw_image", {}, "prompt is required"),
        ("draw_image", {"prompt": "x" * 33_000}, "prompt must have at most 32000 characters"),
        ("change_image", {"image_id": "nobody"}, "draw it again"),
        ("change_image", {"prompt": "x"}, "give either image_id"),
        ("change_image", {"prompt": "x", "region": [0, 0, 1]}, "region must have at least 4 entries"),
        ("change_image", {"image": "http://127.0.0.1/x.png"}, "this server fetches no URLs"),
        (
            "change_image",
            {"image_id": "x", "edit": "blur"},
            "edit must be one of colorize, super-resolve, denoise, got 'blur'",
        ),
        ("change_image", {"image_id": "x", "edit": "colorize", "region": [0, 0, 1, 1]}, "give only one of them"),
        (
            "change_image",
            {"image_id": "x", "margins": [0, 0, 0, 1], "strength": 0.5},
            "leave out strength, or margins",
        ),
        (
            "change_image",
            {"image_id": "x", "margins": [0, 0, 0, 3]},
            "margins.3 must be at most 2, got 3",
        ),
        ("draw_between", {"prompt": "x"}, "position needs an interpolation: give to_prompt or to_seed"),
        ("draw_between", {"prompt": "x", "to_seed": 1, "position": 2}, "position must be between 0 and 1, got 2"),
        (
            "change_image",
            {"image": "data:image/png;base64,AAAA", "region": [0, 0, 1, 1]},
            "not an image that can be read",
        ),
    ],
)
@pytest.mark.parametrize("era", ERAS)
def test_what_the_model_can_mend_is_a_result_that_says_how(
    server: Running, era: str, tool: str, arguments: dict[str, Any], says: str
) -> None:
    result = talk(server.url, era, lambda client: client.call_tool(tool, arguments))
    assert result.is_error
    assert says in result.content[0].text
    assert "pydantic" not in result.content[0].text


def test_the_schema_tells_the_limits(server: Running) -> None:
    tools = {tool.name: tool for tool in talk(server.url, ERAS[0], lambda client: client.list_tools()).tools}
    drawing, changing = (tools[name].input_schema["properties"] for name in ("draw_image", "change_image"))
    assert "between 8 and 2048" in drawing["size"]["description"]
    (region,) = [option for option in changing["region"]["anyOf"] if option["type"] == "array"]
    assert (region["minItems"], region["maxItems"], region["items"]["maximum"]) == (4, 4, 1)


@pytest.mark.parametrize("era", ERAS)
def test_a_large_image_is_shown_small_and_read_whole(server: Running, era: str) -> None:
    async def drawing(client: Client) -> Any:
        result = await client.call_tool("draw_image", {"prompt": "red apple", "size": "640x480"})
        return result, await client.read_resource(result.structured_content["uri"])

    result, whole = talk(server.url, era, drawing)
    assert result.structured_content["size"] == "640x480"
    assert image_in(result).size == (512, 384)
    assert Image.open(io.BytesIO(base64.b64decode(whole.contents[0].blob))).size == (640, 480)


def test_size_may_be_auto(server: Running) -> None:
    asked = {"prompt": "red apple", "size": "auto"}
    result = talk(server.url, ERAS[0], lambda client: client.call_tool("draw_image", asked))
    assert result.structured_content["size"] == f"{SIDE}x{SIDE}"


def test_the_recognisers_word_is_told(serve: Callable[..., Running]) -> None:
    server = serve()
    server.runtime._recognise = lambda pixels: [Recognition("banana", 0.75)] * len(pixels)
    result = talk(server.url, ERAS[0], lambda client: client.call_tool("draw_image", {"prompt": "red apple"}))
    told = result.structured_content
    assert (told["recognised_as"], told["confidence"]) == ("banana", 0.75)


def test_an_image_is_changed_by_its_uri(server: Running) -> None:
    async def drawing(client: Client) -> Any:
        first = await client.call_tool("draw_image", {"prompt": "red apple"})
        return await client.call_tool("change_image", {"image_id": first.structured_content["uri"]})

    assert not talk(server.url, ERAS[0], drawing).is_error


@pytest.mark.parametrize("era", ERAS)
def test_an_image_of_another_format_is_read_as_png(server: Running, era: str) -> None:
    handle = draw(server.url, output_format="webp").body["data"][0]["id"]
    read = talk(server.url, era, lambda client: client.read_resource(f"fewstep://images/{handle}"))
    assert read.contents[0].mime_type == "image/png"
    assert Image.open(io.BytesIO(base64.b64decode(read.contents[0].blob))).format == "PNG"


@pytest.mark.parametrize("era", ERAS)
def test_reading_an_image_that_is_gone_says_so(server: Running, caplog: pytest.LogCaptureFixture, era: str) -> None:
    async def reading(client: Client) -> None:
        with pytest.raises(MCPError, match="there is no image 'nobody', or not any more"):
            await client.read_resource("fewstep://images/nobody")

    talk(server.url, era, reading)
    assert not [record for record in caplog.records if record.exc_info]


def test_clients_take_turns_here_too(serve: Callable[..., Running], tmp_path: Path) -> None:
    (first, kept), (second, also_kept) = new_key(), new_key()
    (tmp_path / "keys").write_text(f"{kept}\n{also_kept}\n", encoding="utf-8")
    server, seen = serve(keys_file=tmp_path / "keys"), []
    submit = server.runtime.submit

    def noted(job: Any) -> None:
        seen.append(job.client)
        submit(job)

    server.runtime.submit = noted
    init = {"name": "draw_image", "arguments": {"prompt": "cat"}}
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": init}
    for key in (first, second):
        headers = {"accept": "application/json, text/event-stream", "authorization": f"Bearer {key}"}
        assert call(server.url, "/mcp", asked, **headers).status == 200
    assert seen == [hashed(first)[:16], hashed(second)[:16]]


@pytest.mark.parametrize("era", ERAS)
def test_progress_rises_and_says_what_is_done(server: Running, era: str) -> None:
    heard: list[tuple[float, float | None, str | None]] = []

    async def listen(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, total, message))

    talk(
        server.url,
        era,
        lambda client: client.call_tool("draw_image", {"prompt": "cat", "steps": 4}, progress_callback=listen),
    )
    assert heard == [(float(i), 4.0, f"step {i} of 4") for i in (1, 2, 3)]


def test_list_models_says_what_is_known(server: Running) -> None:
    result = talk(server.url, "2026-07-28", lambda client: client.call_tool("list_models", {}))
    (model,) = result.structured_content["models"]
    assert model["name"] == "tiny"
    assert "red apple" in model["examples"]


@pytest.mark.parametrize("era", ERAS)
def test_stdio_carries_the_protocol_alone(tiny: TinyModels, era: str) -> None:
    command = StdioServerParameters(
        command=sys.executable, args=["-m", "fewstep", "mcp", "--model", str(tiny.student.directory)]
    )

    async def conversation() -> Any:
        async with Client(command, mode=era) as client:
            return await client.call_tool("draw_image", {"prompt": "red apple", "seed": 7})

    result = asyncio.run(conversation())
    assert not result.is_error
    assert image_in(result).size == (SIDE, SIDE)


@pytest.mark.parametrize("terminal", [True, False])
def test_ctrl_c_ends_it_at_once(tiny: TinyModels, terminal: bool) -> None:
    ours, its = pty.openpty() if terminal else os.pipe()[::-1]
    arguments = [sys.executable, "-m", "fewstep", "mcp", "--model", str(tiny.student.directory)]
    with subprocess.Popen(
        arguments, env=environment(), stdin=its, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
        os.write(ours, json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}).encode())
        os.write(ours, b"\n")
        assert process.stdout is not None
        assert b"serverInfo" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(10) == 130
        finally:
            process.kill()
        assert process.communicate() == (b"", b"")
    os.close(ours)
    os.close(its)


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("HOST", "0.0.0.0", "listening at 0.0.0.0"),
        ("MAX_WAITING", "-1", "FEWSTEP_SERVE_MAX_WAITING"),
        ("HOSTS", "x", "JSON"),
    ],
)
def test_a_wrong_environment_is_one_line(variable: str, value: str, says: str) -> None:
    environ = environment(**{f"FEWSTEP_SERVE_{variable}": value})
    done = subprocess.run(
        [sys.executable, "-m", "fewstep", "mcp"], env=environ, input="", capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert says in line
