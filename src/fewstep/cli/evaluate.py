"""`fewstep evaluate`: the quality of a model against its cost."""

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
    """Measure a model: how much it gets right, how close it comes to real pictures, and at what cost.

    Real pictures, the teacher and a single denoising step of the teacher are measured too, with the same captions and
    the same noise; the times of all are taken alternately in one run. There are judges for emoji from text and for
    digits by class.

    Args:
        model: A built-in model, a directory, or user/name on the hub.
        steps: Comma-separated numbers of steps, like 1,2,4; if left out, 1,2, or a diffusion model's own number.
        n: Number of captions, drawn evenly from all captions that the model was trained on.
        teacher: The diffusion model to compare with, or "none"; if left out, the one that the model names.
        batch: Number of pictures drawn at once; the pictures do not depend on it.
        seed: Seed of the choice of captions and of the noise.
        guidance: Guidance scale of both models, instead of their own.
        held_out: Number of captions with combinations of object and colour, and as many of object and style, that
            never occurred in training.
        recogniser: The recogniser.onnx that judges emoji; if left out, the model's own.
        threads: Threads per operation, also of the judge; if left out, one per core.
        engine: The engine that runs the model; its teacher runs on onnx.
        precision: Precision of the engine's arithmetic; openvino also has bfloat16.
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
