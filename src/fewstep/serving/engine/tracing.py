"""OpenTelemetry: a span for each image request and each of its stages, exported by OTLP.

OpenTelemetry's SDK reads OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME and the other standard variables. Without an
endpoint nothing is loaded and nothing is recorded.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def wanted() -> bool:
    """Whether the environment asks for spans."""
    given = os.environ
    off = given.get("OTEL_SDK_DISABLED", "").lower() == "true" or given.get("OTEL_TRACES_EXPORTER") == "none"
    return not off and any(given.get(name) for name in _ENDPOINTS)


class Traces:
    """The spans of one server; does nothing if tracing is off.

    Args:
        tracer: the tracer that makes spans, or None.
        provider: the provider that exports them.
    """

    def __init__(self, tracer: Tracer | None = None, provider: Any = None) -> None:
        self._tracer, self._provider = tracer, provider

    @classmethod
    def from_environment(cls) -> Traces:
        """Traces configured by the environment, for the whole process, since the MCP SDK makes spans too."""
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
    def received(self, name: str, carrier: Mapping[str, str]) -> Iterator[Span | None]:
        """A span around a client's message; its parent is the `traceparent` in the carrier, if there is one."""
        if self._tracer is None:
            yield None
            return
        from opentelemetry import propagate
        from opentelemetry.trace import SpanKind

        parent = propagate.extract(carrier)
        with self._tracer.start_as_current_span(name, parent, SpanKind.SERVER) as span:
            yield span

    def begin(self, name: str, attributes: Mapping[str, Any]) -> Span | None:
        """A child span of the current one, which the caller ends."""
        return None if self._tracer is None else self._tracer.start_span(name, attributes=dict(attributes))

    def stages(self, parent: Span | None, timings: Mapping[str, float]) -> None:
        """Record a span for each stage that just ended, from milliseconds by name.

        A stage's time is the sum over all steps, so the spans are placed end to end in the order of the mapping.
        """
        if self._tracer is None or parent is None:
            return
        from opentelemetry.trace import set_span_in_context

        context = set_span_in_context(parent)
        start = time.time_ns() - int(1e6 * sum(timings.values()))
        for name, milliseconds in timings.items():
            end = start + int(1e6 * milliseconds)
            self._tracer.start_span(name, context, start_time=start).end(end)
            start = end

    def close(self) -> None:
        """Export the remaining spans."""
        if self._provider is not None:
            self._provider.shutdown()
