"""Formula parity with flow matching on the linear path (2210.02747 eq. 23; 2209.03003 eq. 1)."""

from __future__ import annotations

import torch

from fewstep.core.parameterisations import Parameterised, Targets, Velocity
from fewstep.objectives import Batch, FlowMatching
from fewstep.objectives.curricula import Clock
from fewstep.objectives.times import LogitNormal
from students import Dictated


def test_the_loss_is_the_velocitys_squared_error() -> None:
    data, noise, z = (torch.randn(*shape, dtype=torch.float64) for shape in ((8, 5), (8, 5), (8,)))
    t = torch.sigmoid(0.3 + 0.8 * z)[:, None]
    x = (1 - t) * data + t * noise
    velocity = torch.sin(x) * (1 + t)
    expected = (velocity - (noise - data)).square().mean(dim=1)

    def network(x: torch.Tensor, at: torch.Tensor, to: torch.Tensor, cond: object) -> torch.Tensor:
        return torch.sin(x) * (1 + at[:, None])

    student = Parameterised(network, Velocity(), Targets.SAME)
    loss = FlowMatching(LogitNormal(0.3, 0.8))(student, student, Batch(data), Clock(0, 1), Dictated([z, noise]))
    torch.testing.assert_close(loss.per_sample, expected)
    torch.testing.assert_close(loss.at.sigma, t[:, 0])
    torch.testing.assert_close(loss.at.alpha, 1 - t[:, 0])


def test_the_default_density_is_the_standard_logit_normal() -> None:
    assert FlowMatching().density == LogitNormal(0.0, 1.0)
