"""A strategy owns how networks are wrapped, measured, averaged and saved; nothing else of training asks how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from fewstep.core.parameterisations import Edm
from fewstep.objectives import Objective
from fewstep.training.checkpoints import Stateful
from fewstep.training.loop import train
from fewstep.training.strategy import Replicate
from objective_cases import TABLE, World
from training_runs import CONFIG, Rows, small_mlp, weights


class Wrapped(nn.Module):
    """What shares gradients between processes, as it behaves: no tangent passes through it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.calls = 0

    def forward(self, x: Tensor, at: Tensor, to: Tensor, cond: Any) -> Tensor:
        if forward_ad.unpack_dual(x).tangent is not None:
            raise RuntimeError("forward mode through a wrapper")
        assert torch.is_grad_enabled(), "only the loss goes through the wrapper"
        self.calls += 1
        output: Tensor = self.network(x, at, to, cond)
        return output


class Watched(Replicate):
    """A copy in each process, which keeps account of what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.wrappers: list[Wrapped] = []
        self.clipped: list[float] = []
        self.updates = 0
        self.saved: list[nn.Module] = []

    def wrap(self, network: nn.Module) -> nn.Module:
        self.wrappers.append(Wrapped(super().wrap(network)))
        return self.wrappers[-1]

    def clip(self, parameters: Sequence[nn.Parameter], limit: float) -> Tensor:
        self.clipped.append(limit)
        return super().clip(parameters, limit)

    def update(self, average: nn.Module, network: nn.Module, decay: float) -> None:
        self.updates += 1
        super().update(average, network, decay)

    def state(self, network: nn.Module, of: nn.Module) -> Stateful:
        self.saved.append(network)
        return super().state(network, of)


CONFIG = replace(CONFIG, images=16, batch=8, checkpoint_every=0)
FORWARD = ["sCT, forward", "MeanFlow, forward"]
OTHERS = ["diffusion", "CD, EMA target", "TCM", "shortcut", "DMD2", "DMD2, own score"]


@pytest.mark.parametrize("name", FORWARD + OTHERS)
def test_the_loss_goes_through_the_wrapper_and_all_else_around_it(name: str, tmp_path: Path) -> None:
    def run(out: Path, strategy: Replicate | None) -> Tensor:
        objective: Objective = TABLE[name].make(World())
        return weights(train(small_mlp(), Edm(), objective, Rows((2,)), CONFIG, out, strategy=strategy))

    watched = Watched()
    average = run(tmp_path / "watched", watched)
    assert torch.equal(average, run(tmp_path / "plain", None))
    (wrapper,) = watched.wrappers
    assert wrapper.calls > 0


def test_norms_averages_and_states_are_the_strategys(tmp_path: Path) -> None:
    watched = Watched()
    objective = TABLE["CD, EMA target"].make(World())
    average = train(small_mlp(), Edm(), objective, Rows((2,)), CONFIG, tmp_path, strategy=watched)
    assert watched.clipped == [CONFIG.clip] * 2
    assert watched.updates == 2 * 2, "the average and the target, in two steps"
    assert average in watched.saved
