"""What was measured decides what `auto` takes, and it says so."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from fewstep.engines import table
from fewstep.engines.machine import cores
from fewstep.engines.table import Measured
from fewstep.generation import load
from tiny_models import TinyModels


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def row(engine: str, precision: str, milliseconds: float, difference: float = 0.0) -> Measured:
    return Measured(engine, precision, milliseconds, 100.0, 120.0, 1.0, 100.0, difference, difference)


def test_without_a_table_it_takes_onnx_and_says_why(tiny: TinyModels, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert table.choose(tiny.student) == ("onnx", "float32")
    assert (
        "onnx float32, since nothing was measured here for this model: run 'fewstep bench engines MODEL'"
        in caplog.text
    )


def test_a_table_belongs_to_a_device(tiny: TinyModels) -> None:
    table.keep(tiny.student, [row("onnx", "float32", 5.0), row("eager", "float32", 1.0)], "cuda")
    assert table.choose(tiny.student) == ("onnx", "float32")  # not for what eager does on the GPU
    assert table.choose(tiny.student, device="cuda") == ("eager", "float32")


def test_a_table_belongs_to_a_number_of_threads(tiny: TinyModels, caplog: pytest.LogCaptureFixture) -> None:
    table.keep(tiny.student, [row("eager", "float32", 1.0)], threads=3)
    with caplog.at_level(logging.WARNING):
        assert table.choose(tiny.student, threads=2) == ("onnx", "float32")
    assert "nothing was measured here for this model: run 'fewstep bench engines MODEL --threads 2'" in caplog.text
    assert table.choose(tiny.student, threads=3) == ("eager", "float32")
    assert table.place(tiny.student, threads=cores()) == table.place(tiny.student)


def test_only_engines_that_can_use_the_device_are_taken(tiny: TinyModels, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert table.choose(tiny.student, device="cuda") == ("eager", "float32")
    assert (
        "eager float32, since nothing was measured here for this model: run 'fewstep bench engines MODEL --device cuda'"
        in caplog.text
    )
    table.keep(tiny.student, [row("onnx", "float32", 1.0), row("compiled", "float32", 9.0)], "cuda")
    assert table.choose(tiny.student, device="cuda") == ("compiled", "float32")
    with pytest.raises(ValueError, match="no engine computes in bfloat16 on the device 'cuda'"):
        table.choose(tiny.student, "bfloat16", "cuda")


def test_a_table_without_the_precision_is_not_passed_off_as_none(
    tiny: TinyModels, caplog: pytest.LogCaptureFixture
) -> None:
    table.keep(tiny.student, [row("onnx", "float32", 5.0)])
    with caplog.at_level(logging.WARNING):
        assert table.choose(tiny.student, "bfloat16") == ("openvino", "bfloat16")
    assert "'fewstep bench engines MODEL' measured no installed engine in bfloat16" in caplog.text


def test_a_table_of_other_images_only_is_not_passed_off_as_none(
    tiny: TinyModels, caplog: pytest.LogCaptureFixture
) -> None:
    table.keep(tiny.student, [row("openvino", "float32", 5.0, 0.5)])
    with caplog.at_level(logging.WARNING):
        assert table.choose(tiny.student) == ("onnx", "float32")
    assert "none of the engines measured by 'fewstep bench engines MODEL' draws the same image" in caplog.text


def test_it_takes_the_fastest_that_draws_the_same_image(tiny: TinyModels, caplog: pytest.LogCaptureFixture) -> None:
    table.keep(
        tiny.student,
        [row("onnx", "float32", 5.0), row("openvino", "float32", 4.0), row("openvino", "bfloat16", 2.0, 0.02)],
        threads=1,
    )
    with caplog.at_level(logging.WARNING):
        assert table.choose(tiny.student, threads=1) == ("openvino", "float32")
    assert "openvino float32, 4.0 ms at batch 1 (onnx float32 5.0, openvino bfloat16 2.0)" in caplog.text
    assert load(tiny.student.directory, "auto", threads=1).engine == "openvino"


def test_asked_for_a_precision_it_takes_the_fastest_of_that(tiny: TinyModels) -> None:
    table.keep(tiny.student, [row("onnx", "float32", 1.0), row("openvino", "bfloat16", 2.0, 0.02)])
    assert table.choose(tiny.student, "bfloat16") == ("openvino", "bfloat16")


def test_an_engine_that_was_removed_since_is_passed_over(tiny: TinyModels) -> None:
    table.keep(tiny.student, [row("onnx", "float32", 5.0), row("warp", "float32", 1.0)])
    assert table.choose(tiny.student) == ("onnx", "float32")


def test_a_table_belongs_to_a_network_of_one_shape(tiny: TinyModels) -> None:
    table.keep(tiny.student, [row("eager", "float32", 1.0)])
    assert table.read(tiny.student) == [row("eager", "float32", 1.0)]
    assert table.read(tiny.teacher) is None


@pytest.mark.parametrize("content", ["", "[", "{}", '[{"engine": "onnx"}]', '[{"unknown": 1}]', "[1]"])
def test_a_damaged_table_counts_as_none(tiny: TinyModels, content: str) -> None:
    table.keep(tiny.student, [row("eager", "float32", 1.0)]).write_text(content, encoding="utf-8")
    assert table.choose(tiny.student) == ("onnx", "float32")
