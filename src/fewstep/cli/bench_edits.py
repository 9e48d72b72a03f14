"""`fewstep bench edits | sketches`: how well edits and sketches are followed."""

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
    """Print how far edits are from the true conditional, by steps and corrections of the noise (fit).

    Without --model this is measured on a Gaussian, where the true conditional is known. With --model it is how near a
    model comes to real pictures of which a part is missing, and how many of them are recognised.

    Args:
        edit: What is missing: half (inpaint), the colours (colorize), all but the means of blocks (super-resolve); or
            how much noise is taken out (denoise, with --model).
        size: Values in the Gaussian, a smooth line; with colorize three such lines.
        draws: Samples drawn from the Gaussian; the closed form is printed beside what they give.
        model: A built-in model, a directory, or user/name on the hub: emoji from text, or digits by class.
        n: Pictures to restore.
        seed: Chooses the pictures and the noise.
        captioned: With --model, whether it is given each picture's caption or class.
        recogniser: The recogniser.onnx that judges emoji; if left out the model's own.
        threads: Threads of one network call and of the judge; if left out, one for each core.
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
    """Print how well a model follows sketches, and whether a style word leaves a thing in its place.

    Shapes are compared by intersection over union, for the same prompt and seed with the sketch and without it.

    Args:
        model: A built-in model, a directory, or user/name on the hub: of emoji, from text and a control image.
        n: Pictures of each kind of sketch and of each style.
        strengths: Strengths of the control image, from 0 to 4.
        frame: Whether sketches are framed as large and as central as things were in training.
        guidance: The guidance scale with a sketch, instead of the model's own.
        seed: Chooses glyphs, places and noise.
        recogniser: The recogniser.onnx that judges; if left out, the model's own.
        threads: Threads of one network call and of the judge; if left out, one for each core.
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
        raise ValueError(f"the model '{loaded.name}' takes no sketches of emoji")
    followed = [asdict(row) for row in sketched(loaded, subject, n, seed, strengths, frame, guidance, progress)]
    say_table(followed, json)
    styles = [asdict(row) for row in styled(loaded, subject, n, seed, progress)]
    say_table(styles, json)
    write_json(json, {"sketches": followed, "styles": styles})
    return 0
