"""Contestants in processes of their own."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from fewstep.engines.errors import EngineError
from fewstep.lab.engines import measure_engines
from fewstep.lab.turns import TurnError, Turns, in_turn
from tiny_models import TinyModels


def test_contestants_answer_in_turn() -> None:
    code = "import sys\ndef answer(times): return [float(sys.argv[1])] * times"
    with Turns("a", code, "1") as one, Turns("b", code, "2") as two:
        assert in_turn({"a": one, "b": two}, 2, times=3) == {"a": [1.0] * 6, "b": [2.0] * 6}


@pytest.mark.parametrize("code", ["raise SystemExit('no luck')", "def answer(): raise ValueError('no luck')"])
def test_one_that_stops_says_its_last_words(code: str) -> None:
    with Turns("a", code) as turns, pytest.raises(TurnError, match=r"a: .*no luck"):
        turns.ask()


def test_one_that_complains_at_length_still_answers() -> None:
    code = "import sys\ndef answer():\n    print('no' * 200_000, file=sys.stderr)\n    return 1"
    with Turns("a", code) as turns:
        stopped = threading.Timer(20, turns._process.kill)
        stopped.start()
        assert turns.ask() == 1
        stopped.cancel()


def test_a_model_that_no_engine_runs_is_told(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(EngineError, match="no engine runs the model"):
        measure_engines(str(tmp_path), rounds=1, progress=said.append)
    assert any("onnx float32: " in text and "no model in" in text for text in said)


def test_every_installed_engine_is_measured_beside_eager(tiny: TinyModels) -> None:
    said: list[str] = []
    rows = {
        (row.engine, row.precision): row
        for row in measure_engines(str(tiny.points.directory), threads=1, rounds=1, progress=said.append)
    }
    assert {engine for engine, _ in rows} == {"onnx", "openvino", "eager", "compiled"}
    assert rows["eager", "float32"].max_pixel_difference == 0
    assert all(row.max_pixel_difference < 2 / 255 for (_, precision), row in rows.items() if precision == "float32")
    assert all(row.ms_batch1 > 0 and row.images_per_s_batch32 > 0 and row.memory_mb > 10 for row in rows.values())
    assert all("bfloat16" in text for text in said)  # the one thing that a CPU may lack
