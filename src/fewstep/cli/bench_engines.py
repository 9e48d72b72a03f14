"""`fewstep bench engines | peer`: time the network on every engine, and in a diffusers pipeline."""

from __future__ import annotations

from dataclasses import asdict

from fewstep.cli.benchmarks import check_counts, lab_packages
from fewstep.cli.options import ModelName
from fewstep.cli.output import check_json, say, say_table, write_json


def engines(
    model: ModelName = "emoji",
    /,
    device: str = "cpu",
    threads: int | None = None,
    rounds: int = 5,
    json: str | None = None,
) -> int:
    """Measure a model on every installed engine, and store the results, by which --engine auto chooses.

    Args:
        model: A built-in model, a directory, or user/name on the Hugging Face hub.
        device: Device of the engines eager and compiled: cpu, cuda or mps.
        threads: Threads per network call; if left out, one per core.
        rounds: Number of rounds at every batch size; the engines take turns in each.
        json: Write the rows as JSON to this file, or to standard output with -.
    """
    from fewstep.engines import table
    from fewstep.lab.engines import measure_engines
    from fewstep.models.finding import find

    check_json(json)
    check_counts(rounds=rounds, threads=threads)
    saved = find(model)
    rows = measure_engines(model, device, threads, rounds, lambda text: say(text, json))
    kept = table.keep(saved, rows, device, threads)
    say_table([asdict(row) for row in rows], json)
    say(f"stored for --engine auto in {kept}", json)
    write_json(json, [asdict(row) for row in rows])
    return 0


def peer(engines: tuple[str, ...] = ("onnx", "openvino"), rounds: int = 6, json: str | None = None) -> int:
    """Time one step of the same random network in fewstep and in diffusers' ConsistencyModelPipeline.

    Args:
        engines: The fewstep engines to compare.
        rounds: Number of rounds; the engines and the pipeline take turns in each.
        json: Write the rows as JSON to this file, or to standard output with -.
    """
    check_json(json)
    check_counts(rounds=rounds)
    with lab_packages():
        from fewstep.lab.peers import beside_diffusers

    rows = beside_diffusers(engines, rounds)
    for row in rows:
        say(
            f"{row['engine']:<10} {row['ms']:6.2f} ms  {row['times_faster']:.2f}× as fast  "
            f"largest difference of a pixel {row['largest_difference']} of 255",
            json,
        )
    write_json(json, rows)
    return 0
