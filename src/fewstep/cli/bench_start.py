"""`fewstep bench start`: the time from a command to an image."""

from __future__ import annotations

from fewstep.cli.benchmarks import check_counts, lab_packages
from fewstep.cli.output import check_json, say, write_json


def start(rounds: int = 5, model: str = "emoji", json: str | None = None) -> int:
    """Time `fewstep generate` in a fresh process, and `python -c "import torch"` for comparison.

    Args:
        rounds: Number of runs of each, taking turns.
        model: The model to load.
        json: Write the figures as JSON to this file, or to standard output with -.
    """
    check_json(json)
    check_counts(rounds=rounds)
    with lab_packages():
        import torch  # noqa: F401  one of the two commands that are timed

        from fewstep.lab.start import start_times

    figures = start_times(model, rounds)
    say(
        f"fewstep generate {figures['generate_s']} s, import torch {figures['import_torch_s']} s: "
        f"ratio {figures['ratio']}",
        json,
    )
    write_json(json, figures)
    return 0
