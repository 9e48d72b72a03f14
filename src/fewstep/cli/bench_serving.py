"""`fewstep bench serving | soak | peer`: what serving costs, printed for anyone."""

from __future__ import annotations

from typing import Annotated, Any

import tyro

from fewstep.cli.output import check_json, say, say_table, write_json

Name = Annotated[str, tyro.conf.Positional]


def serving(
    model: Name = "emoji",
    /,
    engine: str = "auto",
    precision: str | None = None,
    clients: int = 32,
    requests: int = 600,
    rounds: int = 3,
    json: str | None = None,
) -> int:
    """Measure `fewstep serve`: what a request costs beside the model, and what many clients get of the network.

    The second comparison keeps the network on one core and all else, the clients too, on another; so is the bare
    network that it is compared with.

    Args:
        model: A built-in model, a directory, or user/name on the Hugging Face hub.
        engine: onnx, openvino, eager, compiled, or auto.
        precision: Of its arithmetic.
        clients: At a time.
        requests: Of all clients in each round.
        rounds: Of each measurement, in turn.
        json: Write the figures as JSON to this file, or to standard output with -.
    """
    check_json(json)
    _check(clients=clients, requests=requests, rounds=rounds)
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
    model: Name = "emoji",
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
        clients: At a time.
        requests: In all, after the first part, which fills what the server keeps.
        json: Write the figures as JSON to this file, or to standard output with -.
    """
    check_json(json)
    _check(clients=clients, requests=requests)
    figures = _benchmarks().soak(model, engine, clients, requests, lambda text: say(text, json))
    say(
        f"ready in {figures['ready_s']} s with {figures['ready_mb']} MB; over {figures['requests']} requests "
        f"from {figures['first_mb']} to {figures['last_mb']} MB: {100 * figures['growth']:+.1f} %",
        json,
    )
    write_json(json, figures)
    return 0


def peer(engines: tuple[str, ...] = ("onnx", "openvino"), rounds: int = 6, json: str | None = None) -> int:
    """Compare one step of the same random network here and in diffusers' ConsistencyModelPipeline, in turn.

    Args:
        engines: Of ours.
        rounds: Turns of each.
        json: Write the rows as JSON to this file, or to standard output with -.
    """
    check_json(json)
    _check(rounds=rounds)
    try:
        import diffusers  # noqa: F401
    except ImportError as error:
        raise ImportError("this comparison needs diffusers: pip install 'fewstep[diffusers]'") from error
    from fewstep.evaluation.peers import beside_diffusers

    rows = beside_diffusers(engines, rounds)
    for row in rows:
        say(
            f"{row['engine']:<10} {row['ms']:6.2f} ms  {row['times_faster']:.2f}× as fast  "
            f"largest difference of a pixel {row['largest_difference']} of 255",
            json,
        )
    write_json(json, rows)
    return 0


def edits(size: int = 16, draws: int = 20_000, json: str | None = None) -> int:
    """Print how far few-step inpainting by replacement is from the true conditional, on a Gaussian, at 1 to 8 steps.

    Args:
        size: Of the Gaussian: a smooth line of so many values, half of them known.
        draws: Samples; the closed form of the loop stands beside what is measured.
        json: Write the rows as JSON to this file, or to standard output with -.
    """
    check_json(json)
    _check(size=size, draws=draws)
    from fewstep.evaluation.inpainting import gaps

    rows = gaps(size, draws)
    say_table(rows, json)
    write_json(json, rows)
    return 0


def _benchmarks() -> Any:
    try:
        from fewstep.serving import benchmarks
    except ImportError as error:
        raise ImportError(f"serving needs the package '{error.name}': pip install 'fewstep[serve]'") from error
    return benchmarks


def _check(**numbers: int) -> None:
    for name, value in numbers.items():
        if value < 1:
            raise ValueError(f"--{name} must be at least 1, got {value}")
