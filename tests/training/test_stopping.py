"""Ctrl-C and SIGTERM: the step is finished, a checkpoint written, and the same command goes on from there."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from fewstep.core.parameterisations import Edm
from fewstep.training import checkpoints, reporting
from fewstep.training.loop import TrainingState, train
from fewstep.training.stopping import StopRequests
from training_runs import (
    CONFIG,
    INTERRUPTED,
    Processes,
    Rows,
    Signalled,
    everything,
    run_signalled,
    small_mlp,
)

QUIETLY = replace(CONFIG, images=40, checkpoint_every=100)


def kept(run: Path) -> list[str]:
    return [found.name for found in checkpoints.found(run / "checkpoints")]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_step_is_finished_and_the_run_goes_on_to_the_bit(number: int, code: int, tmp_path: Path) -> None:
    processes = Processes()
    source = Signalled((2,), numbers=(number,))
    assert processes.run(run_signalled, tmp_path / "run", source) == code
    said = (tmp_path / "run" / "said").read_text(encoding="utf-8")
    assert said == "stopped after step 4 of 10, with a checkpoint: the same command goes on from there"
    assert kept(tmp_path / "run") == ["step-00000004"]
    assert processes.run(run_signalled, tmp_path / "run", source) == 0
    assert processes.run(run_signalled, tmp_path / "whole", replace(source, at=-1)) == 0
    resumed, whole = (load_file(tmp_path / run / "result.safetensors") for run in ("run", "whole"))
    for name, value in whole.items():
        assert torch.equal(value, resumed[name])


def test_a_second_signal_interrupts_at_once(tmp_path: Path) -> None:
    source = Signalled((2,), numbers=(signal.SIGINT, signal.SIGTERM))
    assert Processes().run(run_signalled, tmp_path, source) == INTERRUPTED
    assert kept(tmp_path) == []


def test_a_signal_in_the_last_step_changes_nothing(tmp_path: Path) -> None:
    assert Processes().run(run_signalled, tmp_path, Signalled((2,), at=9)) == 0
    assert kept(tmp_path) == ["step-00000010"]


def test_signals_that_are_ignored_stay_so_and_other_threads_have_none() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with StopRequests() as stop:
            signal.raise_signal(signal.SIGTERM)
        assert stop.asked is None
    finally:
        signal.signal(signal.SIGTERM, before)
    handlers: list[Any] = []

    def elsewhere() -> None:
        with StopRequests():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGINT)]


def test_the_command_says_how_to_go_on(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HEARS_CTRL_C, "fewstep", "train", "toy", "--out", str(tmp_path / "run")]
    options = ["--teacher.log-every", "5", "--teacher.checkpoint-every", "0", "--teacher.preview-every", "0"]
    options += ["--teacher.images", "102400", "--student.images", "10240"]  # ends in any case
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if " step 5 of" in line and "loss" in line:
                process.send_signal(signal.SIGINT)
        process.wait()
    assert process.returncode == 130, said
    assert "the same command goes on from there" in said[-1]
    assert any("the teacher: " in line for line in said)
    assert any("stopping after this step; once more to stop at once" in line for line in said)
    assert not any("Traceback" in line for line in said)


HEARS_CTRL_C = """
import signal, sys, runpy
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = sys.argv[1:]
runpy.run_module("fewstep", run_name="__main__")
"""


def test_a_run_that_died_in_its_last_previews_draws_them_when_it_is_resumed(tmp_path: Path) -> None:
    drawn: list[int] = []

    def preview(state: TrainingState) -> dict[str, Any]:
        drawn.append(state.clock.step)
        if len(drawn) == 1:
            raise RuntimeError("killed")
        return {"picture": Image.new("RGB", (4, 4))}

    for _ in range(2):
        try:
            train(small_mlp(), Edm(), everything(), Rows((2,)), QUIETLY, tmp_path, [preview])
        except RuntimeError:
            continue
    train(small_mlp(), Edm(), everything(), Rows((2,)), QUIETLY, tmp_path, [preview])  # finished: nothing more
    assert drawn == [10, 10]
    assert (tmp_path / "previews" / "picture-00000010.png").is_file()


def test_without_a_terminal_a_line_is_printed_now_and_then(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "QUIET", 0.0)
    with caplog.at_level(logging.INFO):
        train(small_mlp(), Edm(), everything(), Rows((2,)), QUIETLY, tmp_path)
    assert sum("images/s" in message for message in caplog.messages) == 10
