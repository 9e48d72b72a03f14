"""The training of a prior: it learns each prompt's mean picture, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from fewstep.models.parts import ModelError
from fewstep.networks.mlp import MLP, MLPConfig
from fewstep.networks.unet import UNet, UNetConfig
from fewstep.objectives import Batch
from fewstep.training.ema import EmaConfig
from fewstep.training.loop import TrainingConfig
from fewstep.training.optimizers import OptimizerConfig
from fewstep.training.prior_training import PriorAlone, train_prior

CONFIG = TrainingConfig(
    images=16 * 200, batch=16, optimizer=OptimizerConfig(lr=1e-2, warmup=0), ema=EmaConfig(sigma_rel=0.05)
)


def unet(prior: tuple[int, ...] = (16, 8)) -> UNet:
    torch.manual_seed(3)
    return UNet(UNetConfig(2, 2, (32,), (1,), (False,), 16, prior=prior, size=4, classes=2))


@dataclass(frozen=True)
class TwoPictures:
    """Class 0 is one picture, class 1 another, both with noise of deviation 0.1; a sketch tells nothing."""

    def stream(self, first: int, last: int, batch: int, rank: int, world: int) -> Iterator[Batch]:
        for step in range(first, last):
            noise = torch.Generator().manual_seed(step)
            label = torch.arange(batch) % 2
            data = pictures()[label] + 0.1 * torch.randn(batch, 2, 4, 4, generator=noise)
            control = torch.randn(batch, 2, 4, 4, generator=noise)
            yield Batch(data, {"label": label, "control": control, "control_mask": torch.ones(batch)})


def pictures() -> torch.Tensor:
    return 0.5 * torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(1))


def test_it_learns_the_mean_picture_of_each_prompt_and_nothing_else(tmp_path: Path) -> None:
    network = unet()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    train_prior(network, TwoPictures(), CONFIG, tmp_path, {}, 0.5)
    changed = {
        name.split(".")[0] for name, value in network.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {"prior"}
    x, time = torch.zeros(2, 2, 4, 4), torch.zeros(2)
    with torch.no_grad():
        estimate = 0.5 * PriorAlone(network)(x, time, time, {"label": torch.arange(2)})
    assert (estimate - pictures()).square().mean() < 0.05 * pictures().var()


def test_a_finished_stage_is_taken_from_its_folder(tmp_path: Path) -> None:
    first, again = unet(), unet()
    for network in (first, again):
        train_prior(network, TwoPictures(), CONFIG, tmp_path, {}, 0.5)
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1


def test_the_estimate_does_not_depend_on_x() -> None:
    parts = PriorAlone(unet())
    x, time = torch.randn(2, 2, 4, 4), torch.zeros(2)
    cond = {"label": torch.tensor([0, 1])}
    assert torch.equal(parts(x, time, time, cond), parts(0 * x, time, time, cond))
    assert not torch.equal(*parts(x, time, time, cond))


def test_other_networks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be a unet with a prior, got MLP without one"):
        PriorAlone(MLP(MLPConfig(2)))
    with pytest.raises(ValueError, match=r"must be a unet with a prior, got UNet without one"):
        PriorAlone(unet(prior=()))


def test_a_prior_goes_on_from_saved_weights(tmp_path: Path) -> None:
    first, short = unet(), replace(CONFIG, images=16 * 20)
    train_prior(first, TwoPictures(), short, tmp_path / "first", {}, 0.5)
    second = unet()
    start = tmp_path / "first" / "prior.safetensors"
    train_prior(second, TwoPictures(), replace(CONFIG, images=16), tmp_path / "second", {}, 0.5, start)
    x, time, cond = torch.zeros(2, 2, 4, 4), torch.zeros(2), {"label": torch.arange(2)}
    with torch.no_grad():
        fresh, one, other = (PriorAlone(network)(x, time, time, cond) for network in (unet(), first, second))
    assert (one - other).square().mean() < 0.1 * (one - fresh).square().mean()
    with pytest.raises(ModelError, match=r"prior\.safetensors' does not hold the weights of this prior"):
        train_prior(unet((8, 8)), TwoPictures(), short, tmp_path / "third", {}, 0.5, start)
