"""Muon against a plain loop and exact singular values; which parameter goes where."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fewstep.networks.unet import UNet, UNetConfig
from fewstep.training import optimizers
from fewstep.training.optimizers import Muon, OptimizerConfig, build, orthogonalise
from training_runs import small_mlp, small_unet


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 8, 72), (2, 64, 8), (1, 1, 30)])
def test_orthogonalising_brings_all_singular_values_near_1(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(shape, generator=generator)
    # singular values over two orders of magnitude
    u, s, v = torch.linalg.svd(matrices, full_matrices=False)
    matrices = u @ torch.diag_embed(torch.linspace(1.0, 0.05, s.shape[-1]).expand_as(s)) @ v
    near = orthogonalise(matrices)
    values = torch.linalg.svdvals(near)
    assert near.shape == matrices.shape
    assert near.dtype == torch.float32
    assert float(values.min()) > 0.6
    assert float(values.max()) < 1.3
    # the same singular vectors: near is close to the polar factor
    assert float(((u @ v) * near).sum() / ((u @ v).norm() * near.norm())) > 0.97


def test_orthogonalising_nothing_gives_nothing() -> None:
    assert not orthogonalise(torch.zeros(1, 4, 4)).any()


def _reference(matrix: Tensor, arithmetic: torch.dtype) -> Tensor:
    """Jordan's zeropower_via_newtonschulz5 for one matrix."""
    a, b, c = (3.4445, -4.7750, 2.0315)
    x = matrix.to(arithmetic)
    if matrix.shape[0] > matrix.shape[1]:
        x = x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    if matrix.shape[0] > matrix.shape[1]:
        x = x.T
    return x.float()


@pytest.mark.parametrize(("arithmetic", "tolerance"), [(torch.bfloat16, 4e-3), (torch.float32, 1e-5)])
def test_muon_equals_a_plain_loop(arithmetic: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizers, "fast_dtype", lambda device: arithmetic)
    torch.manual_seed(0)
    shapes = [(6, 4), (6, 4), (4, 6), (5, 3, 2, 2), (5, 12)]
    ours = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [p.detach().clone() for p in ours]
    buffers = [torch.zeros_like(p) for p in ours]
    lr, momentum, decay = 0.05, 0.9, 0.1
    optimizer = Muon(ours, lr, momentum, decay)
    for _ in range(4):
        for p, theirs_p, buffer in zip(ours, theirs, buffers, strict=True):
            gradient = torch.randn(p.shape)
            p.grad = gradient.clone()
            buffer.mul_(momentum).add_(gradient, alpha=1 - momentum)
            nesterov = (1 - momentum) * gradient + momentum * buffer
            rows = nesterov.reshape(p.shape[0], -1)
            step = _reference(rows, arithmetic) * math.sqrt(max(1.0, rows.shape[0] / rows.shape[1]))
            theirs_p.mul_(1 - lr * decay).sub_(lr * step.reshape(p.shape))
        optimizer.step()
    for p, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p.detach(), expected, rtol=0, atol=tolerance)


def test_muon_leaves_parameters_without_a_gradient_alone() -> None:
    still, moved = nn.Parameter(torch.ones(3, 3)), nn.Parameter(torch.ones(3, 3))
    moved.grad = torch.eye(3)
    Muon([still, moved]).step()
    assert torch.equal(still.detach(), torch.ones(3, 3))
    assert not torch.equal(moved.detach(), torch.ones(3, 3))


def _everywhere() -> UNet:
    config = UNetConfig(
        channels=3, control=3, widths=(32, 32), depths=(1, 1), attention=(False, True), embedding=32,
        canvas=(2, 2), size=8, text=5, text_length=4, text_width=32, classes=3, guidance=True,
    )  # fmt: skip
    return UNet(config)


@pytest.mark.parametrize("kind", ["muon", "adamw", "radam"])
@pytest.mark.parametrize("make", [_everywhere, small_unet, small_mlp, lambda: nn.Linear(1, 1)])
def test_each_parameter_is_in_exactly_one_optimiser(make: object, kind: str) -> None:
    network = make()  # type: ignore[operator]
    optimizers = build(network, OptimizerConfig(kind=kind))  # type: ignore[arg-type]
    held = [id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in network.parameters())
    assert any(isinstance(optimizer, Muon) for optimizer in optimizers) == (kind == "muon")


def test_muon_takes_hidden_matrices_only() -> None:
    network = _everywhere()
    muon = next(o for o in build(network, OptimizerConfig(kind="muon")) if isinstance(o, Muon))
    held = {id(p) for p in muon.param_groups[0]["params"]}
    names = {name for name, p in network.named_parameters() if id(p) in held}
    assert "down.0_0.conv1.weight" in names
    assert "text.layers.0.qkv.weight" in names
    for name in (
        "stem.weight",
        "head.weight",
        "embedding.label.weight",
        "text.position",
        "text.first",
        "norm.weight",
    ):
        assert name not in names
    assert not any(name.endswith("bias") for name in names)


def test_the_settings_reach_the_optimisers() -> None:
    config = OptimizerConfig(kind="muon", lr=3e-4, muon_lr=0.01, betas=(0.8, 0.9), weight_decay=0.05)
    muon, adam = build(small_mlp(), config)
    assert (muon.param_groups[0]["lr"], muon.param_groups[0]["weight_decay"]) == (0.01, 0.05)
    assert (adam.param_groups[0]["lr"], adam.param_groups[0]["betas"]) == (3e-4, (0.8, 0.9))
    (radam,) = build(small_mlp(), OptimizerConfig(kind="radam"))
    assert isinstance(radam, torch.optim.RAdam)


def test_muon_learns_as_jordan_says_if_not_told() -> None:
    muon, _ = build(small_mlp(), OptimizerConfig(kind="muon"))
    assert (muon.param_groups[0]["lr"], muon.param_groups[0]["momentum"]) == (0.02, 0.95)


@pytest.mark.parametrize("kind", ["muon", "adamw", "radam"])
def test_weights_decay_beside_the_gradient(kind: Any) -> None:
    """Decoupled (1711.05101): where nothing is to be learned, p ← p·(1 − rate·decay) in each step."""
    layer = nn.Linear(4, 4)
    before = [p.detach().clone() for p in layer.parameters()]
    for p in layer.parameters():
        p.grad = torch.zeros_like(p)
    for optimizer in build(layer, OptimizerConfig(kind=kind, lr=0.1, muon_lr=0.1, weight_decay=0.5)):
        for _ in range(2):
            optimizer.step()
    for p, old in zip(layer.parameters(), before, strict=True):
        torch.testing.assert_close(p.detach(), 0.95**2 * old)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lr": 0.0}, "lr must be above 0"),
        ({"muon_lr": math.inf}, "muon_lr must be above 0"),
        ({"warmup": -1}, "warmup and weight_decay must be at least 0"),
        ({"weight_decay": -0.1}, "warmup and weight_decay must be at least 0"),
        ({"decay_from": 1.1}, "decay_from between 0 and 1"),
    ],
)
def test_a_rate_that_cannot_be_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        OptimizerConfig(**settings)
    OptimizerConfig(warmup=0, weight_decay=0.0, decay_from=0.0)


@pytest.mark.parametrize("betas", [(2.0, 3.0), (0.9, 1.0), (-0.1, 0.99)])
def test_betas_that_no_average_can_have_are_refused(betas: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="betas must be at least 0 and below 1"):
        OptimizerConfig(betas=betas)
