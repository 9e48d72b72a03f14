"""`fewstep bench edits | sketches`: how faithfully the model edits images and follows sketches."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from fewstep.cli.benchmarks import check_counts, check_seeds
from fewstep.cli.options import ModelName
from fewstep.cli.output import check_json, progress, say_table, write_json


def edits(
    edit: Literal["inpaint", "colorize", "super-resolve", "denoise"] = "inpaint",
    size: int = 16,
    draws: int = 20_000,
    model: str | None = None,
    n: int = 200,
    seed: int = 0,
    captioned: bool = False,
    recogniser: Path | None = None,
    threads: int | None = None,
    json: str | None = None,
) -> int:
    """Measure how far edits are from the true conditional distribution, by steps and noise corrections (fit).

    Without --model, edits are measured on a Gaussian, whose conditional distribution is known. With --model, a model
    restores real pictures from which a part was removed; printed is how close it comes and how many are recognised.

    Args:
        edit: What is removed: half of the picture (inpaint), the colours (colorize) or everything but block means
            (super-resolve). With --model also denoise, which removes added noise.
        size: Number of values in the Gaussian, which is a smooth line; colorize uses three such lines.
        draws: Number of samples drawn from the Gaussian; the closed-form result is printed too.
        model: A built-in model, a directory, or user/name on the hub; it must draw emoji by text or digits by class.
        n: Number of pictures to restore.
        seed: Seed of the choice of pictures and of the noise.
        captioned: With --model, whether the model is given each picture's caption or class.
        recogniser: The recogniser.onnx that judges emoji; if left out, the model's own.
        threads: Threads per network call, also of the judge; if left out, one per core.
        json: Write the rows as JSON to this file, or to standard output with -.
    """
    check_json(json)
    for name, value, most in (("size", size, 512), ("draws", draws, 1_000_000), ("n", n, 10_000)):
        if not 2 <= value <= most:
            raise ValueError(f"{name} must be between 2 and {most}, got {value}")
    check_counts(threads=threads)
    if model is not None:
        rows = _on_pictures(edit, model, n, seed, captioned, recogniser, threads)
    elif edit == "denoise":
        raise ValueError("--edit denoise needs a --model")
    else:
        from fewstep.lab.inpainting import gaps

        rows = gaps(size, draws, edit=edit)
    say_table(rows, json)
    write_json(json, rows)
    return 0


def _on_pictures(
    edit: Literal["inpaint", "colorize", "super-resolve", "denoise"],
    model: str,
    n: int,
    seed: int,
    captioned: bool,
    recogniser: Path | None,
    threads: int | None,
) -> list[dict[str, Any]]:
    from fewstep.generation import load
    from fewstep.lab.denoising import denoisings
    from fewstep.lab.restoration import restorations
    from fewstep.measure.subjects import subject_for

    check_seeds(seed, n)
    loaded = load(model, threads=threads)
    subject = subject_for(loaded, recogniser, threads)
    if edit == "denoise":
        return [asdict(row) for row in denoisings(loaded, subject, n, seed, progress)]
    return [asdict(row) for row in restorations(loaded, subject, n, seed, progress, edit, captioned)]


def sketches(
    model: ModelName = "emoji",
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
    """Measure how well a model follows sketches, and whether objects keep their place when a style word is added.

    Shapes are compared by intersection over union, for the same prompt and seed with and without the sketch.

    Args:
        model: A built-in model, a directory, or user/name on the hub; it must draw emoji by text and control image.
        n: Number of pictures for each kind of sketch and for each style.
        strengths: Strengths of the control image, between 0 and 4.
        frame: Whether sketches are scaled and centred like the objects in the training data.
        guidance: Guidance scale with a sketch, instead of the model's own.
        seed: Seed of the choice of glyphs and positions, and of the noise.
        recogniser: The recogniser.onnx that judges the pictures; if left out, the model's own.
        threads: Threads per network call, also of the judge; if left out, one per core.
        json: Write the rows as JSON to this file, or to standard output with -.
    """
    from fewstep.generation import load
    from fewstep.lab.sketching import sketched, styled
    from fewstep.measure.subjects import EmojiSubject, subject_for

    check_json(json)
    check_counts(n=n, threads=threads)
    if n > 10_000:
        raise ValueError(f"--n must be at most 10000, got {n}")
    if not strengths or not all(0 <= strength <= 4 for strength in strengths):
        raise ValueError("--strengths must be numbers between 0 and 4")
    check_seeds(seed, n)
    loaded = load(model, threads=threads)
    subject = subject_for(loaded, recogniser, threads)
    if not isinstance(subject, EmojiSubject) or not loaded.spec.conditioning.control:
        raise ValueError(f"the model '{loaded.name}' does not draw emoji from sketches")
    followed = [asdict(row) for row in sketched(loaded, subject, n, seed, strengths, frame, guidance, progress)]
    say_table(followed, json)
    styles = [asdict(row) for row in styled(loaded, subject, n, seed, progress)]
    say_table(styles, json)
    write_json(json, {"sketches": followed, "styles": styles})
    return 0
