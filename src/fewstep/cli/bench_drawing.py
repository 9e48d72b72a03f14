"""`fewstep bench sketches | studio`: how well a sketch is followed, and how fast."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import tyro

from fewstep.cli.bench import check_counts
from fewstep.cli.output import check_json, progress, say, say_table, write_json

Name = Annotated[str, tyro.conf.Positional]


def sketches(
    model: Name = "emoji",
    /,
    n: int = 100,
    strengths: tuple[float, ...] = (1.0,),
    frame: bool = True,
    guidance: float | None = None,
    seed: int = 0,
    recogniser: Path | None = None,
    threads: int | None = None,
    json: str | None = None,
) -> int:
    """Print how well a model follows sketches, and whether a style leaves a thing in its place.

    Shapes are compared by intersection over union, with the sketch and without it, prompt and seed alike.

    Args:
        model: A built-in model, a directory, or user/name on the hub: of emoji, from text and a control image.
        n: Pictures for each kind of sketch and each style.
        strengths: Of the control image, 0 to 4.
        frame: Whether sketches are shown to the model as large and central as things stood in training.
        guidance: The scale with a sketch, instead of the model's own.
        seed: Chooses glyphs, places and noise.
        recogniser: The recogniser.onnx that judges; if left out the model's own.
        threads: Of one network call, the judge's too; one a core if left out.
        json: Write the rows as JSON to this file, or to standard output with -.
    """
    from fewstep.core.randomness import check_seed
    from fewstep.generation import load
    from fewstep.lab.sketching import sketched, styled
    from fewstep.measure.subjects import EmojiSubject, subject_for

    check_json(json)
    check_counts(n=n, threads=threads)
    if n > 10_000:
        raise ValueError(f"--n must be at most 10000, got {n}")
    if not strengths or not all(0 <= strength <= 4 for strength in strengths):
        raise ValueError("--strengths must be numbers between 0 and 4")
    check_seed(seed)
    check_seed(seed + n)
    loaded = load(model, threads=threads)
    subject = subject_for(loaded, recogniser, threads)
    if not isinstance(subject, EmojiSubject) or not loaded.spec.conditioning.control:
        raise ValueError(f"the model '{loaded.name}' takes no sketches of emoji")
    followed = [asdict(row) for row in sketched(loaded, subject, n, seed, strengths, frame, guidance, progress)]
    say_table(followed, json)
    styles = [asdict(row) for row in styled(loaded, subject, n, seed, progress)]
    say_table(styles, json)
    write_json(json, {"sketches": followed, "styles": styles})
    return 0


def studio(
    model: Name = "emoji",
    /,
    engine: str = "auto",
    seconds: float = 20.0,
    minutes: float = 0.0,
    json: str | None = None,
) -> int:
    """Measure the studio in a browser: milliseconds from a pen's event to new pixels, by stage.

    Needs Playwright (pip install 'fewstep[dev]') and a Chromium of the system's.

    Args:
        model: A built-in model, a directory, or user/name on the Hugging Face hub.
        engine: onnx, openvino, eager, compiled, or auto.
        seconds: Of drawing that count.
        minutes: Of drawing after that, while the tab's memory is watched.
        json: Write the figures as JSON to this file, or to standard output with -.
    """
    check_json(json)
    if not 1 <= seconds <= 3600 or not 0 <= minutes <= 600:
        raise ValueError(
            f"--seconds must be between 1 and 3600 and --minutes at most 600, got {seconds:g}, {minutes:g}"
        )
    try:
        from fewstep.lab.studio import pen_to_pixels

        figures = pen_to_pixels(model, engine, seconds, minutes, progress)
    except ImportError as error:
        raise ImportError(f"this benchmark needs '{error.name}': pip install 'fewstep[dev]'") from error
    stages = {name: value for name, value in figures.items() if isinstance(value, dict)}
    say_table([{"stage": name, **value} for name, value in stages.items()], json)
    say(f"{figures['events']} events of the pen and {figures['frames']} pictures in {seconds:g} s", json)
    write_json(json, figures)
    return 0
