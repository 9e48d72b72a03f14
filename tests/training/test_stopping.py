"""Ctrl-C and SIGTERM: the step is finished, a checkpoint written, and the same command goes on from there."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from fewstep.core.parameterisations import Edm
from fewstep.objectives import Batch
from fewstep.training import checkpoints, reporting
from fewstep.training.loop import TrainingState, TrainingStopped, train
from fewstep.training.stopping import StopRequests
from training_runs import CONFIG, Rows, everything, small_mlp

QUIETLY = replace(CONFIG, images=40, checkpoint_every=100)


@dataclass(frozen=True)
class Signalled(Rows):
    """Rows that send signals while the batch of a step is made."""

    at: int = 3
    numbers: tuple[int, ...] = (signal.SIGINT,)

    def stream(self, first: int, last: int, batch: int, rank: int, world: int) -> Iterator[Batch]:
        for step, rows in enumerate(super().stream(first, last, batch, rank, world), first):
            if step == self.at:
                for number in self.numbers:
                    signal.raise_signal(number)
            yield rows


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_step_is_finished_and_the_run_goes_on_to_the_bit(
    number: int, code: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(TrainingStopped, match=r"stopped after step 4 of 10, with a checkpoint: the same") as stopped:
        train(small_mlp(), Edm(), everything(), Signalled((2,), numbers=(number,)), QUIETLY, tmp_path / "run")
    assert stopped.value.code == code
    assert "stopping after this step; once more to stop at once" in caplog.text
    assert signal.getsignal(number) is before
    assert [found.name for found in checkpoints.found(tmp_path / "run" / "checkpoints")] == ["step-00000004"]
    # the same data, without the signal: a source's class is part of a run
    resumed = train(small_mlp(), Edm(), everything(), Signalled((2,), numbers=(number,)), QUIETLY, tmp_path / "run")
    whole = train(small_mlp(), Edm(), everything(), Signalled((2,), at=-1), QUIETLY, tmp_path / "whole")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])


def test_a_second_signal_interrupts_at_once(tmp_path: Path) -> None:
    source = Signalled((2,), numbers=(signal.SIGINT, signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt) as stopped:
        train(small_mlp(), Edm(), everything(), source, QUIETLY, tmp_path)
    assert not isinstance(stopped.value, TrainingStopped)
    assert checkpoints.found(tmp_path / "checkpoints") == []


def test_a_signal_in_the_last_step_changes_nothing(tmp_path: Path) -> None:
    train(small_mlp(), Edm(), everything(), Signalled((2,), at=9), QUIETLY, tmp_path)
    assert [found.name for found in checkpoints.found(tmp_path / "checkpoints")] == ["step-00000010"]


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
