"""Each network of an objective learns from its own loss, in its own rhythm, at its own rate, under its own norm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from fewstep.core.levels import Level
from fewstep.core.parameterisations import Edm, Estimator, Targets
from fewstep.objectives import Batch, Diffusion, Loss, Objective, Step, mean_loss
from fewstep.objectives.curricula import Clock
from fewstep.objectives.times import Rng
from fewstep.training.loop import TrainingConfig, TrainingState, train
from fewstep.training.optimizers import OptimizerConfig
from fewstep.training.steps import Learner, Steps, by_step, merged
from training_runs import CONFIG, Rows, curve, small_mlp, weights

PLAIN = replace(CONFIG, images=40, optimizer=OptimizerConfig(kind="adamw", warmup=0), checkpoint_every=1, keep=100)


@dataclass(frozen=True)
class Beside(Objective):
    """Diffusion, and beside it a linear layer that fits the data's mean under a weight."""

    layer: nn.Linear = field(compare=False)
    weight: float = 1.0
    own: Step = field(default_factory=Step)
    student: Step = field(default_factory=Step)
    targets: Targets = Targets.SAME

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return {"layer": self.layer}

    @property
    def steps(self) -> Mapping[str, Step]:
        return {"student": self.student, "layer": self.own}

    def __call__(
        self, student: Estimator, target: Estimator, batch: Batch, clock: Clock, rng: Rng
    ) -> Mapping[str, Loss]:
        losses = {}
        if self.student.is_due(clock):
            losses["student"] = Diffusion()(student, target, batch, clock, rng)
        if self.own.is_due(clock):
            error = (self.layer(batch.data[:, :1]) - batch.data[:, 1:]).square().mean(dim=1)
            at = Diffusion()(target, target, batch, clock, rng).at
            losses["layer"] = mean_loss(self.weight * error, at)
        return losses


def layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(1, 1)


def run(out: Path, objective: Objective, config: TrainingConfig = PLAIN, **options: Any) -> nn.Module:
    return train(small_mlp(), Edm(), objective, Rows((2,)), config, out, **options)


def steps_that_moved(out: Path, name: str) -> list[int]:
    """The steps of the run after which a network's weights were others than before."""
    folders = sorted((out / "checkpoints").glob("step-*"))
    states = [load_file(folder / f"{name}.safetensors") for folder in folders]
    pairs = enumerate(pairwise(states), start=1)
    return [k for k, (a, b) in pairs if any(not torch.equal(a[key], b[key]) for key in a)]


@pytest.mark.parametrize("clip", [1.0, float("inf")])
def test_a_network_that_never_touches_the_student_does_not_change_it(clip: float, tmp_path: Path) -> None:
    config = replace(PLAIN, clip=clip)
    alone = weights(run(tmp_path / "alone", Diffusion(), config))
    for weight in (1.0, 1e6):
        beside = weights(run(tmp_path / f"{weight}", Beside(layer(), weight), config))
        assert torch.equal(beside, alone)


def test_a_module_that_learns_with_the_student_has_a_norm_of_its_own(tmp_path: Path) -> None:
    """Its loss is the student's; the student's gradient is clipped as if it were alone."""

    @dataclass(frozen=True)
    class Together(Objective):
        layer: nn.Linear = field(compare=False)
        targets: Targets = Targets.SAME

        @property
        def modules(self) -> Mapping[str, nn.Module]:
            return {"layer": self.layer}

        def __call__(self, student: Estimator, target: Estimator, batch: Batch, clock: Clock, rng: Rng) -> Loss:
            loss = Diffusion()(student, target, batch, clock, rng)
            extra = 1e4 * (self.layer(batch.data[:, :1]) - batch.data[:, 1:]).square().mean()
            return replace(loss, value=loss.value + extra)

    module = layer()
    start = weights(module)
    config = replace(PLAIN, log_every=1)
    together = weights(run(tmp_path / "together", Together(module), config))
    assert torch.equal(together, weights(run(tmp_path / "alone", Diffusion(), config)))
    assert not torch.equal(weights(module), start)
    assert curve(tmp_path / "together", "gradient_norm") == curve(tmp_path / "alone", "gradient_norm")
    assert min(curve(tmp_path / "together", "gradient_norm/layer")) > 1e3


def test_a_loss_moves_no_other_network_even_where_it_depends_on_it() -> None:
    student, other = nn.Linear(1, 1), nn.Linear(1, 1)
    learners = {
        name: Learner(name, network, OptimizerConfig(), Step(), 1.0, False)
        for name, network in (("student", student), ("other", other))
    }
    steps = Steps({"student": Step(), "other": Step()}, learners)
    x = torch.ones(4, 1)
    shared = other(student(x))
    at = Diffusion()(lambda x, at, to, cond: x, None, Batch(x), Clock(0, 1), _rng()).at  # type: ignore[arg-type]
    first, second = (mean_loss(scale * shared[:, 0], at) for scale in (1.0, 10.0))
    steps.backward({"student": first, "other": second}, parts=1)
    assert student.weight.grad is not None
    assert other.weight.grad is not None
    torch.testing.assert_close(student.weight.grad, other.weight.detach())  # of the first loss, not of eleven
    torch.testing.assert_close(other.bias.grad, torch.tensor([10.0]))


def _rng() -> Any:
    from students import step_rng

    return step_rng()


@pytest.mark.parametrize(("student", "other"), [(1, 1), (3, 1), (1, 4)])
def test_each_network_keeps_its_rhythm(student: int, other: int, tmp_path: Path) -> None:
    run(tmp_path, Beside(layer(), own=Step(every=other), student=Step(every=student)))
    assert steps_that_moved(tmp_path, "student") == [k for k in range(1, 10) if k % student == 0]
    assert steps_that_moved(tmp_path, "layer") == [k for k in range(1, 10) if k % other == 0]
    assert steps_that_moved(tmp_path, "average") == steps_that_moved(tmp_path, "student")


def test_the_average_counts_the_students_own_steps(tmp_path: Path) -> None:
    """The second update has the decay of a second step, though it is the run's fourth."""
    config = replace(PLAIN, images=16)
    run(tmp_path, Beside(layer(), student=Step(every=3)), config)
    states = {
        (name, step): load_file(tmp_path / "checkpoints" / f"step-{step:08d}" / f"{name}.safetensors")
        for name in ("student", "average")
        for step in (1, 4)
    }
    decay = config.ema.at(2)
    for name, values in states["average", 4].items():
        expected = decay * states["average", 1][name] + (1 - decay) * states["student", 4][name]
        torch.testing.assert_close(values, expected)


def test_a_run_stopped_between_two_steps_of_the_student_ends_as_one_that_never_was(tmp_path: Path) -> None:
    objective = Beside(layer(), own=Step(rate=0.5), student=Step(every=4))
    whole = weights(run(tmp_path / "whole", objective))
    module = weights(objective.layer)

    def stop(state: TrainingState) -> dict[str, float]:
        raise InterruptedError

    for at in (3, 6):
        stopped = Beside(layer(), own=Step(rate=0.5), student=Step(every=4))
        with pytest.raises(InterruptedError):
            run(tmp_path / f"{at}", stopped, replace(PLAIN, preview_every=at), callbacks=[stop])
        again = replace(stopped, layer=nn.Linear(1, 1))
        assert torch.equal(weights(run(tmp_path / f"{at}", again)), whole)
        assert torch.equal(weights(again.layer), module)


def test_a_network_has_its_own_share_of_the_rate_and_its_own_optimiser(tmp_path: Path) -> None:
    slow = replace(PLAIN, log_every=1, optimizers={"layer": OptimizerConfig(kind="radam", lr=0.25, warmup=0)})
    run(tmp_path / "own", Beside(layer(), own=Step(rate=0.5)), slow)
    assert set(curve(tmp_path / "own", "rate/layer")) == {0.125}
    assert curve(tmp_path / "own", "rate")[0] == pytest.approx(PLAIN.optimizer.lr)
    run(tmp_path / "common", Beside(layer(), own=Step(rate=0.5)), replace(PLAIN, log_every=1))
    assert curve(tmp_path / "common", "rate/layer")[0] == pytest.approx(0.5 * PLAIN.optimizer.lr)


@pytest.mark.parametrize(("step", "factor"), [(0, 0.25), (1, 0.5), (3, 1.0), (4, 1.0), (6, 0.5), (8, 0.0)])
def test_both_rates_of_a_network_rise_and_fall_together(step: int, factor: float) -> None:
    """A rise over 4 steps of 8, a half cosine from the middle on, and half of both for this network."""
    config = OptimizerConfig(kind="muon", lr=1e-3, muon_lr=0.02, warmup=4, decay_from=0.5)
    learner = Learner("student", small_mlp(), config, Step(rate=0.5), 1.0, False)
    learner.set_rate(Clock(step, 8))
    rates = [group["lr"] for optimizer in learner.optimizers for group in optimizer.param_groups]
    assert rates == pytest.approx([0.02 * 0.5 * factor, 1e-3 * 0.5 * factor])


def test_a_step_reports_the_means_of_its_micro_batches() -> None:
    at = Level(torch.ones(2), torch.tensor([1.0, 2.0]))
    one, other = (Loss(torch.tensor(x), torch.full((2,), x), at, {"share": torch.tensor(x)}) for x in (1.0, 4.0))
    report = merged([{"student": one}, {"student": other}])["student"]
    assert (float(report.value), float(report.scalars["share"])) == (2.5, 2.5)
    assert report.per_sample.tolist() == [1.0, 1.0, 4.0, 4.0]
    assert report.at.sigma.tolist() == [1.0, 2.0, 1.0, 2.0]


def test_a_network_can_have_a_gradient_norm_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[list[float]] = []
    update = Learner.update

    def watched(self: Learner) -> None:
        norms.append([float(torch.nn.utils.get_total_norm([p.grad for p in self.parameters])), self.clip])
        update(self)

    monkeypatch.setattr(Learner, "update", watched)
    run(tmp_path, Beside(layer(), 1e6, own=Step(clip=0.01)), replace(PLAIN, clip=0.5))
    assert {clip for _, clip in norms} == {0.5, 0.01}
    assert all(norm == pytest.approx(clip, rel=1e-3) for norm, clip in norms if clip == 0.01)
    assert all(norm < 0.5 * 1.001 for norm, clip in norms if clip == 0.5)


def test_a_loss_that_is_missing_or_not_due_is_refused() -> None:
    loss = mean_loss(torch.ones(1), None)  # type: ignore[arg-type]
    assert by_step(loss, ["student"]) == {"student": loss}
    with pytest.raises(ValueError, match=r"steps that are due \(fake, student\), got student"):
        by_step(loss, ["student", "fake"])
    with pytest.raises(ValueError, match=r"steps that are due \(fake\), got fake, student"):
        by_step({"student": loss, "fake": loss}, ["fake"])


def test_steps_and_optimisers_of_networks_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="optimizers names teacher, but the networks are student, layer"):
        run(tmp_path, Beside(layer()), replace(PLAIN, optimizers={"teacher": OptimizerConfig()}))

    class Nameless(Diffusion):
        @property
        def steps(self) -> Mapping[str, Step]:
            return {"student": Step(), "critic": Step()}

    with pytest.raises(ValueError, match="steps names critic, but the networks are student"):
        run(tmp_path, Nameless())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every": 0}, "every must be at least 1"),
        ({"rate": 0.0}, "rate must be above 0"),
        ({"clip": 0.0}, "clip must be above 0"),
    ],
)
def test_what_no_step_can_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Step(**settings)
    assert Step(clip=float("inf")).clip == float("inf")
