"""A new objective is one class in one file: this one. Nothing else knows of it, and it trains, goes on after it was
stopped, is saved as a model and draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from fewstep.core.parameterisations import Edm, Estimator, Targets
from fewstep.data import ring
from fewstep.generation.load import load
from fewstep.generation.planning import Conditions, Plan, Sampling
from fewstep.models.codecs import Identity
from fewstep.models.components import components
from fewstep.models.conditioning import Conditioning
from fewstep.models.spec import ModelSpec
from fewstep.networks.mlp import MLP, MLPConfig
from fewstep.networks.registry import describe
from fewstep.objectives import Batch, Loss, Objective
from fewstep.objectives.curricula import Clock
from fewstep.objectives.objective import mean_loss, noised
from fewstep.objectives.times import Density, LogNormal, Rng
from fewstep.training.batches import DatasetBatches
from fewstep.training.checkpoints import AnotherRun
from fewstep.training.loop import TrainingState, train
from fewstep.training.saving import save_model
from training_runs import CONFIG, curve, weights


@dataclass(frozen=True)
class Scaled(Objective):
    """Denoising in the first norm, under one learned scale b: |D − data|/b + ln b."""

    density: Density = field(default_factory=LogNormal)
    scale: nn.Linear = field(default_factory=lambda: nn.Linear(1, 1), compare=False)
    targets: Targets = Targets.SAME

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return {"scale": self.scale}

    def __call__(self, student: Estimator, target: Estimator, batch: Batch, clock: Clock, rng: Rng) -> Loss:
        x, at, _ = noised(batch.data, self.density.sample(rng, batch.data.shape[0]), rng)
        distance = (student(x, at, at, batch.cond) - batch.data).abs().mean(dim=1)
        log = self.scale(distance.new_ones(1, 1))[0, 0]
        per_sample = distance * torch.exp(-log) + log
        return mean_loss(per_sample, at, scale=log.detach().exp())


class Stopped(Exception):
    pass


def stop(state: TrainingState) -> dict[str, float]:
    raise Stopped


def run(out: Path, objective: Objective | None = None, stopping: bool = False, seed: int = 0) -> MLP:
    torch.manual_seed(seed)
    network, chosen = MLP(MLPConfig(width=32, depth=2, embedding=32)), objective or Scaled()
    source = DatasetBatches(ring(), Conditioning(Identity()), drop=0.0)
    config = replace(CONFIG, images=160, batch=16, preview_every=5 if stopping else 0)
    average = train(network, Edm(), chosen, source, config, out, [stop] if stopping else [])
    assert isinstance(average, MLP)
    return average


def test_it_trains_goes_on_and_draws(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    with pytest.raises(Stopped):
        run(tmp_path / "stopped", stopping=True)
    again = run(tmp_path / "stopped", seed=1)
    assert torch.equal(weights(again), weights(whole))
    assert len(curve(tmp_path / "whole", "scale")) == 2
    with pytest.raises(AnotherRun, match=r"objective\.density\.mean was -1\.2, now 0\.5"):
        run(tmp_path / "whole", Scaled(LogNormal(0.5)))

    spec = ModelSpec(
        name="scaled",
        components=components(describe(whole), Conditioning(Identity())),
        parameterisation=Edm(),
        targets=Targets.SAME,
        pixels=(2,),
        pixel_format="points",
        sampler="heun",
        steps=4,
    )
    model = load(save_model(whole, spec, tmp_path / "model").directory)
    plan = Plan(Sampling("heun", model.spec.grid(4), (1, 2, 3)), Conditions(("",) * 3))
    *_, last = model.run(plan)
    assert last.jump.x.shape == (3, 2)
