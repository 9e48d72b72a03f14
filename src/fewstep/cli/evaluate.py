"""`fewstep evaluate`: quality against cost."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Literal

from fewstep.cli.options import EngineName, ModelName
from fewstep.cli.output import check_json, progress, say, write_json


def evaluate(
    model: ModelName = "emoji",
    /,
    steps: str | None = None,
    n: int = 500,
    teacher: str | None = None,
    batch: int = 50,
    seed: int = 0,
    guidance: float | None = None,
    held_out: int = 100,
    recogniser: Path | None = None,
    threads: int | None = None,
    engine: EngineName = "onnx",
    precision: Literal["float32", "bfloat16"] | None = None,
    json: str | None = None,
) -> int:
    """Measure a model: what it gets right, how close to real pictures it comes, and what that costs.

    Real pictures, the teacher and the teacher's single denoising step are measured beside it, all for the same
    captions from the same noise; their times are taken in turn, in this one run. There are judges for emoji from text
    and for digits by class.

    Args:
        model: A built-in model, a directory, or user/name on the hub.
        steps: Numbers of steps, like 1,2,4; if left out, 1,2, or a diffusion model's own number.
        n: Number of captions, drawn evenly from all that the model was trained on.
        teacher: The diffusion model to compare with, or "none"; if left out, the one that the model names.
        batch: Pictures drawn at once; this changes no picture.
        seed: Chooses the captions and the noise.
        guidance: The guidance scale of both models, instead of their own.
        held_out: Number of captions that combine a thing with a colour, and with a style, as training never did.
        recogniser: The recogniser.onnx that judges emoji; if left out, the model's own.
        threads: Threads of one operation, also of the judge; if left out, one for each core.
        engine: The engine that runs the model; its teacher runs on onnx.
        precision: Precision of the engine's arithmetic; openvino has bfloat16.
        json: Write the rows as JSON to this file, or to standard output with -.
    """
    from rich.console import Console

    from fewstep.core.parameterisations import Targets
    from fewstep.generation import load
    from fewstep.generation.request import STEPS
    from fewstep.measure.evaluate import EvaluationSettings
    from fewstep.measure.evaluate import evaluate as measure
    from fewstep.measure.report import as_dicts, ratios, table
    from fewstep.measure.subjects import subject_for
    from fewstep.measure.teachers import teacher_of

    check_json(json)
    settings = EvaluationSettings(n, batch, seed, held_out)
    asked = None if steps is None else parse_steps(steps)
    for number in asked or ():
        STEPS.check(number)
    loaded = load(model, engine, threads=threads, precision=precision)
    numbers = asked or ([loaded.spec.steps] if loaded.spec.targets is Targets.SAME else [1, 2])
    if teacher is None:
        other = teacher_of(loaded, threads, progress)
    else:
        other = None if teacher == "none" else load(teacher, threads=threads)
    subject = subject_for(loaded, recogniser, threads)
    rows = measure(loaded, other, subject, numbers, settings, guidance, progress)
    wide = not (sys.stderr if json == "-" else sys.stdout).isatty() and "COLUMNS" not in os.environ
    Console(stderr=json == "-", width=240 if wide else None).print(table(rows))
    for line in ratios(rows):
        say(line, json)
    write_json(json, as_dicts(rows))
    return 0


def parse_steps(text: str) -> list[int]:
    """Whole numbers from "1,2,4".

    Raises:
        ValueError: it holds anything else.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(f"steps must be whole numbers like 1,2,4, got '{text}'")
    return [int(part) for part in parts]
