"""OpenTelemetry: a span for each request, one for each of its stages; sent by OTLP if the environment asks for it.

OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME and their kin are read by OpenTelemetry's SDK, as everywhere. Without
an endpoint nothing is loaded and nothing is recorded.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def wanted() -> bool:
    """Whether the environment asks for spans."""
    given = os.environ
    off = given.get("OTEL_SDK_DISABLED", "").lower() == "true" or given.get("OTEL_TRACES_EXPORTER") == "none"
    return not off and any(given.get(name) for name in _ENDPOINTS)


class Traces:
    """The spans of one server; nothing where they are not wanted.

    Args:
        tracer: makes them, or None.
        provider: what sends them in the end.
    """

    def __init__(self, tracer: Tracer | None = None, provider: Any = None) -> None:
        self._tracer, self._provider = tracer, provider

    @classmethod
    def from_environment(cls) -> Traces:
        """Spans to where the environment says, for the whole process: the MCP SDK makes some too."""
        if not wanted():
            return cls()
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        resource = Resource.create()
        if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
            resource = resource.merge(Resource({"service.name": "fewstep"}))
        provider = TracerProvider(resource=resource)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(provider)
        return cls(provider.get_tracer("fewstep"), provider)

    @contextmanager
    def request(self, method: str, headers: Mapping[str, str]) -> Iterator[Span | None]:
        """A span around a request; the caller's `traceparent` is its parent."""
        if self._tracer is None:
            yield None
            return
        from opentelemetry import propagate
        from opentelemetry.trace import SpanKind

        parent = propagate.extract(headers)
        with self._tracer.start_as_current_span(method, parent, SpanKind.SERVER) as span:
            yield span

    def here(self) -> Context | None:
        """What `stages` of the running request hang on."""
        if self._tracer is None:
            return None
        from opentelemetry import context

        return context.get_current()

    def stages(self, parent: Context | None, timings: Mapping[str, float]) -> None:
        """A span for each stage that just ended, milliseconds by name.

        A stage's time is the sum over all jumps, so the spans lie end to end in the order of the mapping.
        """
        if self._tracer is None:
            return
        start = time.time_ns() - int(1e6 * sum(timings.values()))
        for name, milliseconds in timings.items():
            end = start + int(1e6 * milliseconds)
            self._tracer.start_span(name, parent, start_time=start).end(end)
            start = end

    def close(self) -> None:
        """Send what is left."""
        if self._provider is not None:
            self._provider.shutdown()


def answered(span: Span, method: str, route: str | None, status: int) -> None:
    """Tell a request's span what came of it, by OpenTelemetry's names; an answer of 500 and above is an error.

    Paths are no part of it: they hold the ids of images.
    """
    from opentelemetry.trace import StatusCode

    span.set_attribute("http.request.method", method)
    if route is not None:
        span.update_name(f"{method} {route}")
        span.set_attribute("http.route", route)
    if status:
        span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_attribute("error.type", str(status))
        span.set_status(StatusCode.ERROR)
