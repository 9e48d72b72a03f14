"""Every field of the table on every surface: it arrives, its bounds hold, and the schema that is published says so."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from mcp import Client

from fewstep.editing.fields import Field
from fewstep.generation.request import FIELDS, fields_of
from fewstep.lab.field_table import field_table
from fewstep.serving.engine.limits import Limits
from fewstep.serving.http.live import packed, unpacked
from fewstep.serving.mcp.tools import tool_schema
from fewstep.serving.settings import ServeSettings
from picture_cases import encoded
from request_fields import NEEDS, OTHER, arrived, at_bounds, is_image, outside, picture, recording
from servers import Running, call, connect, form, receive, running
from tiny_models import TinyModels

LIMITS = {"max_images": 3, "max_steps": 20, "max_prompt": 50}
FILE = encoded(picture().convert("RGB"))
URL = f"data:image/png;base64,{base64.b64encode(FILE).decode()}"


@pytest.fixture(scope="module")
def server(tiny: TinyModels) -> Iterator[Running]:
    with running(tiny, **LIMITS) as server:
        yield server


# Each sends fields by their public names on one surface, and gives the words of the answer.


def generations(server: Running, fields: dict[str, Any]) -> str:
    return json.dumps(call(server.url, "/v1/images/generations", {"prompt": "x", **fields}).body)


def edits(server: Running, fields: dict[str, Any]) -> str:
    return json.dumps(call(server.url, "/v1/images/edits", {"images": [{"image_url": URL}], **fields}).body)


def edits_form(server: Running, fields: dict[str, Any]) -> str:
    texts = [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in fields.items()]
    return json.dumps(form(server.url, "/v1/images/edits", *texts, ("image", FILE)).body)


def variations(server: Running, fields: dict[str, Any]) -> str:
    return json.dumps(call(server.url, "/v1/images/variations", {"images": [{"image_url": URL}], **fields}).body)


def live(server: Running, fields: dict[str, Any]) -> str:
    part = {"name": "image", "bytes": len(FILE)}
    frame = packed({"seq": 1, "parts": [part], **fields}, [FILE])
    connection = connect(server.url)
    connection.request("POST", "/v1/live", frame)
    return json.dumps(unpacked(receive(connection).data)[0])


def tool(name: str, **given: Any) -> Callable[[Running, dict[str, Any]], str]:
    def send(server: Running, fields: dict[str, Any]) -> str:
        async def talk() -> str:
            async with Client(f"{server.url}/mcp") as client:
                return str((await client.call_tool(name, {**given, **fields})).content[0].text)

        return asyncio.run(talk())

    return send


SURFACES: dict[str, tuple[Callable[[Running, dict[str, Any]], str], tuple[Any, ...]]] = {
    "generations": (generations, ("http", "draw", "interpolate")),
    "edits": (edits, ("http", "draw", "edit")),
    "edits form": (edits_form, ("http", "draw", "edit")),
    "variations": (variations, ("http", "draw", "edit")),
    "live": (live, ("live", "draw", "edit")),
    "draw_image": (tool("draw_image", prompt="x"), ("mcp", "draw")),
    "draw_between": (tool("draw_between", prompt="x", to_seed=1), ("mcp", "draw", "interpolate")),
    "change_image": (tool("change_image", image=URL), ("mcp", "draw", "edit")),
}
IN_TOOLS = {"draw_between": {"n"}}  # a tool draws one image
CASES = [
    pytest.param(surface, field.name, id=f"{surface}-{field.name}")
    for surface, (_, carried) in SURFACES.items()
    for field in fields_of(*carried)
    if not is_image(field)
]


def needed(surface: str, field: str) -> dict[str, Any]:
    return {name: value for name, value in NEEDS.get(field, {}).items() if name not in IN_TOOLS.get(surface, ())}


def served(server: Running, surface: str, name: str) -> Field:
    """The field with the bounds of this server."""
    (field,) = [field for field in server.desk.limits.fields(*SURFACES[surface][1]) if field.name == name]
    return field


@pytest.mark.parametrize(("surface", "name"), CASES)
def test_a_field_arrives_from_every_surface(server: Running, surface: str, name: str) -> None:
    send, field = SURFACES[surface][0], FIELDS[name]
    extra = {"control": URL} if name.startswith("control_") else {}
    with recording(server.desk.host.model) as requests:
        said = send(server, {**needed(surface, name), **extra, field.public: OTHER[name]})
    assert [arrived(request, field) for request in requests] == [OTHER[name]], said


@pytest.mark.parametrize("surface", ["generations", "edits", "edits form", "variations", "live"])
def test_a_sketch_arrives_from_every_surface(server: Running, surface: str) -> None:
    with recording(server.desk.host.model) as requests:
        SURFACES[surface][0](server, {"control": URL})
    assert [request.control.size for request in requests if request.control is not None] == [picture().size]


@pytest.mark.parametrize(("surface", "name"), CASES)
def test_a_bound_holds_and_just_beyond_it_is_refused(server: Running, surface: str, name: str) -> None:
    send, field = SURFACES[surface][0], served(server, surface, name)
    extra = {"control": URL} if name.startswith("control_") else {}
    for value in at_bounds(field):
        with recording(server.desk.host.model) as requests:
            said = send(server, {**needed(surface, name), **extra, field.public: value})
        assert requests or "needs a model" in said, (value, said)  # which samplers there are is one thing
    for value in outside(field):
        if surface == "edits form" and value == "":
            continue  # an empty field of a form is left out
        with recording(server.desk.host.model) as requests:
            said = send(server, {**needed(surface, name), **extra, field.public: value})
        assert not requests, value
        assert f"{field.public} must " in said or f"{field.public}: " in said


@pytest.mark.parametrize("surface", [name for name in SURFACES if name != "edits form"])
def test_null_leaves_out_whatever_may_be_left_out(server: Running, surface: str) -> None:
    send, carried = SURFACES[surface]
    optional = [field.public for field in fields_of(*carried) if field.name not in ("prompt", "to_seed")]
    with recording(server.desk.host.model) as requests:
        said = send(server, dict.fromkeys(optional))
    (request,) = requests or pytest.fail(said)
    assert (request.images, request.steps, request.background, request.control_frame) == (1, None, None, True)


def published(server: Running) -> dict[str, Any]:
    """Every schema that a server publishes, by where it is."""
    document = call(server.url, "/openapi.json").body
    found = {f"component {name}": schema for name, schema in document["components"]["schemas"].items()}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            for kind, content in operation.get("requestBody", {}).get("content", {}).items():
                found[f"{method} {path} {kind}"] = content["schema"]

    async def tools() -> Any:
        async with Client(f"{server.url}/mcp") as client:
            return (await client.list_tools()).tools

    for each in asyncio.run(tools()):
        found[f"{each.name} input"] = each.input_schema
        found[f"{each.name} output"] = each.output_schema
    limits = server.desk.limits
    found["openai"] = tool_schema("openai", limits)["function"]["parameters"]
    found["anthropic"] = tool_schema("anthropic", limits)["input_schema"]
    return found


BODIES = {
    "post /v1/images/generations application/json": "generations",
    "post /v1/images/edits application/json": "edits",
    "post /v1/images/edits multipart/form-data": "edits form",
    "post /v1/images/variations application/json": "variations",
    "post /v1/images/variations multipart/form-data": "edits form",
    "draw_image input": "draw_image",
    "draw_between input": "draw_between",
    "change_image input": "change_image",
    "openai": "draw_image",
    "anthropic": "draw_image",
}
ANNOTATIONS = {"title", "description", "default", "format", "$defs", "$schema", "contentMediaType", "deprecated"}


def unknown_keywords(schema: Any) -> Iterator[str]:
    """Keywords that JSON Schema does not have: a validator would pass over them in silence."""
    if not isinstance(schema, dict):
        return
    yield from schema.keys() - Draft202012Validator.VALIDATORS.keys() - ANNOTATIONS
    for keyword, value in schema.items():
        if keyword in ("properties", "$defs"):
            for part in value.values():
                yield from unknown_keywords(part)
        elif keyword in ("anyOf", "oneOf", "allOf", "prefixItems"):
            for part in value:
                yield from unknown_keywords(part)
        elif keyword in ("items", "additionalProperties", "not"):
            yield from unknown_keywords(value)


def test_every_published_schema_is_json_schema_and_nothing_else(server: Running) -> None:
    schemas = published(server)
    assert schemas.keys() > BODIES.keys()
    for name, schema in schemas.items():
        Draft202012Validator.check_schema(schema)
        assert list(unknown_keywords(schema)) == [], name


def test_an_unknown_keyword_would_be_found() -> None:
    assert list(unknown_keywords({"properties": {"n": {"anyOf": [{"type": "integer", "ge": 1}]}}})) == ["ge"]


def test_every_published_schema_has_the_bounds_of_its_server(server: Running) -> None:
    schemas = published(server)
    for name, surface in BODIES.items():
        carried = {field.public for field in fields_of(*SURFACES[surface][1]) if field.name != "mask"}
        assert carried <= schemas[name]["properties"].keys(), name
        for public in carried - {"control"}:
            (field,) = [f for f in server.desk.limits.fields(*SURFACES[surface][1]) if f.public == public]
            validator = Draft202012Validator(schemas[name]["properties"][public])
            assert [value for value in at_bounds(field) if not validator.is_valid(value)] == [], (name, public)
            assert [value for value in outside(field) if validator.is_valid(value)] == [], (name, public)


def test_every_published_schema_takes_null_for_what_may_be_left_out(server: Running) -> None:
    schemas = published(server)
    for name in BODIES.keys() - {"openai", "anthropic"}:
        for public in schemas[name]["properties"].keys() - set(schemas[name].get("required", ())) - {"image", "mask"}:
            assert Draft202012Validator(schemas[name]["properties"][public]).is_valid(None), (name, public)


def test_the_server_s_limits_are_in_the_tool_that_is_declared() -> None:
    limits = Limits(max_images=1, max_steps=8, max_pixels=10**6, max_prompt=99)
    for schema in (
        tool_schema("openai", limits)["function"]["parameters"],
        tool_schema("anthropic", limits)["input_schema"],
    ):
        assert schema["properties"]["steps"]["maximum"] == 8
        assert schema["properties"]["prompt"]["maxLength"] == 99


def test_the_table_of_the_docs_is_that_of_a_server() -> None:
    """After a change: print `field_table(ServeSettings().limits)` and paste it."""
    page = Path(__file__).parents[2] / "docs" / "serve.md"
    assert field_table(ServeSettings().limits) in page.read_text(encoding="utf-8")
