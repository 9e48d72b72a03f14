"""`fewstep bench methods`: rows, summary and picture; rows that were kept are shown again without training."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fewstep.cli.output import write_json
from fewstep.lab.method_rows import MethodRow, read_rows, summary

ROW = MethodRow(
    "diffusion", "mixture", "heun", 4, 7, (80.0,), (0,), (0.02,), 500, None, "distance", 1500, 512, 1536, 1536
)


def test_a_comparison_is_printed_drawn_and_kept(run: Any, tmp_path: Path) -> None:
    rows, drawn, again = (tmp_path / name for name in ("rows.json", "drawn.png", "again.png"))
    trained = run(
        *("bench", "methods", "--short", "--data", "mixture", "--methods", "diffusion,lagrangian_flow_map"),
        *("--evaluations", 4_000, "--json", rows, "--plot", drawn),
    )
    assert trained.code == 0, trained
    assert "mixture, 1 evaluation: lagrangian_flow_map by consistency" in trained.out
    kept = json.loads(rows.read_text())
    assert {(row["method"], row["evaluations"]) for row in kept} == {
        *(("diffusion", n) for n in (7, 8, 19, 20, 39, 40)),
        *(("lagrangian_flow_map", n) for n in (1, 2, 4)),
    }
    assert {row["error"] for row in kept} == {row["errors"][0] for row in kept}
    shown = run("bench", "methods", "--read", rows, "--plot", again)
    assert shown.code == 0, shown
    table = shown.out.replace(str(again), "")
    assert table.strip() in trained.out.replace(str(drawn), "")
    with Image.open(drawn) as one, Image.open(again) as other:
        assert one.tobytes() == other.tobytes()


def test_the_table_has_a_line_a_method_and_sampler_and_a_column_a_number_of_evaluations(
    run: Any, tmp_path: Path
) -> None:
    few = replace(ROW, method="mean_flow", sampler="consistency", steps=1, evaluations=1, seeds=(0, 1), to_flow=0.5)
    rows = [
        ROW,
        replace(ROW, sampler="dpm_solver", steps=8, evaluations=8),
        replace(few, errors=(0.1, 0.3)),
        replace(few, sampler="flow_map", steps=4, evaluations=4, errors=(2.0, 4.0), to_flow=0.25),
    ]
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([row.as_json() for row in rows]))
    lines = [line.split() for line in run("bench", "methods", "--read", file).out.splitlines()]
    assert lines[:8] == [
        ["data", "method", "sampler", "1", "4", "to", "flow", "images", "trained"],
        ["mixture", "mean_flow", "consistency", "0.200", "±", "0.141", "0.500", "0.00", "M", "0.00", "M"],
        ["mixture", "mean_flow", "flow_map", "3.00", "±", "1.41", "0.250", "0.00", "M", "0.00", "M"],
        [],
        ["data", "method", "sampler", "7", "or", "8", "to", "flow", "images", "trained"],
        ["mixture", "diffusion", "heun", "0.0200", "0.00", "M", "0.00", "M"],
        ["mixture", "diffusion", "dpm_solver", "0.0200", "0.00", "M", "0.00", "M"],
        [],
    ]


def test_what_is_done_is_kept_when_the_next_is_stopped(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*given: Any) -> Iterator[list[MethodRow]]:
        yield [ROW]
        raise KeyboardInterrupt

    monkeypatch.setattr("fewstep.lab.comparison.compare", stopped)
    rows = tmp_path / "rows.json"
    assert run("bench", "methods", "--short", "--json", rows).code == 130
    assert read_rows([rows]) == [ROW]


def test_seeds_of_different_files_are_joined(tmp_path: Path) -> None:
    two = [replace(ROW, to_flow=0.1), replace(ROW, seeds=(2, 1), errors=(0.04, 0.06), levels=(5.0,), to_flow=0.4)]
    files = [tmp_path / name for name in ("one.json", "other.json")]
    for file, row in zip(files, two, strict=True):
        file.write_text(json.dumps([row.as_json(), replace(row, budget=9).as_json()]))
    row, more_training = read_rows(files)
    assert (row.seeds, row.errors, row.levels) == ((0, 2, 1), (0.02, 0.04, 0.06), (80.0,))
    assert (row.error, row.spread, row.to_flow) == pytest.approx((0.04, 0.02, 0.3))
    assert replace(more_training, budget=ROW.budget) == row
    with pytest.raises(ValueError, match="seed 0 of diffusion on mixture occurs twice"):
        read_rows([files[0], files[0]])


def test_an_error_that_is_no_number_is_read_as_none(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    write_json(str(file), [replace(ROW, errors=(math.inf,)).as_json()])
    assert math.isnan(read_rows([file])[0].error)


def test_the_summary_names_the_best_beside_heun_in_most_evaluations() -> None:
    rows = [
        ROW,
        replace(ROW, evaluations=39, errors=(0.01,)),
        replace(ROW, method="one", sampler="consistency", evaluations=1, errors=(0.03,)),
        replace(ROW, method="other", sampler="flow_map", evaluations=1, errors=(0.02,)),
        replace(ROW, data="digits", method="other", sampler="flow_map", evaluations=1, errors=(0.01,)),
    ]
    assert summary(rows) == ["mixture, 1 evaluation: other by flow_map, 0.0200, 2.00 times the 0.0100 of heun in 39"]


def test_an_excess_that_is_not_above_0_has_no_multiples() -> None:
    one = replace(ROW, method="one", sampler="consistency", evaluations=1)
    assert summary([replace(ROW, errors=(-0.0002,)), one])[0].endswith("0.0200, beside the -0.0002 of heun in 7")


@pytest.mark.parametrize("text", ["[", "{}", "[1]", '[{"method": "x"}]', '[{"levels": 3}]'])
def test_files_without_rows_are_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text(text)
    with pytest.raises(ValueError, match="does not hold rows of"):
        read_rows([file])
