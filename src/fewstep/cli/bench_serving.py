"""`fewstep bench serving | soak`: the cost of serving in time and memory."""

from __future__ import annotations

from typing import Any

from fewstep.cli.benchmarks import check_counts, lab_packages
from fewstep.cli.options import ModelName
from fewstep.cli.output import check_json, say, write_json

MIN_REQUESTS = 10  # per client; with fewer, the figures mean nothing


def serving(
    model: ModelName = "emoji",
    /,
    engine: str = "auto",
    precision: str | None = None,
    clients: int = 32,
    requests: int = 600,
    rounds: int = 3,
    json: str | None = None,
) -> int:
    """Measure `fewstep serve`: the cost of a request on top of the model, and the throughput with many clients.

    For the throughput, the network has one core and everything else, including the clients, has another; the bare
    network that it is compared with also has one core.

    Args:
        model: A built-in model, a directory, or user/name on the Hugging Face hub.
        engine: onnx, openvino, eager, compiled, or auto.
        precision: Precision of the engine's arithmetic.
        clients: Number of concurrent clients.
        requests: Total number of requests in each round, at least ten per client.
        rounds: Number of rounds of each measurement.
        json: Write the figures as JSON to this file, or to standard output with -.
    """
    check_json(json)
    check_counts(rounds=rounds)
    _check_load(clients, requests)
    benchmarks = _benchmarks()
    alone = benchmarks.overhead(model, engine, precision, max(20, requests // 4), rounds)
    say(
        f"{alone['engine']} {alone['precision']}, one client: a request {alone['request_ms']} ms "
        f"(p99 {alone['request_p99_ms']}), the model {alone['model_ms']} ms, all else {alone['overhead_ms']} ms",
        json,
    )
    many = benchmarks.throughput(model, engine, precision, clients, requests, rounds, lambda text: say(text, json))
    say(
        f"{clients} clients: {many['requests_per_s']} requests/s, the bare network {many['network_images_per_s']} "
        f"images/s: ratio {many['ratio']}; p50 {many['p50_ms']} ms, p99 {many['p99_ms']} ms",
        json,
    )
    write_json(json, {"one_client": alone, "many_clients": many})
    return 0


def soak(
    model: ModelName = "emoji",
    /,
    engine: str = "auto",
    clients: int = 32,
    requests: int = 10_000,
    json: str | None = None,
) -> int:
    """Send a server thousands of requests and watch its memory.

    Args:
        model: A built-in model, a directory, or user/name on the Hugging Face hub.
        engine: onnx, openvino, eager, compiled, or auto.
        clients: Number of concurrent clients.
        requests: Total number of requests, at least ten per client, sent after a warm-up that fills the server's
            caches.
        json: Write the figures as JSON to this file, or to standard output with -.
    """
    check_json(json)
    _check_load(clients, requests)
    figures = _benchmarks().soak(model, engine, clients, requests, lambda text: say(text, json))
    say(
        f"ready in {figures['ready_s']} s with {figures['ready_mb']} MB; over {figures['requests']} requests "
        f"from {figures['first_mb']} to {figures['last_mb']} MB: {100 * figures['growth']:+.1f} %",
        json,
    )
    write_json(json, figures)
    return 0


def _benchmarks() -> Any:
    with lab_packages():
        from fewstep.lab import serving as benchmarks
        from fewstep.serving import server  # noqa: F401  a missing package shows before a server is started
    return benchmarks


def _check_load(clients: int, requests: int) -> None:
    check_counts(clients=clients, requests=requests)
    if requests < MIN_REQUESTS * clients:
        raise ValueError(
            f"--requests must be at least {MIN_REQUESTS * clients}, {MIN_REQUESTS} for each client, got {requests}"
        )
