"""`fewstep bench methods`: every objective side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fewstep.cli.benchmarks import lab_packages
from fewstep.cli.output import check_json, check_plot, say, say_table, write_json

if TYPE_CHECKING:
    from fewstep.lab.method_rows import MethodRow


def methods(
    data: str | None = None,
    methods: str = "all",
    evaluations: int | None = None,
    seeds: int | None = None,
    seed: int = 0,
    samples: int | None = None,
    short: bool = False,
    read: tuple[Path, ...] | None = None,
    plot: Path | None = None,
    json: str | None = None,
) -> int:
    """Train every objective on the same data, network, seeds and budget, and measure quality against evaluations.

    The budget is counted in network evaluations per sample: a forward pass counts 1, a pass with a derivative 2, a
    training step 3; evaluations of a teacher during training count too. The model that a method starts from is
    trained first, on a budget of its own, which a separate column includes. Solvers use the Karras grid; the levels
    for two and four steps are searched for each network.

    Args:
        data: Comma-separated names out of mixture, digits and emoji, like mixture,digits; if left out, all of them.
        methods: Comma-separated names, like diffusion,mean_flow, or all.
        evaluations: Budget of each training; if left out, the default for each kind of data.
        seeds: Number of seeds of data and noise; if left out, 3.
        seed: The first seed. Several machines can each run other seeds; --read joins their rows.
        samples: Number of samples to measure each sampler setting with; if left out, 100 000 points, 2 000 digits and
            1 000 emoji, which take minutes for each method whatever the budget.
        short: Run a short form on mixture and digits with one seed: some ten minutes on two cores, too short to judge
            methods by.
        read: Train nothing, and show the rows of these files, written by --json.
        plot: Write a plot of error against evaluations to this PNG file.
        json: Write the rows as JSON to this file, after each method, or to standard output with -. Rows that are
            already in the file are kept and not measured again, so that an interrupted run resumes.
    """
    check_json(json)
    if plot is not None:
        check_plot(plot)
    for name, value, least in (("evaluations", evaluations, 1), ("seeds", seeds, 1), ("samples", samples, 2)):
        if value is not None and value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    if seed < 0:
        raise ValueError(f"seed must be at least 0, got {seed}")
    from fewstep.lab.method_rows import read_rows, summary
    from fewstep.lab.method_tables import tables

    if read is not None:
        if data or methods != "all" or evaluations or seeds or seed or samples or short:
            raise ValueError("--read only shows existing rows: leave out the options for training")
        if not read:
            raise ValueError("--read needs at least one file")
        rows = read_rows(read)
    else:
        every = range(seed, seed + (seeds or (1 if short else 3)))
        rows = _trained(data, methods, evaluations, every, samples, short, json)
    for table in tables(rows):
        say_table(table, json)
        say("", json)
    for line in summary(rows):
        say(line, json)
    write_json(json, [row.as_json() for row in rows])
    if plot is not None:
        from fewstep.lab import tradeoff
        from fewstep.lab.plane import save, style

        with style():
            save(tradeoff.picture([row.as_json() for row in rows]), plot)
        say(str(plot), json)
    return 0


def _trained(
    data: str | None,
    methods: str,
    evaluations: int | None,
    seeds: range,
    samples: int | None,
    short: bool,
    json: str | None,
) -> list[MethodRow]:
    with lab_packages():
        from fewstep.lab.comparison import BUDGETS, SHORT, SHORT_SAMPLES, check_names, compare
        from fewstep.lab.methods import METHODS
        from fewstep.training.strategy import accelerator
    from fewstep.lab.method_rows import joined, read_rows

    budgets = SHORT if short else BUDGETS
    names = list(budgets) if data is None else _listed(data)
    chosen = list(METHODS) if methods == "all" else _listed(methods)
    check_names("data of the short form" if short else "data", names, budgets)
    given = {name: evaluations or budgets[name] for name in names}
    is_kept = json not in (None, "-") and Path(str(json)).is_file() and Path(str(json)).stat().st_size > 0
    rows = read_rows([Path(str(json))]) if is_kept else []
    if rows:
        say(f"{json} already has {len(rows)} rows, which are kept and not measured again", json)
    samples = samples or (SHORT_SAMPLES if short else None)
    for new in compare(given, chosen, seeds, accelerator().device, samples, rows, lambda text: say(text, json)):
        rows = joined([*rows, *new])
        if json != "-":
            write_json(json, [row.as_json() for row in rows])  # kept if the run is interrupted
    if not rows:
        raise ValueError("every training diverged: there is nothing to show")
    return rows


def _listed(text: str) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
