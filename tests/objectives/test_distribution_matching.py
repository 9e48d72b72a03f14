"""Distribution matching leads a generator to the data's distribution: on Gaussians every score is known in closed
form, also the generator's own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fewstep.core.arrays import Array, Condition, per_sample
from fewstep.core.levels import Level, Linear, from_ratio
from fewstep.core.parameterisations import Targets
from fewstep.objectives import Batch, DistributionMatching, FlowMapDistributionMatching
from fewstep.objectives.curricula import Clock
from fewstep.objectives.distribution_matching import moving, simulated, towards
from fewstep.objectives.times import UniformKarras
from objective_cases import ORACLE, PURE, LogUniform, loss_of, losses_of, points
from oracles import Gaussian
from students import Dictated, WithError, perceptron, step_rng, student_of

TEACHER = replace(ORACLE, targets=Targets.SAME)
LEVELS = LogUniform(0.05, 20.0)


class Affine(nn.Module):
    """A generator of N(mean, std²) from pure noise: x ↦ mean + std·x/σ."""

    def __init__(self, mean: Any, std: Any, targets: Targets = Targets.CLEAN) -> None:
        super().__init__()
        self.mean, self.std = (nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in (mean, std))
        self.targets, self.epsilon = targets, 0.0

    def forward(self, x: Tensor, at: Level, to: Level, cond: Condition) -> Tensor:
        return self.mean + self.std * x / per_sample(at.sigma, x)

    @property
    def own_score(self) -> Gaussian:
        """The exact denoiser of what it generates."""
        return Gaussian(self.mean.detach(), self.std.detach(), targets=Targets.SAME)


def objective_for(student: Affine) -> DistributionMatching:
    """With the fake score as it is when it has learned all there is to learn."""
    return DistributionMatching(TEACHER, student.own_score, (PURE,), LEVELS)


def test_the_gradient_vanishes_where_the_generators_distribution_is_the_teachers_and_only_there() -> None:
    def gradient(student: Affine) -> Tensor:
        # the fake's own loss has no gradient: a closed form does not learn
        loss = objective_for(student)._matching(_samples(student), {}, step_rng(1))
        return torch.cat(torch.autograd.grad(loss.value, list(student.parameters())))

    exact = Affine(ORACLE.mean, ORACLE.std)
    assert float(gradient(exact).abs().max()) == 0.0
    # the same distribution by another map: z ↦ −z
    assert float(gradient(Affine(ORACLE.mean, -ORACLE.std)).abs().max()) < 1e-12
    assert float(gradient(Affine(ORACLE.mean + 0.1, ORACLE.std)).abs().max()) > 1e-2
    assert float(gradient(Affine(ORACLE.mean, ORACLE.std * 1.2)).abs().max()) > 1e-2


def _samples(student: Affine, size: int = 4096) -> Tensor:
    noise = torch.randn(size, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    at = from_ratio(torch.full((size,), PURE, dtype=torch.float64))
    return student(PURE * noise, at, at, {})


@pytest.mark.parametrize(("mean", "std"), [([1.0, 1.0], [0.2, 2.0]), ([-1.0, 0.0], [1.0, 0.1])])
def test_descending_leads_the_generator_to_the_teachers_distribution(mean: Any, std: Any) -> None:
    student = Affine(mean, std)
    optimizer = torch.optim.Adam(student.parameters(), lr=0.05)
    for step in range(250):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (1 - step / 250)
        optimizer.zero_grad()
        objective_for(student)._matching(_samples(student, 512), {}, step_rng(step)).value.backward()
        optimizer.step()
    np.testing.assert_allclose(student.mean.detach(), ORACLE.mean, atol=0.02)
    np.testing.assert_allclose(student.std.detach(), ORACLE.std, atol=0.02)


def test_the_fake_score_is_at_rest_as_the_denoiser_of_the_students_samples() -> None:
    student = Affine([0.8, 0.1], [0.3, 0.9])

    def significance(fake: WithError) -> float:
        objective = DistributionMatching(TEACHER, fake, (PURE,), LEVELS, LEVELS)
        batch, gradients = Batch(points(1024)), []
        for step in range(40):
            loss = losses_of(objective, student, batch, rng=step_rng(step))["fake"]
            gradients.append(torch.autograd.grad(loss.value, fake.theta)[0])
        each = torch.stack(gradients)
        return float((each.mean(dim=0) / (each.std(dim=0) / 40**0.5)).abs().max())

    assert significance(WithError(student.own_score)) < 4.0
    assert significance(WithError(student.own_score, [0.05, -0.05, 0.05, 0.05])) > 8.0
    assert significance(WithError(TEACHER)) > 8.0


def test_a_samples_gradient_is_the_difference_of_the_scores_over_its_distance_to_the_real_estimate() -> None:
    """2405.14867 and 2311.18828 eq. 7 and 8, by hand."""
    x, real, fake = (torch.tensor(values) for values in ([[1.0, 3.0]], [[2.0, 0.0]], [[2.5, -1.0]]))
    gradient = towards(x, real, fake)
    torch.testing.assert_close(gradient, torch.tensor([[0.5, -1.0]]) / 2.0)  # mean |x − real| = (1 + 3)/2
    x.requires_grad_(True)
    (moved,) = torch.autograd.grad(moving(x, gradient).sum(), x)
    torch.testing.assert_close(moved, gradient / 2)
    assert bool(torch.isfinite(towards(real, real, fake)).all()), "a sample where the teacher would put it"


@pytest.mark.parametrize("path", [None, Linear()])
def test_the_student_samples_as_it_will_be_asked_to(path: Any) -> None:
    """Every jump is as likely, and the exact student stands where noised data would."""
    ratios = (PURE, 5.0, 0.5)
    exact = replace(ORACLE, targets=Targets.CLEAN)
    x, at = simulated(exact, ratios, points(60_000), path, {}, step_rng(2))
    for ratio in ratios:
        here = (at.ratio / ratio - 1).abs() < 1e-6
        assert int(here.sum()) == pytest.approx(20_000, rel=0.05)
        alpha, sigma = float(at.alpha[here][0]), float(at.sigma[here][0])
        assert (alpha == 1.0) == (path is None)
        spread = np.sqrt((alpha * ORACLE.std) ** 2 + sigma**2)
        np.testing.assert_allclose(x[here].mean(dim=0), alpha * ORACLE.mean, atol=4 * spread.max() / 20_000**0.5)
        np.testing.assert_allclose(x[here].std(dim=0), spread, rtol=0.03)


def test_the_student_is_asked_for_gradients_only_where_its_step_is_due() -> None:
    called: list[str] = []

    @dataclass(frozen=True)
    class Spy:
        name: str
        targets: Targets = Targets.CLEAN
        epsilon: float = 0.0

        def __call__(self, x: Array, at: Level, to: Level, cond: Condition) -> Array:
            called.append(self.name)
            return 0 * x

    objective = DistributionMatching(TEACHER, WithError(TEACHER), (PURE, 1.0), LEVELS, every=3)
    for step in range(4):
        called.clear()
        objective(Spy("student"), Spy("target"), Batch(points(4)), Clock(step, 9), step_rng())
        assert called == ["target", "student" if step % 3 == 0 else "target"]
    assert objective.steps["fake"].every == 1


def test_a_map_with_the_teachers_own_velocity_gives_no_signal_until_it_has_learned_its_own() -> None:
    """Why the student's denoiser learns from the student's samples: without, a wrong generator would stay as it is."""

    class Halves(nn.Module):
        """A generator of a wrong distribution, and beside it a denoiser."""

        def __init__(self, denoiser: Gaussian) -> None:
            super().__init__()
            self.generator, self.denoiser = Affine([0.8, 0.1], [0.3, 0.9]), denoiser
            self.targets, self.epsilon = Targets.ANY, 0.0

        def forward(self, x: Tensor, at: Level, to: Level, cond: Condition) -> Tensor:
            same = bool((at.ratio == to.ratio).all())
            return self.denoiser(x, at, to) if same else self.generator(x, at, to, cond)

    objective = FlowMapDistributionMatching(TEACHER, (PURE,), LEVELS)

    def moved(student: Halves) -> Tensor:
        loss = loss_of(objective, student, Batch(points(2048)))
        return torch.cat(torch.autograd.grad(loss.value, list(student.generator.parameters())))

    assert float(moved(Halves(TEACHER)).abs().max()) == 0.0
    learned = moved(Halves(Affine([0.8, 0.1], [0.3, 0.9]).own_score))
    away = torch.tensor([0.8 - ORACLE.mean[0], 0.1 - ORACLE.mean[1], 0.3 - ORACLE.std[0], 0.9 - ORACLE.std[1]])
    assert torch.equal(learned.sign(), away.sign()), "descending moves mean and spread to the teacher's"


def test_levels_are_as_likely_as_on_a_karras_grid() -> None:
    rng = Dictated(uniforms=[torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)])
    middle = ((0.002 ** (1 / 7) + 80 ** (1 / 7)) / 2) ** 7
    np.testing.assert_allclose(UniformKarras().sample(rng, 3), [0.002, middle, 80.0])
    with pytest.raises(ValueError, match="need 0 < low < high < ∞, got 1 and 1"):
        UniformKarras(1, 1)


@pytest.mark.parametrize("ratios", [(), (1.0, 1.0), (1.0, 2.0), (80.0, 0.0), (float("inf"), 1.0)])
def test_levels_of_sampling_must_fall(ratios: tuple[float, ...]) -> None:
    fake = student_of(perceptron(), Targets.SAME)
    with pytest.raises(ValueError, match="ratios must be finite, above 0 and in descending order"):
        DistributionMatching(TEACHER, fake, ratios)
    with pytest.raises(ValueError, match="ratios must be finite, above 0 and in descending order"):
        FlowMapDistributionMatching(TEACHER, ratios)


def test_the_fake_score_must_be_a_network_and_a_denoiser() -> None:
    assert set(DistributionMatching(TEACHER, student_of(perceptron(), Targets.SAME)).modules) == {"fake"}
    with pytest.raises(ValueError, match="expected an estimator of a network"):
        _ = DistributionMatching(TEACHER, TEACHER).modules
    with pytest.raises(ValueError, match="fake must be a denoiser"):
        DistributionMatching(TEACHER, student_of(perceptron(), Targets.CLEAN))
    with pytest.raises(ValueError, match="every must be at least 1"):
        DistributionMatching(TEACHER, student_of(perceptron(), Targets.SAME), every=0)
