"""Accounting of image requests in the log, the metrics and the traces, the same on every surface."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fewstep.generation import RequestError
from fewstep.generation.planning import Plan
from fewstep.serving.engine.errors import Busy, Cancelled, ShuttingDown, Superseded
from fewstep.serving.engine.metrics import Metrics
from fewstep.serving.engine.quotas import Quota
from fewstep.serving.engine.tracing import Traces

if TYPE_CHECKING:
    from opentelemetry.trace import Span

log = logging.getLogger("fewstep.serving")

_OUTCOMES: tuple[tuple[type[BaseException], str], ...] = (
    (RequestError, "invalid"),
    (Busy, "busy"),
    (Superseded, "superseded"),
    (Cancelled, "cancelled"),
    (asyncio.CancelledError, "cancelled"),
    (ShuttingDown, "closing"),
)


@dataclass(frozen=True)
class Caller:
    """The origin of a request for images.

    Args:
        surface: http, a1111, live or mcp.
        client: the client, for fair queueing.
        owner: owner of the images: the client's API key, hashed; empty if the server has no keys.
        session: session in which only the latest request counts, or None.
        request_id: id of the request in log lines and spans.
        arrived: time of arrival, by `time.perf_counter()`.
        quota: what the client may still ask for; None for no bound.
    """

    surface: str
    client: str
    owner: str = ""
    session: str | None = None
    request_id: str = ""
    arrived: float = field(default_factory=time.perf_counter)
    quota: Quota | None = None

    @property
    def session_key(self) -> str | None:
        """The session's key, unique among all clients."""
        return None if self.session is None else f"{self.client}/{self.session}"


class Accounting:
    """Opens an `Account` for each request.

    Args:
        metrics, traces: where requests are recorded.
        log_prompts: whether prompts may be logged; metrics and traces never contain them.
    """

    def __init__(self, metrics: Metrics, traces: Traces, log_prompts: bool) -> None:
        self.metrics, self.traces, self.log_prompts = metrics, traces, log_prompts

    def open(self, caller: Caller) -> Account:
        """Open an account for a request."""
        return Account(self.metrics, self.traces, self.log_prompts, caller)


class Account:
    """The account of one request, closed once."""

    def __init__(self, metrics: Metrics, traces: Traces, log_prompts: bool, caller: Caller) -> None:
        self._metrics, self._traces, self._log_prompts, self._caller = metrics, traces, log_prompts, caller
        self._prompt: str | None = None
        self._span: Span | None = traces.begin(
            "generate_content",  # OpenTelemetry's GenAI conventions have no name specific to images
            {
                "gen_ai.operation.name": "generate_content",
                "gen_ai.output.type": "image",
                "fewstep.surface": caller.surface,
                "fewstep.request_id": caller.request_id,
            },
        )

    def planned(self, plan: Plan, model: str) -> None:
        """Record that the request was planned."""
        self._prompt = plan.conditions.prompts[0]
        if self._span is not None:
            self._span.update_name(f"generate_content {model}")
            self._span.set_attribute("gen_ai.request.model", model)
            self._span.set_attribute("gen_ai.request.seed", plan.sampling.seeds[0])
            self._span.set_attribute("gen_ai.request.choice.count", len(plan.sampling.seeds))

    def encoded(self, timings: Mapping[str, float], seconds: float) -> None:
        """Record that the images were encoded, in `seconds`; `timings` are the milliseconds of all stages."""
        self._metrics.stage("encode_image", seconds)
        self._traces.stages(self._span, timings)

    def close(self, error: BaseException | None) -> None:
        """Record the end of the request, with images or with this error."""
        self._end(outcome_of(error), error)

    def refuse(self) -> None:
        """Record a message that could not be read as a request."""
        self._end("invalid", None)

    def _end(self, outcome: str, error: BaseException | None) -> None:
        caller, seconds = self._caller, time.perf_counter() - self._caller.arrived
        self._metrics.request(caller.surface, outcome, seconds)
        prompt = f" prompt={self._prompt!r}" if self._log_prompts and self._prompt is not None else ""
        log.log(
            logging.ERROR if outcome == "failed" else logging.INFO,
            "drawing %s: %s after %.1f ms request=%s%s",
            caller.surface,
            outcome,
            1000 * seconds,
            caller.request_id,
            prompt,
            exc_info=error if outcome == "failed" else None,
        )
        if self._span is not None:
            self._end_span(self._span, outcome)

    @staticmethod
    def _end_span(span: Span, outcome: str) -> None:
        from opentelemetry.trace import StatusCode

        span.set_attribute("fewstep.outcome", outcome)
        if outcome == "failed":
            span.set_status(StatusCode.ERROR)
        span.end()


def outcome_of(error: BaseException | None) -> str:
    """How a request ended, in one word: a label of the metrics."""
    if error is None:
        return "ok"
    return next((name for kind, name in _OUTCOMES if isinstance(error, kind)), "failed")
