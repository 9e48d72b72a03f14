"""`fewstep bench training`: the training loop compared with bare PyTorch."""

from __future__ import annotations

from fewstep.cli.benchmarks import check_counts, lab_packages
from fewstep.cli.output import check_json, say, write_json


def training(steps: int = 20, rounds: int = 3, batch: int = 64, json: str | None = None) -> int:
    """Compare the images per second of the training loop with those of a bare PyTorch loop.

    Args:
        steps: Number of measured steps in each round.
        rounds: Number of rounds; the two loops take turns in each.
        batch: Images per step.
        json: Write the figures as JSON to this file, or to standard output with -.
    """
    check_json(json)
    check_counts(steps=steps, rounds=rounds, batch=batch)
    with lab_packages():
        from fewstep.lab.training import training_speed

    figures = training_speed(steps, rounds, batch=batch)
    say(
        f"training loop {figures['loop_images_per_second']} images/s, bare loop "
        f"{figures['bare_images_per_second']} images/s: ratio {figures['ratio']}",
        json,
    )
    write_json(json, figures)
    return 0
