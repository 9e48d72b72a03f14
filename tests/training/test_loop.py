"""The training loop: what it refuses, what it reports, how it stops."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from fewstep.core.levels import CLEAN, from_ratio
from fewstep.core.parameterisations import Edm, Estimator, Targets
from fewstep.data import Mixture, PointSet, ring, spiral
from fewstep.models.codecs import Identity
from fewstep.models.conditioning import Conditioning
from fewstep.objectives import Batch, Diffusion, FlowMatching, Loss, Objective
from fewstep.objectives.curricula import Clock, ict_levels
from fewstep.objectives.objective import Role
from fewstep.objectives.times import LogNormal, Rng
from fewstep.training import checkpoints
from fewstep.training.batches import DatasetBatches
from fewstep.training.calling import AtPrecision
from fewstep.training.identity import identity
from fewstep.training.loop import (
    TrainingConfig,
    TrainingDiverged,
    TrainingState,
    train,
)
from fewstep.training.optimizers import Muon
from fewstep.training.strategy import accelerator
from students import CPU, perceptron
from training_runs import CONFIG, Breaks, Rows, everything, small_mlp, small_unet, weights


def _train(out: Path, objective: Objective | None = None, **settings: Any) -> Any:
    callbacks = settings.pop("callbacks", ())
    facts = settings.pop("facts", None)
    config = replace(CONFIG, **{"images": 40, **settings})
    return train(small_mlp(), Edm(), objective or Diffusion(), Rows((2,)), config, out, callbacks, facts)


def _saved(out: Path) -> list[str]:
    return [path.name for path in checkpoints.found(out / "checkpoints")]


def test_a_loss_that_is_not_finite_stops_with_step_levels_and_gradient_and_keeps_the_last_good_checkpoint(
    tmp_path: Path,
) -> None:
    with pytest.raises(TrainingDiverged) as stopped:
        _train(tmp_path, Breaks(at=6))
    said = str(stopped.value)
    assert "the loss was nan at step 6" in said
    assert "gradient norm nan" in said
    assert "σ/α [3.25]" in said
    assert "last good checkpoint: step-00000004" in said
    assert _saved(tmp_path) == ["step-00000004"]
    for file in (tmp_path / "checkpoints" / "step-00000004").glob("*.safetensors"):
        assert all(bool(torch.isfinite(values).all()) for values in load_file(file).values())
    # the same run without the fault goes on from there
    average = _train(tmp_path, Breaks(at=-1))
    assert torch.equal(weights(average), weights(_train(tmp_path / "whole", Breaks(at=-1))))


def test_a_gradient_that_is_not_finite_stops_too(tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged, match=r"at step 7, gradient norm (nan|inf).*0\.5, 1\.5, 2\.5, 3\.25"):
        _train(tmp_path, Breaks(at=7, gradient_only=True))
    assert _saved(tmp_path) == ["step-00000004"]


def test_a_fault_at_a_checkpoints_own_step_does_not_reach_it(tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged, match="last good checkpoint: none yet"):
        _train(tmp_path, Breaks(at=3))
    assert _saved(tmp_path) == []


def test_a_fault_in_any_micro_batch_is_named_by_its_level(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Once:
        rows: Rows

        def stream(self, *args: int) -> Iterator[Batch]:
            for number, batch in enumerate(self.rows.stream(*args)):
                yield replace(batch, data=batch.data * math.nan) if number == 2 else batch

    config = replace(CONFIG, images=64, batch=2, accumulate=2)
    with pytest.raises(TrainingDiverged, match=r"the loss was nan at step 1, .*\[0\.5, 1\.5\]; last"):
        train(small_mlp(), Edm(), Breaks(at=-1), Once(Rows((2,))), config, tmp_path)


def test_another_runs_directory_is_refused_by_naming_what_changed(tmp_path: Path) -> None:
    _train(tmp_path, facts={"data": "points"})
    changed = replace(CONFIG.optimizer, lr=0.5)
    with pytest.raises(checkpoints.CheckpointError, match=r"training\.optimizer\.lr was 0\.001, now 0\.5"):
        _train(tmp_path, optimizer=changed, facts={"data": "points"})
    with pytest.raises(checkpoints.CheckpointError, match="data was points, now emoji"):
        _train(tmp_path, facts={"data": "emoji"})
    with pytest.raises(checkpoints.CheckpointError, match=r"training\.images was 40, now 20"):
        _train(tmp_path, facts={"data": "points"}, images=20)


def test_a_run_of_another_number_of_processes_is_refused_because_its_steps_are_others(tmp_path: Path) -> None:
    _train(tmp_path)
    file = tmp_path / "checkpoints" / "step-00000010" / "state.json"
    state = json.loads(file.read_text())
    state["facts"]["processes"] = 2
    file.write_text(json.dumps(state))
    with pytest.raises(checkpoints.AnotherRun, match="processes was 2, now 1"):
        _train(tmp_path)


def test_a_run_does_not_go_on_under_another_objective(tmp_path: Path) -> None:
    def run(objective: Objective) -> None:
        train(perceptron(), Edm(), objective, Rows((2,)), replace(CONFIG, images=8), tmp_path)

    run(Diffusion())
    run(Diffusion())
    with pytest.raises(checkpoints.CheckpointError, match=r"objective\.kind was Diffusion, now FlowMatching"):
        run(FlowMatching())
    with pytest.raises(checkpoints.CheckpointError, match=r"objective\.density\.mean was -1\.2, now 0\.5"):
        run(Diffusion(LogNormal(0.5)))


def test_a_run_does_not_go_on_with_other_data(tmp_path: Path) -> None:
    def run(dataset: PointSet | Mixture, drop: float = 0.0) -> None:
        source = DatasetBatches(dataset, Conditioning(Identity()), drop=drop)
        train(perceptron(), Edm(), Diffusion(), source, replace(CONFIG, images=8), tmp_path)

    run(ring())
    run(ring())
    with pytest.raises(checkpoints.AnotherRun, match=r"source\.dataset"):
        run(spiral())
    with pytest.raises(checkpoints.AnotherRun, match=r"source\.drop was 0\.0, now 0\.5"):
        run(ring(), drop=0.5)


def test_two_runs_do_not_share_a_directory(tmp_path: Path) -> None:
    with (
        checkpoints.alone(tmp_path),
        pytest.raises(checkpoints.CheckpointError, match="another process is training in"),
    ):
        _train(tmp_path)
    _train(tmp_path)


def test_precision_and_accumulation_are_the_loops_own_whatever_accelerate_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    made = accelerator()
    assert (made.mixed_precision, made.gradient_accumulation_steps) == ("no", 1)


def test_parts_of_a_run_are_told_apart_by_their_settings() -> None:
    few, many = (identity(partial(ict_levels, s1=s1)) for s1 in (20, 1280))
    assert few != many
    assert few == identity(partial(ict_levels, s1=20))
    assert identity(Targets.CLEAN) != identity(Targets.SAME)
    assert identity({"a": Edm(0.5)}) != identity({"a": Edm(1.0)})
    for part in (few, identity(ring()), identity(Diffusion())):
        assert json.loads(json.dumps(part)) == part


def test_settings_that_do_not_touch_the_weights_may_change(tmp_path: Path) -> None:
    first = weights(_train(tmp_path, images=16))
    again = _train(tmp_path, images=16, checkpoint_every=3, preview_every=2, log_every=1, keep=5)
    assert torch.equal(weights(again), first)


def test_another_networks_checkpoint_is_refused(tmp_path: Path) -> None:
    _train(tmp_path)
    with pytest.raises(checkpoints.AnotherRun, match=r"network\.width was \d+, now 16"):
        train(perceptron(width=16), Edm(), Diffusion(), Rows((2,)), replace(CONFIG, images=40), tmp_path)


def test_a_damaged_last_checkpoint_sends_the_run_back_to_the_one_before_and_to_the_same_weights(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = weights(_train(tmp_path / "whole", images=40))
    _train(tmp_path / "cut", images=40)
    *_, before, last = checkpoints.found(tmp_path / "cut" / "checkpoints")
    file = last / "optimizers.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    again = _train(tmp_path / "cut", images=40)
    assert torch.equal(weights(again), whole)
    assert f"cannot resume from {last}" in caplog.text
    assert f"falling back to {before.name}" in caplog.text


def test_previews_are_made_of_the_average_saved_and_at_the_end(tmp_path: Path) -> None:
    states: list[tuple[int, float]] = []

    def callback(state: TrainingState) -> dict[str, Image.Image]:
        assert not torch.is_grad_enabled()
        x = torch.ones(2, 2)
        at = from_ratio(torch.ones(2, dtype=torch.float64))
        states.append((state.clock.step, float(state.average(x, at, at, {}).sum())))
        return {"points": Image.new("RGBA", (4, 4))}

    average = _train(tmp_path, callbacks=[callback], preview_every=4)
    assert [step for step, _ in states] == [4, 8, 10]
    assert sorted(p.name for p in (tmp_path / "previews").glob("points-*")) == [
        f"points-{step:08d}.png" for step in (4, 8, 10)
    ]
    assert len({value for _, value in states}) == 3
    x, time = torch.ones(2, 2), torch.atan2(torch.ones(2), torch.full((2,), 0.5))
    expected = Edm().estimate(
        x, average(x / math.sqrt(1.25), time, time, {}), from_ratio(torch.ones(2, dtype=torch.float64))
    )
    assert states[-1][1] == pytest.approx(float(expected.detach().sum()), rel=1e-5)


def test_events_are_written_for_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _train(tmp_path, everything(), log_every=5)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    names = set(events.Tags()["scalars"])
    assert {"loss", "gradient_norm", "rate", "images_per_second"} <= names
    assert [event.step for event in events.Scalars("loss")] == [5, 10]
    assert all(math.isfinite(event.value) for event in events.Scalars("loss"))


def test_rates_rise_and_fall_as_configured_for_every_optimiser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: dict[str, list[float]] = {"muon": [], "adamw": []}
    norms: list[float] = []
    for name, kind in (("muon", Muon), ("adamw", torch.optim.AdamW)):

        def recording(self: Any, *args: Any, name: str = name, real: Any = kind.step) -> Any:
            rates[name].append(self.param_groups[0]["lr"])
            gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
            norms.append(float(torch.nn.utils.get_total_norm(gradients)))
            return real(self, *args)

        monkeypatch.setattr(kind, "step", recording)
    _train(tmp_path, clip=0.01)
    # 10 steps: a rise over 3, then from half of the way on half a cosine
    falls = [1 if k <= 5 else 0.5 + 0.5 * math.cos(math.pi * (k / 10 - 0.5) / 0.5) for k in range(10)]
    factors = [min(1, (k + 1) / 3) * fall for k, fall in enumerate(falls)]
    assert rates["muon"] == pytest.approx([0.02 * factor for factor in factors])
    assert rates["adamw"] == pytest.approx([0.001 * factor for factor in factors])
    total = [math.hypot(a, b) for a, b in zip(norms[::2], norms[1::2], strict=True)]
    assert total == pytest.approx([0.01] * 10, rel=1e-3)


def test_the_average_is_not_the_network_and_needs_no_gradient(tmp_path: Path) -> None:
    network = small_mlp()
    average = train(network, Edm(), Diffusion(), Rows((2,)), replace(CONFIG, images=40), tmp_path)
    assert not torch.equal(weights(average), weights(network))
    assert not any(parameter.requires_grad for parameter in average.parameters())


def test_training_moves_every_role(tmp_path: Path) -> None:
    objective = everything()
    before = objective.u.weight.clone()
    network = small_mlp()
    train(network, Edm(), objective, Rows((2,)), replace(CONFIG, images=40), tmp_path)
    assert not torch.equal(objective.u.weight, before)
    assert not torch.equal(weights(network), weights(small_mlp()))


def test_the_target_network_follows_by_the_objectives_decay_and_the_average_by_the_runs(tmp_path: Path) -> None:
    """One step: target = μ·start + (1 − μ)·student."""
    objective, start = everything(), small_mlp().state_dict()
    train(small_mlp(), Edm(), objective, Rows((2,)), replace(CONFIG, images=4), tmp_path)
    saved = tmp_path / "checkpoints" / "step-00000001"
    student, target, average = (load_file(saved / f"{r}.safetensors") for r in ("student", "target", "average"))
    decay = objective.target_decay(Clock(0, 1))
    assert decay is not None
    for name, values in target.items():
        torch.testing.assert_close(values, decay * start[name] + (1 - decay) * student[name])
    assert not torch.equal(student["head.weight"], start["head.weight"])
    # the average that is saved as the model forgets the random start at the first step
    assert all(torch.equal(values, student[name]) for name, values in average.items())


@pytest.mark.parametrize("name", ["images", "batch", "accumulate", "keep"])
def test_counts_must_be_at_least_1(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        TrainingConfig(**{"images": 1, name: 0})  # type: ignore[arg-type]


def test_the_number_of_steps_covers_all_images() -> None:
    assert TrainingConfig(images=100, batch=8).steps(1) == 13
    assert TrainingConfig(images=100, batch=8, accumulate=2).steps(3) == 3
    assert TrainingConfig(images=1, batch=64).steps(1) == 1


def test_a_precision_that_is_not_there_is_refused() -> None:
    wrong: Any = "fp16"
    with pytest.raises(ValueError, match="precision must be 'auto', 'bf16' or 'float32', got 'fp16'"):
        TrainingConfig(images=1, precision=wrong)


def test_half_precision_trains_float32_weights(tmp_path: Path) -> None:
    network = small_unet()
    config = replace(CONFIG, images=8, precision="bf16")
    average = train(network, Edm(), everything(), Rows((3, 4, 4)), config, tmp_path)
    assert all(p.dtype == torch.float32 for module in (network, average) for p in module.parameters())
    assert bool(torch.isfinite(weights(average)).all())
    single = train(
        small_unet(), Edm(), everything(), Rows((3, 4, 4)), replace(config, precision="float32"), tmp_path / "2"
    )
    assert not torch.equal(weights(average), weights(single))
    torch.testing.assert_close(weights(average), weights(single), rtol=0, atol=0.05)


def test_precision_is_float32_at_the_border_of_the_network() -> None:
    seen = []

    def network(x: torch.Tensor, at: torch.Tensor, to: torch.Tensor, cond: object) -> torch.Tensor:
        product = x @ torch.eye(2)
        seen.append(product.dtype)
        return product

    for precision in ("bf16", "float32"):
        output = AtPrecision(network, CPU, precision)(torch.ones(1, 2), torch.ones(1), torch.ones(1), {})
        assert output.dtype == torch.float32
    assert seen == [torch.bfloat16, torch.float32]
    assert CLEAN.sigma == 0


class Precisions(Objective):
    """Diffusion that also asks the target, and names networks to be kept in float32."""

    targets = Targets.SAME

    def __init__(self, in_float32: Sequence[Role]) -> None:
        self._in_float32 = in_float32

    @property
    def in_float32(self) -> Sequence[Role]:
        return self._in_float32

    def __call__(self, student: Estimator, target: Estimator, batch: Batch, clock: Clock, rng: Rng) -> Loss:
        with torch.no_grad():
            asked = Diffusion(LogNormal())(target, target, batch, clock, rng)
        return replace(Diffusion(LogNormal())(student, student, batch, clock, rng), scalars={"asked": asked.value})


@pytest.mark.parametrize("in_float32", [(), ("target",), ("student", "target")])
def test_an_objective_keeps_networks_in_float32(
    in_float32: Sequence[Role], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, bool]] = []
    called = AtPrecision.__call__

    def watched(self: AtPrecision, *given: Any) -> torch.Tensor:
        seen.append(("student" if torch.is_grad_enabled() else "target", self._half))
        return called(self, *given)

    monkeypatch.setattr(AtPrecision, "__call__", watched)
    config = replace(CONFIG, images=CONFIG.batch, precision="bf16", checkpoint_every=0)
    train(small_unet(), Edm(), Precisions(in_float32), Rows((3, 4, 4)), config, tmp_path)
    assert set(seen) == {(role, role not in in_float32) for role in ("student", "target")}
