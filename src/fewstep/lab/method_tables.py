"""The rows of `fewstep bench methods` as tables. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

from fewstep.lab.method_rows import MethodRow


def tables(rows: Sequence[MethodRow]) -> list[list[dict[str, object]]]:
    """For each kind of data and budget, one table of few-step samplers and one of solvers."""
    found: list[list[dict[str, object]]] = []
    for place in dict.fromkeys(row.place for row in rows):
        here = [row for row in rows if row.place == place]
        few = [row.sampler in ("consistency", "flow_map") for row in here]
        for chosen in (few, [not each for each in few]):
            if any(chosen):
                found.append(_table(list(compress(here, chosen))))
    return found


def _table(rows: Sequence[MethodRow]) -> list[dict[str, object]]:
    counts: dict[int, set[int]] = {}  # 7 evaluations of Heun go into the column of 8
    for row in rows:
        counts.setdefault(_column(row), set()).add(row.evaluations)
    names = {column: " or ".join(map(str, sorted(counts[column]))) for column in sorted(counts)}
    lines: dict[tuple[str, str], list[MethodRow]] = {}
    for row in rows:
        lines.setdefault((row.method, row.sampler), []).append(row)
    table: list[dict[str, object]] = []
    for (method, sampler), line in lines.items():
        cells: dict[str, object] = dict.fromkeys(names.values(), "")
        cells.update({names[_column(row)]: _error(row) for row in line})
        flows = {row.evaluations: row.to_flow for row in line if row.to_flow is not None}
        one = line[0]
        spent = {"images": _millions(one.images), "trained": _millions(one.training_with_start)}
        flow = f"{flows[max(flows)]:.3f}" if flows else ""
        table.append({"data": one.data, "method": method, "sampler": sampler, **cells, "to flow": flow, **spent})
    return table


def _column(row: MethodRow) -> int:
    return next((column for column in (1, 2, 4, 8, 20, 40) if row.evaluations <= column), row.evaluations)


def _error(row: MethodRow) -> str:
    digits = 4 if row.error < 0.1 else 3 if row.error < 1 else 2
    return f"{row.error:.{digits}f}" + (f" ± {row.spread:.{digits}f}" if len(row.seeds) > 1 else "")


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M"
