"""The official MCP client against the server: over HTTP and stdio, in both of the protocol's eras."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from mcp import Client, StdioServerParameters
from PIL import Image

from servers import Running
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
    assert set(tools) == {"draw_image", "change_image", "list_models"}
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


def test_a_cancelled_call_frees_its_place(serve: Callable[..., Running]) -> None:
    server = serve()
    runtime = server.service.runtime
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
            while b"fewstep_cancelled_total 1.0" not in server.service.metrics.text():
                await asyncio.sleep(0.01)

    talk(server.url, "2026-07-28", drawing)


@pytest.mark.parametrize(
    ("tool", "arguments", "says"),
    [
        ("draw_image", {"prompt": "x", "size": "1x1"}, "between 8 and"),
        ("draw_image", {"prompt": "x", "size": "big"}, "size must be like 64x64"),
        ("draw_image", {"prompt": "x", "steps": 0}, "steps"),
        ("draw_image", {}, "prompt"),
        ("draw_image", {"prompt": "x" * 5000}, "prompt must have at most 4000 characters"),
        ("change_image", {"image_id": "nobody"}, "draw it again with draw_image"),
        ("change_image", {"prompt": "x"}, "give either image_id"),
        ("change_image", {"image": "http://127.0.0.1/x.png"}, "this server fetches no URLs"),
        (
            "change_image",
            {"image": "data:image/png;base64,AAAA", "region": [0, 0, 1, 1]},
            "no image that can be read",
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
