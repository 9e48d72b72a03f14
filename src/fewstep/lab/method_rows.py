"""The rows of `fewstep bench methods`: stored as JSON, joined over seeds, summarised. Needs no PyTorch."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class MethodRow:
    """One method with one sampler setting.

    Args:
        method, data, sampler: their names.
        steps, evaluations: sampler steps and network evaluations for one sample.
        levels: the σ/α visited, those of the first seed.
        seeds: seeds of data and noise.
        errors: distance of the samples from the data, for each seed, in the metric named by `measure`.
        samples: number of samples measured.
        to_flow: mean over seeds of the root mean square distance to the endpoint of the exact flow from the same
            noise, for deterministic samplers where that flow is known.
        budget: network evaluations given to each training.
        images: training images that the method saw.
        training: network evaluations spent on its training, including its teacher's during it.
        training_with_start: the same plus those that trained the network it started from.
    """

    method: str
    data: str
    sampler: str
    steps: int
    evaluations: int
    levels: tuple[float, ...]
    seeds: tuple[int, ...]
    errors: tuple[float, ...]
    samples: int
    to_flow: float | None
    measure: str
    budget: int
    images: int
    training: int
    training_with_start: int

    @property
    def error(self) -> float:
        """The mean error over seeds."""
        return statistics.fmean(self.errors)

    @property
    def spread(self) -> float:
        """The standard deviation of the error over seeds; 0 for one seed."""
        return statistics.stdev(self.errors) if len(self.errors) > 1 else 0.0

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "error": self.error, "spread": self.spread}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> MethodRow:
        """The row that `as_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: the mapping is not such a row.
        """
        read: dict[str, Any] = {name: str(row[name]) for name in ("method", "data", "sampler", "measure")}
        read |= {name: int(row[name]) for name in COUNTS}
        read |= {name: tuple(map(kind, row[name])) for name, kind in (("levels", float), ("seeds", int))}
        errors = tuple(math.nan if error is None else float(error) for error in row["errors"])
        return cls(**read, errors=errors, to_flow=None if row["to_flow"] is None else float(row["to_flow"]))

    @property
    def place(self) -> tuple[str, int, int]:
        """Data, budget and number of samples: rows that agree in these can be compared."""
        return self.data, self.budget, self.samples

    @property
    def without_seeds(self) -> MethodRow:
        """The row without what depends on the seed."""
        return replace(self, levels=(), seeds=(), errors=(), to_flow=None)


COUNTS = ("steps", "evaluations", "samples", "budget", "images", "training", "training_with_start")


def read_rows(files: Sequence[Path]) -> list[MethodRow]:
    """The rows listed in JSON files, with those of different seeds joined.

    Raises:
        ValueError: a file holds anything else, or two files hold the same seed.
    """
    rows = []
    for file in files:
        try:
            found = [MethodRow.from_json(row) for row in json.loads(file.read_bytes())]
            wrong = not found or any(not row.seeds or len(row.seeds) != len(row.errors) for row in found)
        except (ValueError, TypeError, KeyError):
            wrong = True
        if wrong:
            raise ValueError(f"'{file}' does not hold rows of `fewstep bench methods` as this version writes them")
        rows += found
    return joined(rows)


def joined(rows: Iterable[MethodRow]) -> list[MethodRow]:
    """One row for each method, sampler setting and budget, with all of its seeds.

    Raises:
        ValueError: a seed occurs twice.
    """
    alike: dict[MethodRow, list[MethodRow]] = {}
    for row in rows:
        alike.setdefault(row.without_seeds, []).append(row)
    return [_joined(group) for group in alike.values()]


def _joined(rows: Sequence[MethodRow]) -> MethodRow:
    seeds = [seed for row in rows for seed in row.seeds]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seed {max(seeds, key=seeds.count)} of {rows[0].method} on {rows[0].data} occurs twice")
    flows = [row.to_flow for row in rows for _ in row.seeds if row.to_flow is not None]
    return replace(
        rows[0],
        seeds=tuple(seeds),
        errors=tuple(error for row in rows for error in row.errors),
        to_flow=statistics.fmean(flows) if flows else None,
    )


def summary(rows: Sequence[MethodRow], few: Sequence[int] = (1, 2, 4)) -> list[str]:
    """For each kind of data and budget the best few-step results, compared with the diffusion model sampled by Heun's
    method with the most evaluations."""
    lines = []
    for place in dict.fromkeys(row.place for row in rows):
        data, here = place[0], [row for row in rows if row.place == place]
        solved = [row for row in here if row.sampler == "heun"]
        for evaluations in few:
            if solved and (ways := [row for row in here if row.evaluations == evaluations]):
                best = min(ways, key=lambda row: (math.isnan(row.error), row.error))
                heun = max(solved, key=lambda row: row.evaluations)
                times = f"{best.error / heun.error:.2f} times" if heun.error > 0 else "beside"
                lines.append(
                    f"{data}, {evaluations} evaluation{'s' * (evaluations > 1)}: {best.method} by {best.sampler}, "
                    f"{best.error:.4f}, {times} the {heun.error:.4f} of heun in {heun.evaluations}"
                )
    return lines
