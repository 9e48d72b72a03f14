"""Contestants in processes of their own."""

from __future__ import annotations

import pytest

from fewstep.evaluation.engines import measure_engines
from fewstep.evaluation.turns import TurnError, Turns, in_turn
from tiny_models import TinyModels


def test_contestants_answer_in_turn() -> None:
    code = "import sys\ndef answer(times): return [float(sys.argv[1])] * times"
    with Turns("a", code, "1") as one, Turns("b", code, "2") as two:
        assert in_turn({"a": one, "b": two}, 2, times=3) == {"a": [1.0] * 6, "b": [2.0] * 6}


@pytest.mark.parametrize("code", ["raise SystemExit('no luck')", "def answer(): raise ValueError('no luck')"])
def test_one_that_stops_says_its_last_words(code: str) -> None:
    with Turns("a", code) as turns, pytest.raises(TurnError, match=r"a: .*no luck"):
        turns.ask()


def test_every_installed_engine_is_measured_beside_eager(tiny: TinyModels) -> None:
    said: list[str] = []
    rows = {
        (row.engine, row.precision): row
        for row in measure_engines(str(tiny.points.directory), threads=1, rounds=1, say=said.append)
    }
    assert {engine for engine, _ in rows} == {"onnx", "openvino", "eager", "compiled"}
    assert rows["eager", "float32"].max_pixel_difference == 0
    assert all(row.max_pixel_difference < 2 / 255 for (_, precision), row in rows.items() if precision == "float32")
    assert all(row.ms_batch1 > 0 and row.images_per_s_batch32 > 0 and row.memory_mb > 10 for row in rows.values())
    assert all("bfloat16" in text for text in said)  # the one thing that a CPU may lack
