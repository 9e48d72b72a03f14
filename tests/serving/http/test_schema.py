"""/openapi.json against the server that publishes it: whatever is sent by it, the answers are as it says."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from fewstep.serving.http.a1111_lists import _LISTS
from picture_cases import encoded, gradient
from servers import Running, call, running
from tiny_models import TinyModels

OPERATIONS = (
    "GET /admin/models",
    "GET /healthz",
    "GET /metrics",
    "GET /readyz",
    *(f"GET /sdapi/v1/{name}" for name in ("memory", "options", "progress", "samplers", "sd-models")),
    "GET /v1/images/files/{id}",
    "GET /v1/live",
    "GET /v1/models",
    "GET /v1/models/{name}",
    "POST /admin/models/reload",
    *(f"POST /sdapi/v1/{name}" for name in ("img2img", "interrupt", "options", "png-info", "txt2img")),
    "POST /v1/images/edits",
    "POST /v1/images/generations",
    "POST /v1/images/variations",
    "POST /v1/live",
)
CONSTANT = {f"GET /sdapi/v1/{name}" for name in _LISTS} | {
    "POST /sdapi/v1/refresh-checkpoints",
    "POST /sdapi/v1/skip",
}
"""Operations that answer the same whatever they are asked."""

FEW = settings(
    max_examples=100,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def small(tiny: TinyModels) -> Iterator[Running]:
    """A server whose requests are short."""
    with running(tiny, max_steps=3, max_images=2, max_pixels=10_000) as server:
        yield server


@pytest.fixture(scope="module")
def published(small: Running) -> BaseSchema:
    return schemathesis.openapi.from_url(f"{small.url}/openapi.json")


@pytest.fixture(scope="module")
def document(small: Running) -> Any:
    return call(small.url, "/openapi.json").body


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def schemas(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        if isinstance(value.get("schema"), dict):
            yield value["schema"]
        for each in value.values():
            yield from schemas(each)


def test_the_document_names_every_operation_and_resolves(document: Any) -> None:
    named = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    assert named == set(OPERATIONS) | CONSTANT
    for reference in references(document):
        found = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
    for schema in schemas(document["paths"]):
        Draft202012Validator.check_schema(schema)
    assert "$defs" not in json.dumps(document)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        *((name, GenerationMode.POSITIVE) for name in OPERATIONS),
        *(
            (name, GenerationMode.NEGATIVE)
            for name in OPERATIONS
            # any bytes fit a frame's schema, and some operations take no body
            if name.startswith("POST") and not name.endswith(("/v1/live", "/reload", "/interrupt"))
        ),
    ],
    ids=lambda value: getattr(value, "value", value),
)
def test_every_answer_is_as_published(published: BaseSchema, name: str, mode: GenerationMode) -> None:
    method, path = name.split()
    operation = published[path][method]

    @FEW
    @given(case=operation.as_strategy(mode), whole=st.booleans())
    def answers(case: schemathesis.Case, whole: bool) -> None:
        if whole and isinstance(case.body, dict) and "image" in case.body:
            file = encoded(gradient())
            case.body["image"] = base64.b64encode(file).decode() if path.startswith("/sdapi/") else file
        response = case.call(timeout=60)
        case.validate_response(response, checks=CHECKS)
        if response.status_code >= 300:
            also = {"detail", "errors"} if path.startswith("/sdapi/") else set()
            assert set(response.json()) == {"error", *also}
            assert set(response.json()["error"]) == {"message", "type", "param", "code"}
        statuses.append(response.status_code)

    statuses: list[int] = []
    answers()
    if mode is GenerationMode.POSITIVE and "{" not in path:
        assert 200 in statuses


def test_a_strength_next_to_nothing_is_one(small: Running) -> None:
    url = f"data:image/png;base64,{base64.b64encode(encoded(gradient())).decode()}"
    body = {"images": [{"image_url": url}], "prompt": "cat", "strength": 1e-300}
    assert call(small.url, "/v1/images/edits", body).status == 200
