"""The server's metrics for Prometheus, in their own registry instead of the global one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

_SECONDS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """Counters and histograms of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        histogram = partial(Histogram, namespace="fewstep", registry=self._registry)
        counter = partial(Counter, namespace="fewstep", registry=self._registry)
        gauge = partial(Gauge, namespace="fewstep", registry=self._registry)
        self._stages = histogram("stage_seconds", "Time of one request's stage", ["stage"], buckets=_SECONDS)
        self._requests = histogram(
            "request_seconds", "Time of one request for images", ["surface", "outcome"], buckets=_SECONDS
        )
        self._http = histogram(
            "http_request_seconds", "Time of one HTTP request", ["route", "status"], buckets=_SECONDS
        )
        self._batches = histogram("batch_samples", "Samples in one network call", buckets=_SIZES)
        self._images = counter("images", "Images drawn")
        self._evaluations = counter("network_evaluations", "Samples that the network evaluated")
        self._superseded = counter("superseded", "Requests that a newer one of their session replaced")
        self._cancelled = counter("cancelled", "Requests whose client went away")
        self._http_errors = counter("http_errors", "HTTP answers that were errors", ["status"])
        self._refusals = counter("refusals", "HTTP requests that were refused, by reason", ["reason"])
        ProcessCollector(registry=self._registry)
        self._waiting = gauge("waiting_requests", "Requests in the queue")
        self._running = gauge("running_requests", "Requests that are being drawn")

    def watch(self, waiting: Callable[[], float], running: Callable[[], float]) -> None:
        """Read the gauges' values from these functions."""
        self._waiting.set_function(waiting)
        self._running.set_function(running)

    def watch_models(self, models: Callable[[], Sequence[tuple[str, str]]]) -> None:
        """Show name and hash of each model in memory, as this function gives them."""
        self._registry.register(_Models(models))

    def refused(self, reason: str) -> None:
        """Record that an HTTP request was refused, for a reason that is never text from a client."""
        self._refusals.labels(reason).inc()

    def stage(self, name: str, seconds: float) -> None:
        """Record the time that one request spent in a stage."""
        self._stages.labels(name).observe(seconds)

    def batch(self, samples: int, seconds: float) -> None:
        """Record one network call."""
        self._batches.observe(samples)
        self._evaluations.inc(samples)
        self._stages.labels("network_call").observe(seconds)

    def drawn(self, images: int) -> None:
        """Record that a request got its images."""
        self._images.inc(images)

    def superseded(self) -> None:
        """Record that a newer request of its session replaced one."""
        self._superseded.inc()

    def cancelled(self) -> None:
        """Record that a client went away."""
        self._cancelled.inc()

    def request(self, surface: str, outcome: str, seconds: float) -> None:
        """Record the end of an image request, on any surface."""
        self._requests.labels(surface, outcome).observe(seconds)

    def http_request(self, route: str, status: int, seconds: float) -> None:
        """Record an answered HTTP request; `route` is its pattern, never text from a client."""
        self._http.labels(route, str(status)).observe(seconds)
        if status >= 400:
            self._http_errors.labels(str(status)).inc()

    def text(self) -> bytes:
        """All metrics in the Prometheus text format."""
        return generate_latest(self._registry)


class _Models(Collector):
    """The models in memory, each as a gauge of 1 with its name and hash."""

    def __init__(self, models: Callable[[], Sequence[tuple[str, str]]]) -> None:
        self._models = models

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily("fewstep_model_info", "A model in memory", labels=["model", "hash"])
        for name, digest in dict.fromkeys(self._models()):
            family.add_metric([name, digest], 1)
        yield family
