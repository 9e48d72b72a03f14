"""Spans by OTLP: a request's hangs on the caller's, its stages hang on it, all are sent before the end."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.testclient import TestClient

from fewstep.serving.engine.metrics import Metrics
from fewstep.serving.engine.tracing import Traces
from fewstep.serving.http.context import RequestContext
from servers import call, draw, environment, process
from tiny_models import TinyModels

STAGES = {"queue", "encode", "model", "sampler", "decode", "encode_image"}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector:
    """What was sent to /v1/traces."""

    def __init__(self) -> None:
        self.messages: list[ExportTraceServiceRequest] = []
        self.url = ""

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for message in self.messages
            for resource in message.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def services(self) -> set[str]:
        return {
            attribute.value.string_value
            for message in self.messages
            for resource in message.resource_spans
            for attribute in resource.resource.attributes
            if attribute.key == "service.name"
        }


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf":
                collector.messages.append(ExportTraceServiceRequest.FromString(data))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        collector.url = f"http://127.0.0.1:{server.server_port}"
        yield collector
        server.shutdown()


def attributes(span: Span) -> dict[str, Any]:
    return {each.key: getattr(each.value, str(each.value.WhichOneof("value"))) for each in span.attributes}


def test_a_request_is_a_span_of_its_callers_trace_with_a_span_for_each_stage(
    tiny: TinyModels, tmp_path: Path, collector: Collector
) -> None:
    # a minute until the next batch: what arrives was sent at the end
    late = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "60000"}
    with process(tiny, tmp_path, **late) as server:
        asked = {"prompt": "a secret rocket", "steps": 2}
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "mine"}
        assert call(server.url, "/v1/images/generations", asked, **headers).status == 200
        assert draw(server.url, n=0).status == 400
        assert collector.messages == []
        assert server.end() in (0, -15)
    assert collector.services == {"fewstep"}
    mine = [span for span in collector.spans if span.trace_id.hex() == TRACE]
    (request,) = [span for span in mine if span.kind == Span.SPAN_KIND_SERVER]
    assert request.parent_span_id.hex() == PARENT
    assert request.name == "POST /v1/images/generations"
    assert attributes(request) == {
        "http.request.method": "POST",
        "http.route": "/v1/images/generations",
        "http.response.status_code": 200,
        "fewstep.request_id": "mine",
    }
    (drawing,) = [span for span in mine if span.parent_span_id == request.span_id]
    assert (drawing.name, attributes(drawing)["fewstep.request_id"]) == ("generate_content tiny", "mine")
    assert drawing.end_time_unix_nano <= request.end_time_unix_nano
    stages = {span.name: span for span in mine if span not in (request, drawing)}
    assert set(stages) >= STAGES
    assert len(stages) == len(mine) - 2
    for stage in stages.values():
        assert stage.parent_span_id == drawing.span_id
        assert stage.start_time_unix_nano <= stage.end_time_unix_nano <= drawing.end_time_unix_nano
    (refused,) = [span for span in collector.spans if attributes(span).get("http.response.status_code") == 400]
    assert refused.trace_id.hex() != TRACE
    assert not refused.parent_span_id
    assert b"rocket" not in b"".join(message.SerializeToString() for message in collector.messages)


@pytest.mark.parametrize("status", [500, 503, 404])
def test_a_servers_mistake_is_a_spans_error(status: int) -> None:
    spans, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    app = Starlette()
    app.add_route("/images/{handle}", lambda request: Response(status_code=status))
    traced = RequestContext(app, Metrics(), Traces(provider.get_tracer("fewstep")))
    assert TestClient(traced).get("/images/secret", headers={"x-request-id": "mine"}).status_code == status
    (span,) = spans.get_finished_spans()
    told = {
        "http.request.method": "GET",
        "http.route": "/images/{handle}",
        "http.response.status_code": status,
        "fewstep.request_id": "mine",
    }
    assert dict(span.attributes or {}) == told | ({"error.type": str(status)} if status >= 500 else {})
    assert span.status.status_code is (StatusCode.ERROR if status >= 500 else StatusCode.UNSET)
    assert "secret" not in span.to_json()


def test_a_service_may_have_another_name(tiny: TinyModels, tmp_path: Path, collector: Collector) -> None:
    with process(
        tiny, tmp_path, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{collector.url}/v1/traces", OTEL_SERVICE_NAME="studio"
    ) as server:
        assert draw(server.url).status == 200
        assert server.end() in (0, -15)
    assert collector.services == {"studio"}


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_nothing_is_loaded_where_no_spans_are_wanted(variables: dict[str, str]) -> None:
    code = (
        "import sys; from fewstep.serving.engine.tracing import Traces; traces = Traces.from_environment()\n"
        "with traces.received('GET', {}) as span: assert span is None and traces.begin('draw', {}) is None\n"
        "traces.stages(None, {'queue': 1.0}); traces.close()\n"
        "sys.exit('opentelemetry.sdk' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], env=environment(**variables), timeout=60).returncode == 0


def test_an_endpoint_loads_what_sends_spans() -> None:
    code = (
        "import sys; from fewstep.serving.engine.tracing import Traces; Traces.from_environment()\n"
        "sys.exit('opentelemetry.sdk' not in sys.modules)"
    )
    env = environment(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    assert subprocess.run([sys.executable, "-c", code], env=env, timeout=60).returncode == 0
