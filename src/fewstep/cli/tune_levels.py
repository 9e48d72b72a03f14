"""`fewstep tune-levels`: search the best intermediate levels of a model and store them in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewstep.cli.benchmarks import check_counts
from fewstep.cli.evaluate import parse_steps
from fewstep.cli.options import EngineName, ModelName
from fewstep.cli.output import check_json, progress, say, say_table, write_json

if TYPE_CHECKING:
    from fewstep.measure.tuning import TunedLevels
    from fewstep.models.saved import SavedModel


def tune_levels(
    model: ModelName,
    /,
    steps: str = "2,3,4",
    metric: str | None = None,
    n: int = 500,
    seed: int = 0,
    guidance: float | None = None,
    tries: int = 6,
    rounds: int = 3,
    engine: EngineName = "onnx",
    threads: int | None = None,
    recogniser: Path | None = None,
    out: Path | None = None,
    json: str | None = None,
) -> int:
    """Search the best noise levels (σ/α) for sampling a model in a few steps, and store them in the model.

    For each level except the first, values are tried at ever smaller spacing, all scored on the same captions and
    noise. The levels found and the model's current ones are then scored on captions, noise and real data that the
    search did not use; the levels found are stored only if they score better there. Models that draw emoji from text,
    digits by class, or the points of the toy recipe can be scored.

    Args:
        model: A built-in model, a directory, or user/name on the hub.
        steps: Comma-separated numbers of steps, each 2 or more, like 2,3,4.
        metric: The score to minimise: frechet, kid or errors (captions not recognised) for pictures, wasserstein for
            points; if left out, frechet or wasserstein.
        n: Number of captions, or points, to score each set of levels on.
        seed: Seed of the choice of captions and of the noise.
        guidance: Guidance scale, instead of the model's own. It is stored in the copy, which --out must name.
        tries: Number of values tried for each level in each round.
        rounds: Number of rounds; each searches within the spacing of the previous one.
        engine: The engine that runs the model.
        threads: Threads per operation, also of the judge; if left out, one per core.
        recogniser: The recogniser.onnx that judges emoji; if left out, the model's own.
        out: The directory for a copy with the new levels; if left out, they are stored in the model's own directory.
        json: Write the rows as JSON to this file, or to standard output with -.
    """
    from fewstep.generation import load
    from fewstep.measure.tuning import SearchSettings, check_guidance, check_steps, scoring_for, store, tune

    check_json(json)
    check_counts(threads=threads)
    numbers = parse_steps(steps)
    check_steps(numbers)
    search = SearchSettings(n, seed, tries, rounds)
    loaded = load(model, engine, threads=threads)
    check_guidance(loaded, guidance, is_copied=out is not None)
    place = _place(loaded.saved, model, out)
    scoring = scoring_for(loaded, metric, recogniser, threads)
    rows = tune(loaded, scoring, numbers, search, guidance, progress)
    say_table([_readable(row) for row in rows], json)
    stored = store(loaded.saved, rows, place, guidance)
    if stored is None:
        say("nothing stored: none of the levels found are better on fresh noise", json)
    else:
        say(f"stored in {place}: {loaded.hash[:10]} is now {stored.hash[:10]}", json)
    write_json(json, [_plain(row) for row in rows])
    return 0


def _place(saved: SavedModel, name: str, out: Path | None) -> Path:
    """Where the levels will be stored, checked before the search."""
    from fewstep.models.finding import own_directory
    from fewstep.models.writing import check_rewrite

    place = out or own_directory(name)
    if place is None:
        raise ValueError(f"the model '{name}' is not in a directory of yours: give --out for a copy with new levels")
    check_rewrite(saved, place)
    return place


def _readable(row: TunedLevels) -> dict[str, Any]:
    from fewstep.measure.tuning import as_text

    return {
        "steps": row.steps,
        "levels before": as_text(row.levels_before),
        f"{row.metric} before": f"{row.score_before:.5g}",
        "levels found": as_text(row.levels_found),
        f"{row.metric} found": f"{row.score_found:.5g}",
        "": "stored" if row.is_better else "kept",
    }


def _plain(row: TunedLevels) -> dict[str, Any]:
    from dataclasses import asdict

    from fewstep.models.parts import to_plain

    return {**to_plain(asdict(row)), "stored": row.is_better}
