"""`fewstep bench studio`: the latency from a pen stroke to new pixels."""

from __future__ import annotations

from fewstep.cli.benchmarks import lab_packages
from fewstep.cli.options import ModelName
from fewstep.cli.output import check_json, progress, say, say_table, write_json


def studio(
    model: ModelName = "emoji",
    /,
    engine: str = "auto",
    seconds: float = 20.0,
    minutes: float = 0.0,
    json: str | None = None,
) -> int:
    """Measure the studio in a browser: milliseconds from a pen event to new pixels, by stage.

    This needs Playwright (pip install 'fewstep[lab]') and an installed Chromium.

    Args:
        model: A built-in model, a directory, or user/name on the Hugging Face hub.
        engine: onnx, openvino, eager, compiled, or auto.
        seconds: Seconds of drawing to measure.
        minutes: Minutes of further drawing, during which the memory of the tab is measured.
        json: Write the figures as JSON to this file, or to standard output with -.
    """
    check_json(json)
    if not 1 <= seconds <= 3600 or not 0 <= minutes <= 600:
        raise ValueError(
            f"--seconds must be between 1 and 3600 and --minutes at most 600, got {seconds:g}, {minutes:g}"
        )
    with lab_packages():
        from fewstep.lab.studio import pen_to_pixels

    figures = pen_to_pixels(model, engine, seconds, minutes, progress)
    stages = {name: value for name, value in figures.items() if isinstance(value, dict)}
    say_table([{"stage": name, **value} for name, value in stages.items()], json)
    say(f"{figures['events']} pen events and {figures['frames']} pictures in {seconds:g} s", json)
    write_json(json, figures)
    return 0
