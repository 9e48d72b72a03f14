"""Where MeanFlow meets other objectives, and what guidance makes of its target."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fewstep.core.parameterisations import Targets
from fewstep.objectives import Batch, FlowMapDistillation, FlowMatching, LearnedGuidance, MeanFlow
from fewstep.objectives.curricula import Clock
from fewstep.objectives.times import LogitNormal, TwoTimes
from objective_cases import points
from students import Dictated, perceptron, student_of

CLOCK = Clock(0, 10)
DATA = points(16).float()
NOISE, NORMALS = (torch.randn(shape, generator=torch.Generator().manual_seed(4)) for shape in ((16, 2), (16,)))
TOGETHER = TwoTimes(LogitNormal(-0.4, 1.0), apart=0.0)


def gradient(loss: Any, network: torch.nn.Module) -> Tensor:
    loss.value.backward()
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def test_where_both_times_are_one_it_is_flow_matching() -> None:
    results = []
    for objective, draws in (
        (FlowMatching(LogitNormal(-0.4, 1.0)), [NORMALS, NOISE]),
        (MeanFlow(TOGETHER, power=0.0), [NORMALS, NORMALS, NOISE]),
    ):
        network = perceptron()
        student = student_of(network, Targets.ANY)
        loss = objective(student, student, Batch(DATA), CLOCK, Dictated(draws, [torch.zeros(16)]))
        results.append((loss.per_sample, gradient(loss, network)))
    (matched, one), (meant, other) = results
    # the squared distance of a sample there is a sum, flow matching's a mean
    torch.testing.assert_close(meant / 2, matched)
    torch.testing.assert_close(other / 2, one, rtol=1e-4, atol=1e-5)


def test_with_a_teacher_it_is_the_eulerian_distillation_without_normalisation() -> None:
    teacher = student_of(perceptron(3), Targets.SAME)
    times = TwoTimes(LogitNormal(-0.4, 1.0), apart=1.0)
    gradients = []
    for objective in (
        MeanFlow(times, teacher, power=0.0),
        FlowMapDistillation(teacher, times=times, warmup=0, floor=None),
    ):
        network = perceptron()
        student = student_of(network, Targets.ANY)
        rng = Dictated([NORMALS, NORMALS.flip(0), NOISE], [torch.zeros(16)])
        gradients.append(gradient(objective(student, student, Batch(DATA), CLOCK, rng), network))
    torch.testing.assert_close(gradients[0] / 2, gradients[1], rtol=1e-4, atol=1e-5)


def test_guidance_moves_the_velocity_away_from_the_unconditional_one() -> None:
    """2505.13447 eq. 20, by an estimator whose velocity says what it was asked for."""
    asked: list[dict[str, Tensor]] = []

    class Labelled:
        targets, epsilon = Targets.ANY, 0.0

        def __call__(self, x: Tensor, at: Any, to: Any, cond: Any) -> Tensor:
            asked.append(dict(cond))
            u = cond["label"].to(x.dtype)[:, None].expand(x.shape)  # D = x − t·u
            return x - at.sigma.to(x.dtype)[:, None] * u

    label = torch.arange(16)
    guidance = LearnedGuidance(2.0, 2.0, {"label": torch.tensor([100])})
    objective = MeanFlow(TOGETHER, power=0.0, guidance=guidance, mixing=0.25)
    batch = Batch(DATA, {"label": label})
    loss = objective(
        Labelled(), Labelled(), batch, CLOCK, Dictated([NORMALS, NORMALS, NOISE], [torch.zeros(16), torch.zeros(16)])
    )
    v = NOISE - DATA
    omega, kappa = 2.0 * (1 - 0.25), 0.25
    goal = omega * v + kappa * label[:, None] + (1 - omega - kappa) * 100
    torch.testing.assert_close(loss.per_sample, (label[:, None] - goal).square().sum(dim=1))
    assert all(
        torch.equal(cond["guidance"], torch.full((16,), 1.0 if cond["label"][0] == 100 else 2.0)) for cond in asked
    )


def test_a_share_learns_without_condition_and_guidance() -> None:
    guidance = LearnedGuidance(3.0, 5.0, {"label": torch.tensor([7])}, unconditional=0.5)
    scale, kept = torch.tensor([0.0, 0.5, 1.0, 0.25]), torch.tensor([0.1, 0.9, 0.4, 0.6])
    cond = guidance.draw({"label": torch.tensor([1, 2, 3, 4])}, Dictated([], [scale, kept]), 4)
    assert cond["label"].tolist() == [7, 2, 7, 4]
    assert cond["guidance"].tolist() == [1.0, 4.0, 1.0, 3.5]
