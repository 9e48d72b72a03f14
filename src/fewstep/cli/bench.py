"""`fewstep bench training | start | engines | peer | edits`: figures that anyone can print."""

from __future__ import annotations

import importlib.util
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from fewstep.cli.output import check_json, progress, say, say_table, write_json


def training(steps: int = 20, rounds: int = 3, batch: int = 64, json: str | None = None) -> int:
    """Compare the training loop's images a second with a bare PyTorch loop's, in turn.

    Args:
        steps: Steps of each turn that count.
        rounds: Turns of each.
        batch: Images a step.
        json: Write the figures as JSON to this file, or to standard output with -.
    """
    try:
        from fewstep.lab.training import training_speed
    except ImportError as error:
        raise ImportError("this benchmark needs PyTorch: pip install 'fewstep[train]'") from error

    check_json(json)
    check_counts(steps=steps, rounds=rounds, batch=batch)
    figures = training_speed(steps, rounds, batch=batch)
    say(
        f"training loop {figures['loop_images_per_second']} images/s, bare loop "
        f"{figures['bare_images_per_second']} images/s: ratio {figures['ratio']}",
        json,
    )
    write_json(json, figures)
    return 0


def start(rounds: int = 5, model: str = "emoji", json: str | None = None) -> int:
    """Time `fewstep generate` in a fresh process beside `python -c "import torch"`, in turn.

    Args:
        rounds: Runs of each.
        model: What to load.
        json: Write the figures as JSON to this file, or to standard output with -.
    """
    check_json(json)
    check_counts(rounds=rounds)
    if importlib.util.find_spec("torch") is None:
        raise ImportError("this benchmark needs PyTorch: pip install 'fewstep[train]'")
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "apple.png")
        command = "from fewstep.cli.main import main; main()"
        ways = {
            "generate": [sys.executable, "-c", command, "generate", "a red apple", "--model", model, "--out", out],
            "import_torch": [sys.executable, "-c", "import torch"],
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for counted in [False] + [True] * rounds:
            for name, arguments in ways.items():
                began = time.perf_counter()
                done = subprocess.run(arguments, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise RuntimeError(f"{name} failed: {done.stderr.strip().splitlines()[-1:]}")
                if counted:
                    seconds[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    figures = {
        **{f"{name}_s": round(value, 3) for name, value in medians.items()},
        "ratio": round(medians["generate"] / medians["import_torch"], 3),
        "rounds": rounds,
    }
    say(
        f"fewstep generate {figures['generate_s']} s, import torch {figures['import_torch_s']} s: "
        f"ratio {figures['ratio']}",
        json,
    )
    write_json(json, figures)
    return 0


def engines(
    model: Annotated[str, tyro.conf.Positional] = "emoji",
    /,
    device: str = "cpu",
    threads: int | None = None,
    rounds: int = 5,
    json: str | None = None,
) -> int:
    """Measure a model on every engine that is installed, in turn; --engine auto chooses by the table it keeps.

    Args:
        model: A built-in model, a directory, or user/name on the Hugging Face hub.
        device: For eager and compiled: cpu, cuda, mps.
        threads: Of one network call; one a core if left out.
        rounds: Turns of each engine at every batch size.
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
    say(f"kept for --engine auto in {kept}", json)
    write_json(json, [asdict(row) for row in rows])
    return 0


def peer(engines: tuple[str, ...] = ("onnx", "openvino"), rounds: int = 6, json: str | None = None) -> int:
    """Compare one step of the same random network here and in diffusers' ConsistencyModelPipeline, in turn.

    Args:
        engines: Of ours.
        rounds: Turns of each.
        json: Write the rows as JSON to this file, or to standard output with -.
    """
    check_json(json)
    check_counts(rounds=rounds)
    try:
        from fewstep.lab.peers import beside_diffusers
    except ImportError as error:
        raise ImportError(
            f"this comparison needs the package '{error.name}': pip install 'fewstep[diffusers]'"
        ) from error

    rows = beside_diffusers(engines, rounds)
    for row in rows:
        say(
            f"{row['engine']:<10} {row['ms']:6.2f} ms  {row['times_faster']:.2f}× as fast  "
            f"largest difference of a pixel {row['largest_difference']} of 255",
            json,
        )
    write_json(json, rows)
    return 0


def edits(
    edit: Literal["inpaint", "colorize", "super-resolve", "denoise"] = "inpaint",
    size: int = 16,
    draws: int = 20_000,
    model: str | None = None,
    n: int = 200,
    seed: int = 0,
    told: bool = False,
    recogniser: Path | None = None,
    threads: int | None = None,
    json: str | None = None,
) -> int:
    """Print how far edits are from the true conditional, by steps and corrections of the noise (fit).

    On a Gaussian, where it is known; or, with --model, how near a model comes to real pictures of which a part is
    missing, and how many are recognised.

    Args:
        edit: What is missing: half (inpaint), the colours (colorize), all but the means of blocks (super-resolve); or
            how much noise is taken out (denoise, with --model).
        size: Of the Gaussian: a smooth line of so many values; with colorize three of them.
        draws: Samples; the closed form of the loop stands beside what is measured.
        model: A built-in model, a directory, or user/name on the hub: emoji from text, or digits by class.
        n: Pictures to restore.
        seed: Chooses them and the noise.
        told: With --model, whether it gets each picture's caption or class.
        recogniser: The recogniser.onnx that judges emoji; if left out the model's own.
        threads: Of one network call, the judge's too; one a core if left out.
        json: Write the rows as JSON to this file, or to standard output with -.
    """
    check_json(json)
    for name, value, most in (("size", size, 512), ("draws", draws, 1_000_000), ("n", n, 10_000)):
        if not 2 <= value <= most:
            raise ValueError(f"{name} must be between 2 and {most}, got {value}")
    check_counts(threads=threads)
    rows: list[dict[str, Any]]
    if model is None:
        from fewstep.lab.inpainting import gaps

        if edit == "denoise":
            raise ValueError("--edit denoise needs a --model")
        rows = gaps(size, draws, edit=edit)
    else:
        from fewstep.core.randomness import check_seed
        from fewstep.generation import load
        from fewstep.lab.denoising import denoisings
        from fewstep.lab.filling import fillings
        from fewstep.measure.subjects import subject_for

        check_seed(seed)
        check_seed(seed + n)
        loaded = load(model, threads=threads)
        subject = subject_for(loaded, recogniser, threads)
        found = (
            denoisings(loaded, subject, n, seed, progress)
            if edit == "denoise"
            else fillings(loaded, subject, n, seed, progress, edit, told)
        )
        rows = [asdict(row) for row in found]
    say_table(rows, json)
    write_json(json, rows)
    return 0


def check_counts(**numbers: int | None) -> None:
    """Raise ValueError unless every option's number is at least 1, or left out."""
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise ValueError(f"--{name} must be at least 1, got {value}")
