"""The same network, batch, levels and noise give the loss and the gradients that the authors' code gives, to 1e-5.

parity.npz was made outside this repository by importing one file of each of these repositories, its other imports
replaced by empty modules and its random draws by the numbers that the file keeps, in float64:

- openai/consistency_models e32b69e, cm/karras_diffusion.py: `KarrasDenoiser.consistency_losses`, loss_norm "l2", 18 levels,
  with the teacher's Heun (CD, weight "karras") and without a teacher (CT, weight "uniform");
- locuslab/ect 4311059, training/loss.py: `ECMLoss`, q = 2, at its stages 0 and 3, c = 0 and 0.06;
- NVlabs/FastGen 34f30e8, fastgen/methods/consistency_model/sCM.py: `_jvp` and `_scm_pred_to_loss`, with
  g_norm_spatial_invariance (the root mean square as norm), without the weights 1/σ and 1/dim, logvar 0; the paper
  (2410.11081) weighs neither by 1/σ, and has 1/dim, which is the mean that is taken anyway;
- Gsunshine/py-meanflow 1f6d72d, meanflow/models/meanflow.py: `MeanFlow.forward_with_loss`, norm_eps 0.01 and norm_p 1,
  0.75, 0; the loss of each sample from batches of one.

The truncated consistency model is of no such repository: make_tcm_parity.py, beside this file, computes it from the
published formula with NumPy alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fewstep.core.arrays import Array
from fewstep.core.parameterisations import Edm, Estimator, Parameterisation, Parameterised, Targets, Velocity
from fewstep.objectives import (
    Batch,
    ConsistencyDistillation,
    ConsistencyTraining,
    ContinuousConsistency,
    EasyConsistency,
    MeanFlow,
    Objective,
    TruncatedConsistency,
)
from fewstep.objectives.curricula import Clock, EctGap
from fewstep.objectives.distances import Norm, PseudoHuber, Squared
from fewstep.objectives.times import LogNormal, Rng
from students import Dictated

KEPT = {name: torch.from_numpy(values) for name, values in np.load(Path(__file__).parent / "parity.npz").items()}
DATA, NOISE = KEPT["data"], KEPT["noise"]
PARTS = ("w1", "from_at", "from_to", "b", "w2")


class Raw(nn.Module):
    """The little network: w2·tanh(w1·x + sin(at)·from_at + sin(to)·from_to + b), or without `to`."""

    def __init__(self, role: str, to: bool = False) -> None:
        super().__init__()
        self.weights = nn.ParameterDict({part: KEPT[f"{role}.{part}"].clone() for part in PARTS})
        self.to_too = to

    def forward(self, x: Tensor, at: Tensor, to: Tensor, cond: Any) -> Tensor:
        w = self.weights
        hidden = x.flatten(1) @ w["w1"].T + at.sin()[:, None] * w["from_at"] + w["b"]
        if self.to_too:
            hidden = hidden + to.sin()[:, None] * w["from_to"]
        return (hidden.tanh() @ w["w2"].T).reshape(x.shape)


@dataclass(frozen=True)
class TheseTimes:
    """Pairs that were drawn elsewhere."""

    def sample(self, rng: Rng, size: int) -> tuple[Array, Array]:
        return KEPT["t"], KEPT["r"]


@dataclass(frozen=True)
class TheseRatios:
    """Noise levels that were drawn elsewhere."""

    def sample(self, rng: Rng, size: int) -> Array:
        return KEPT["tcm_ratio"]


@dataclass
class Case:
    """How our objective is set to be theirs.

    Args:
        objective: made of the teacher's estimator.
        read: how the student's output is read.
        teacher: how the teacher's is.
        clock: where training stands.
        normals, uniforms: the draws before, and beside, the noise.
        own: whether the target is the student itself.
        to: whether the network looks at `to`.
    """

    objective: Callable[[Estimator], Objective]
    read: Parameterisation
    teacher: Parameterisation = field(default_factory=Edm)
    clock: Clock = field(default_factory=lambda: Clock(0, 8))
    normals: tuple[Tensor, ...] = ()
    uniforms: tuple[Tensor, ...] = ()
    own: bool = True
    to: bool = False


DIM = DATA[0].numel()
OPENAI = {"own": False, "read": Edm(0.5, 0.002, "thousand_quarter_log"), "uniforms": ((16.5 - KEPT["indices"]) / 17,)}
ECT = {"read": Edm(time="quarter_log"), "normals": (KEPT["ect_normal"],)}
SCM = {"read": Edm(), "normals": (KEPT["sigma"].log(),), "clock": Clock(9_999, 20_000)}
MEAN = {"read": Velocity(), "to": True}


def mean_squared(a: Array, b: Array) -> Array:
    return Squared()(a, b) / DIM


def karras_weight(t: Tensor) -> Tensor:
    return 1 / t**2 + 1 / 0.5**2


def scm(teacher: Estimator | None = None) -> Objective:
    return ContinuousConsistency(teacher, LogNormal(0.0, 1.0), weight=None)


def ect(distance: Any) -> Objective:
    return EasyConsistency(gap=EctGap(q=2.0, stages=8), distance=distance, dropout=False)


CASES: dict[str, Case] = {
    "CD": Case(
        lambda teacher: ConsistencyDistillation(
            teacher, variable="ratio", jitter=False, distance=mean_squared, weight=lambda t, r: karras_weight(t)
        ),
        teacher=Edm(time="thousand_quarter_log"),
        **OPENAI,
    ),
    "CT": Case(lambda teacher: ConsistencyTraining.ct(mean_squared, levels=lambda clock: 18), **OPENAI),
    "ECT": Case(lambda teacher: ect(Norm(1e-24)), **ECT),
    "ECT, later": Case(lambda teacher: ect(Norm(1e-24)), clock=Clock(3, 8), **ECT),
    "ECT, Huber": Case(lambda teacher: ect(PseudoHuber(0.06)), clock=Clock(3, 8), **ECT),
    "TCM": Case(
        lambda teacher: TruncatedConsistency(
            Parameterised(Raw("teacher"), Edm(time="quarter_log"), Targets.CLEAN),
            density=TheseRatios(),
            distance=PseudoHuber(0.06),
        ),
        read=Edm(time="quarter_log"),
        uniforms=(KEPT["tcm_uniform"],),
    ),
    "sCT": Case(lambda teacher: scm(), **SCM),
    "sCT, warming up": Case(lambda teacher: scm(), **{**SCM, "clock": Clock(2_499, 20_000)}),
    "sCD": Case(lambda teacher: scm(teacher), **SCM),
    "MeanFlow": Case(lambda teacher: MeanFlow(TheseTimes()), **MEAN),
    "MeanFlow, pixels": Case(lambda teacher: MeanFlow(TheseTimes(), power=0.75), **MEAN),
    "MeanFlow, plain": Case(lambda teacher: MeanFlow(TheseTimes(), power=0.0), **MEAN),
}


def test_every_case_that_was_made_is_checked() -> None:
    assert {name.split("/")[0] for name in KEPT if "/" in name} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradients_are_the_authors(name: str) -> None:
    case = CASES[name]
    network = Raw("student", case.to)
    teacher = Parameterised(Raw("teacher"), case.teacher)
    objective = case.objective(teacher)
    student = Parameterised(network, case.read, objective.targets)
    target = student if case.own else Parameterised(Raw("target"), case.read, Targets.CLEAN)
    rng = Dictated([*case.normals, NOISE], list(case.uniforms))
    loss = objective(student, target, Batch(DATA), case.clock, rng)
    torch.testing.assert_close(loss.per_sample, KEPT[f"{name}/loss"], rtol=1e-5, atol=1e-8)
    loss.value.backward()
    for part, weight in network.weights.items():
        theirs = KEPT[f"{name}/gradient.{part}"]
        ours = torch.zeros_like(theirs) if weight.grad is None else weight.grad
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-8)
