"""The same command run again goes on, bit for bit, whenever and however it was killed; and a run does not depend on
how processes and micro-batches divide a step."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fewstep.core.parameterisations import Edm
from fewstep.training import checkpoints
from fewstep.training.loop import TrainingState, train
from fewstep.training.optimizers import OptimizerConfig
from objective_cases import TABLE, World
from training_runs import (
    CONFIG,
    Death,
    Processes,
    Rows,
    before_the_rename,
    curve,
    everything,
    in_a_step,
    removing_an_old_one,
    run_differentiating,
    run_matching,
    run_mlp,
    run_unet,
    small_mlp,
    weights,
    writing_a_file,
)

# Muon rounds to bfloat16, which would hide what these compare
EXACT = replace(CONFIG, optimizer=OptimizerConfig(kind="adamw", warmup=3, decay_from=0.5))


@pytest.fixture(scope="module")
def processes() -> Processes:
    return Processes()


def _bytes(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def test_a_run_killed_again_and_again_ends_bit_for_bit_as_one_that_never_was(
    processes: Processes, tmp_path: Path
) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    assert processes.run(run_unet, undisturbed) == 0
    # a checkpoint is five files and the directory; student and average are updated once a step, the target too
    deaths = [
        (Death(in_a_step, 3), []),  # in step 1, nothing saved yet
        (Death(writing_a_file, 2), []),  # in the first checkpoint
        (Death(in_a_step, 2 * 5), [4]),  # in step 5
        (Death(before_the_rename, 6), [4]),  # in the checkpoint of step 8, whole but not renamed
        (Death(removing_an_old_one, 2), [8, 12]),  # the start removes a leftover; then that of step 4 goes
        (Death(writing_a_file, 4), [8, 12]),  # in the last one
    ]
    for death, expected in deaths:
        assert processes.run(run_unet, killed, death=death) == -signal.SIGKILL
        found = checkpoints.found(killed / "checkpoints")
        assert [int(path.name.removeprefix("step-")) for path in found] == expected
        assert not (killed / "result.safetensors").exists()
    assert list((killed / "checkpoints").glob(".writing-*")), "something must be left over for the next start"
    assert processes.run(run_unet, killed) == 0
    assert not list((killed / "checkpoints").glob(".*"))
    names = [path.name for path in sorted((undisturbed / "checkpoints").iterdir())]
    assert names == ["step-00000012", "step-00000016"]
    assert [path.name for path in sorted((killed / "checkpoints").iterdir())] == names
    for name in names:
        ours, theirs = (_bytes(run / "checkpoints" / name) for run in (killed, undisturbed))
        assert ours == theirs, f"checkpoint {name} differs"
    assert (killed / "result.safetensors").read_bytes() == (undisturbed / "result.safetensors").read_bytes()
    moved = load_file(killed / "result.safetensors")["head.weight"]
    assert float(moved.abs().max()) > 0


def test_a_finished_run_trains_no_further_and_gives_the_same_average(tmp_path: Path) -> None:
    config = replace(CONFIG, images=16)
    first = weights(train(small_mlp(), Edm(), everything(), Rows((2,)), config, tmp_path))
    before = _bytes(tmp_path / "checkpoints" / "step-00000004")
    again = weights(train(small_mlp(1), Edm(), everything(1), Rows((2,)), config, tmp_path))
    assert torch.equal(again, first)
    assert _bytes(tmp_path / "checkpoints" / "step-00000004") == before


@pytest.mark.parametrize("name", TABLE)
def test_a_stopped_run_ends_bit_for_bit_as_one_that_never_was(name: str, tmp_path: Path) -> None:
    config = replace(CONFIG, images=32, batch=8, checkpoint_every=1)

    def run(out: Path, seed: int = 0, stopped_at: int = 0) -> Path:
        objective: Any = replace(TABLE[name].make(World()), dropout=True)  # type: ignore[type-var]
        settings = replace(config, preview_every=stopped_at)
        train(small_mlp(seed), Edm(), objective, Rows((2,)), settings, out, [stop] if stopped_at else [])
        return out / "checkpoints" / "step-00000004"

    def stop(state: TrainingState) -> dict[str, float]:
        raise InterruptedError

    undisturbed = run(tmp_path / "undisturbed")
    with pytest.raises(InterruptedError):
        run(tmp_path / "stopped", stopped_at=2)
    # from other weights, as it were: those that it began with must not matter any more
    assert _bytes(run(tmp_path / "stopped", seed=1)) == _bytes(undisturbed)
    student = load_file(undisturbed / "student.safetensors")["head.weight"]
    assert not torch.equal(student, small_mlp().head.weight)


def test_two_processes_give_the_result_of_one_with_the_double_batch(processes: Processes, tmp_path: Path) -> None:
    """Weights, target network, extra module and averages; the second process even starts from other weights."""
    shared, alone = tmp_path / "shared", tmp_path / "alone"
    assert processes.run_together(2, run_mlp, shared, replace(EXACT, images=48, batch=3)) == [0, 0]
    assert processes.run(run_mlp, alone, replace(EXACT, images=48, batch=6)) == 0
    for file in ("student", "average", "target", "weight"):
        ours, theirs = (
            load_file(run / "checkpoints" / "step-00000008" / f"{file}.safetensors") for run in (shared, alone)
        )
        for name in theirs:
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=2e-5)
    results = [load_file(run / "result.safetensors")["head.weight"] for run in (shared, alone)]
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=2e-5)


def test_what_learns_by_its_own_derivative_shares_gradients_too(processes: Processes, tmp_path: Path) -> None:
    """The derivative is taken of the bare network: two processes must still learn what one does."""
    shared, alone = tmp_path / "shared", tmp_path / "alone"
    assert processes.run_together(2, run_differentiating, shared, replace(EXACT, images=48, batch=3)) == [0, 0]
    assert processes.run(run_differentiating, alone, replace(EXACT, images=48, batch=6)) == 0
    for file in ("student", "average", "weight"):
        ours, theirs = (
            load_file(run / "checkpoints" / "step-00000008" / f"{file}.safetensors") for run in (shared, alone)
        )
        for name in theirs:
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-4)
    moved = load_file(alone / "result.safetensors")["head.weight"]
    assert float(moved.abs().max()) > 1e-3


def test_a_network_beside_the_student_shares_its_gradients_in_its_own_rhythm(
    processes: Processes, tmp_path: Path
) -> None:
    shared, alone = tmp_path / "shared", tmp_path / "alone"
    assert processes.run_together(2, run_matching, shared, replace(EXACT, images=48, batch=3)) == [0, 0]
    assert processes.run(run_matching, alone, replace(EXACT, images=48, batch=6)) == 0
    for file in ("student", "average", "fake"):
        ours, theirs = (
            load_file(run / "checkpoints" / "step-00000008" / f"{file}.safetensors") for run in (shared, alone)
        )
        for name in theirs:
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-4)
        assert float(theirs["head.weight"].abs().max()) > 1e-3


def test_what_learns_by_its_own_derivative_resumes_bit_for_bit(processes: Processes, tmp_path: Path) -> None:
    undisturbed, killed, half = tmp_path / "undisturbed", tmp_path / "killed", replace(EXACT, precision="bf16")
    assert processes.run(run_differentiating, undisturbed, half) == 0
    assert processes.run(run_differentiating, killed, half, death=Death(in_a_step, 6)) == -signal.SIGKILL
    assert processes.run(run_differentiating, killed, half) == 0
    assert (killed / "result.safetensors").read_bytes() == (undisturbed / "result.safetensors").read_bytes()


def test_two_micro_batches_give_the_result_of_one_of_the_double_size(tmp_path: Path) -> None:
    common = replace(EXACT, images=128, log_every=1)
    whole, divided = (
        weights(train(small_mlp(), Edm(), everything(), Rows((2,)), config, tmp_path / str(config.accumulate)))
        for config in (replace(common, batch=32), replace(common, batch=16, accumulate=2))
    )
    torch.testing.assert_close(divided, whole, rtol=1e-4, atol=2e-5)
    start = weights(small_mlp())
    assert float((whole - start).abs().max()) > 1e-3
    for name in ("loss", "gradient_norm"):  # an adaptive step would hide a gradient of another size
        assert curve(tmp_path / "2", name) == pytest.approx(curve(tmp_path / "1", name), rel=1e-3)
