"""What learns of a network is what optimiser, average and checkpoint hold: an adapter on a large frozen network."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from fewstep.core.arrays import Condition
from fewstep.core.parameterisations import Edm
from fewstep.networks.mlp import MLP, MLPConfig
from fewstep.objectives import Diffusion
from fewstep.training.checkpoints import AnotherRun
from fewstep.training.loop import TrainingState, train
from fewstep.training.optimizers import OptimizerConfig, build
from fewstep.training.trainable import LearnedState, fingerprint, frozen, sharing_copy, trainable
from training_runs import CONFIG, Rows, small_mlp

CONFIG = replace(CONFIG, images=40, checkpoint_every=4, optimizer=OptimizerConfig(warmup=0))


class LowRank(nn.Module):
    """A frozen linear layer with a trainable update of low rank."""

    def __init__(self, base: nn.Linear, rank: int = 2) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, base.in_features) / base.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        update: Tensor = x @ self.down.T @ self.up.T
        base: Tensor = self.base(x)
        return base + update


class Adapted(nn.Module):
    """A network of which nothing learns but low-rank updates of its linear layers."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        layers = [(name, part) for name, part in network.named_modules() if isinstance(part, nn.Linear)]
        for name, part in layers:
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, LowRank(part))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x: Tensor, at: Tensor, to: Tensor, cond: Condition) -> Tensor:
        output: Tensor = self.network(x, at, to, cond)
        return self.scale * output


def adapted(seed: int = 0, base: int = 0, width: int = 256) -> Adapted:
    torch.manual_seed(base)
    network = MLP(MLPConfig(width=width, depth=3, embedding=32))
    with torch.no_grad():
        network.head.weight.normal_(std=0.1)
    torch.manual_seed(100 + seed)
    return Adapted(network)


def size(tensors: list[Tensor]) -> int:
    return sum(values.nbytes for values in tensors)


def test_parameters_that_learn_are_told_by_name() -> None:
    network = adapted()
    names = set(trainable(network))
    assert names
    assert all(name.endswith((".up", ".down")) for name in names)
    assert names | set(frozen(network)) == {name for name, _ in network.named_parameters(remove_duplicate=False)}
    assert set(trainable(small_mlp())) == {name for name, _ in small_mlp().named_parameters()}


def test_an_adapter_costs_optimiser_average_and_checkpoint_its_own_size(tmp_path: Path) -> None:
    network = adapted()
    adapter, whole = size(list(trainable(network).values())), size(list(network.parameters()))
    assert adapter < whole / 20, "the frozen network must be the larger by far"
    (optimizer,) = build(network, OptimizerConfig())
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(trainable(network))

    average = train(network, Edm(), Diffusion(), Rows((2,)), CONFIG, tmp_path)
    own = {p.data_ptr() for p in average.parameters()} - {p.data_ptr() for p in network.parameters()}
    assert len(own) == len(trainable(network)), "frozen parameters are shared, not copied"
    saved = tmp_path / "checkpoints" / "step-00000010"
    for file, most in (("student", 1.2), ("average", 1.2), ("optimizers", 2.4)):
        assert (saved / f"{file}.safetensors").stat().st_size < most * adapter + 10_000
    assert set(load_file(saved / "student.safetensors")) == {*trainable(network), "scale"}


def test_the_frozen_network_stays_and_the_adapter_learns(tmp_path: Path) -> None:
    network, start = adapted(), adapted()
    average = train(network, Edm(), Diffusion(), Rows((2,)), CONFIG, tmp_path)
    now, averaged = dict(network.named_parameters()), dict(average.named_parameters())
    moved = {name for name, parameter in start.named_parameters() if not torch.equal(now[name], parameter)}
    assert moved <= set(trainable(network))
    assert len(moved) > len(trainable(network)) / 2, "a denoiser has no use for the time it jumps to"
    assert any(not torch.equal(averaged[name], now[name]) for name in moved)


def test_an_adapter_resumes_bit_for_bit(tmp_path: Path) -> None:
    def stop(state: TrainingState) -> dict[str, float]:
        raise InterruptedError

    whole = train(adapted(), Edm(), Diffusion(), Rows((2,)), CONFIG, tmp_path / "whole")
    cut = replace(CONFIG, preview_every=6)
    with pytest.raises(InterruptedError):
        train(adapted(), Edm(), Diffusion(), Rows((2,)), cut, tmp_path / "cut", [stop])
    again = train(adapted(seed=1), Edm(), Diffusion(), Rows((2,)), CONFIG, tmp_path / "cut")
    for name, values in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], values), name


def test_an_adapter_does_not_go_on_upon_another_frozen_network(tmp_path: Path) -> None:
    train(adapted(), Edm(), Diffusion(), Rows((2,)), CONFIG, tmp_path)
    with pytest.raises(AnotherRun, match=r"frozen was [0-9a-f]{64}, now [0-9a-f]{64}"):
        train(adapted(base=1), Edm(), Diffusion(), Rows((2,)), CONFIG, tmp_path)


def test_a_network_of_which_nothing_learns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to train: no parameter of 'student' requires a gradient"):
        train(small_mlp().requires_grad_(False), Edm(), Diffusion(), Rows((2,)), CONFIG, tmp_path)


def test_the_fingerprint_is_of_the_frozen_weights_alone() -> None:
    network = adapted()
    before = fingerprint(network)
    assert before is not None
    assert len(before) == 64
    with torch.no_grad():
        next(iter(trainable(network).values())).add_(1.0)
    assert fingerprint(network) == before
    with torch.no_grad():
        first = next(iter(frozen(network).values()))
        first.view(-1)[0] = math.nextafter(float(first.view(-1)[0]), math.inf) + 1e-6
    assert fingerprint(network) != before
    assert fingerprint(small_mlp()) is None
    half = small_mlp().requires_grad_(False)
    assert fingerprint(half) != fingerprint(half.half())


def test_the_state_of_another_network_is_refused() -> None:
    network = adapted()
    kept = LearnedState(network, frozen(network))
    state = kept.state_dict()
    missing = dict(list(state.items())[1:])
    for wrong in (missing, {**state, "stranger": torch.ones(1)}, network.state_dict()):
        with pytest.raises(RuntimeError, match="does not fit"):
            kept.load_state_dict(wrong)
    kept.load_state_dict(state)


def test_a_copy_has_what_learns_for_itself() -> None:
    network = adapted()
    copy = sharing_copy(network)
    learning = set(trainable(network))
    for (name, mine), theirs in zip(copy.named_parameters(), network.parameters(), strict=True):
        assert (mine is theirs) == (name not in learning)
        assert torch.equal(mine, theirs)
    assert copy.get_buffer("scale") is not network.get_buffer("scale")
