"""Which run goes on in a directory: the same one, or a longer one; not one with another teacher."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fewstep.core.parameterisations import Edm, Parameterised, Targets
from fewstep.objectives import ConsistencyDistillation, Diffusion, DistributionMatching, Objective
from fewstep.training.calling import AtPrecision
from fewstep.training.checkpoints import AnotherRun
from fewstep.training.identity import identity
from fewstep.training.loop import train
from fewstep.training.optimizers import OptimizerConfig
from students import CPU, perceptron, student_of
from training_runs import CONFIG, Rows, curve, small_mlp, weights

STEADY = replace(CONFIG, images=40, log_every=1, optimizer=OptimizerConfig(warmup=3))


def run(out: Path, objective: Objective | None = None, **settings: Any) -> torch.Tensor:
    config = replace(STEADY, **settings)
    return weights(train(small_mlp(), Edm(), objective or Diffusion(), Rows((2,)), config, out))


def test_a_run_with_more_images_goes_on_and_ends_as_the_longer_run(tmp_path: Path) -> None:
    """Bit for bit, where nothing depends on the length of training."""
    run(tmp_path / "grown", images=40)
    grown = run(tmp_path / "grown", images=80)
    assert torch.equal(grown, run(tmp_path / "whole", images=80))
    assert len(curve(tmp_path / "grown", "loss")) == 20, "the first ten steps are not done again"


def test_what_depends_on_the_length_is_that_of_the_longer_run_from_there_on(tmp_path: Path) -> None:
    falling = OptimizerConfig(warmup=3, decay_from=0.5)
    run(tmp_path / "grown", images=40, optimizer=falling)
    run(tmp_path / "grown", images=80, optimizer=falling)
    run(tmp_path / "whole", images=80, optimizer=falling)
    grown, whole = (curve(tmp_path / name, "rate") for name in ("grown", "whole"))
    assert grown[9] < 0.2 * whole[9], "the shorter run's rate had fallen"
    assert grown[10:] == whole[10:]


def test_a_run_with_fewer_images_is_another(tmp_path: Path) -> None:
    run(tmp_path, images=80)
    with pytest.raises(AnotherRun, match=r"training\.images was 80, now 40"):
        run(tmp_path, images=40)


def test_going_on_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(tmp_path, images=40)
    with caplog.at_level(logging.INFO):
        run(tmp_path, images=80)
    assert "training.images is 80 now, was 40" in caplog.text


def teacher(seed: int, precision: Any = "float32") -> Parameterised:
    network = perceptron(seed).requires_grad_(False)
    return Parameterised(AtPrecision(network, CPU, precision), Edm())


def distilled(seed: int) -> Objective:
    return ConsistencyDistillation(teacher(seed))


def matched(seed: int) -> Objective:
    return DistributionMatching(teacher(seed), student_of(perceptron(seed), Targets.SAME))


@pytest.mark.parametrize("objective", [distilled, matched])
def test_another_teachers_weights_are_refused(objective: Any, tmp_path: Path) -> None:
    run(tmp_path, objective(0))
    run(tmp_path, objective(0))
    with pytest.raises(AnotherRun, match=r"objective\.teacher\.network\.network\.frozen was [0-9a-f]{64}, now "):
        run(tmp_path, objective(1))


def test_a_network_that_learns_is_no_fact_of_a_run() -> None:
    one, other = (identity(student_of(perceptron(seed), Targets.SAME)) for seed in (0, 1))
    assert one == other
    assert identity(teacher(0)) != identity(teacher(1))
    assert identity(teacher(0)) == identity(teacher(0, "bf16")), "how it is called does not matter"
