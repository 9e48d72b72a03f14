"""Forward mode and central differences agree with each other and with closed forms, on every path and at its ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fewstep.core.levels import Linear, Path, Trig
from fewstep.core.parameterisations import Targets
from fewstep.networks.unet import UNet, UNetConfig
from fewstep.objectives.derivatives import Derivative, Direction
from fewstep.training.calling import AtPrecision
from oracles import Gaussian
from students import CPU, perceptron, stirred, student_of

PATHS: dict[str, Path] = {"linear": Linear(), "trig": Trig()}
FORWARD, STEPS = Derivative(), Derivative("differences", 1e-3)


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _unet() -> nn.Module:
    config = UNetConfig(
        channels=4, widths=(32, 64), depths=(1, 1), attention=(False, True), embedding=64, classes=10, dropout=0.2
    )
    return stirred(UNet(config))


def _laid_out() -> nn.Module:
    """As the training loop lays out a network's memory."""
    return _unet().to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


NETWORKS: dict[str, tuple[Any, tuple[int, ...], dict[str, Tensor]]] = {
    "perceptron": (perceptron, (2,), {}),
    "U-Net": (_unet, (4, 8, 8), {"label": torch.arange(6), "dropout": 1000 * torch.arange(6)}),
    "U-Net, channels last": (_laid_out, (4, 8, 8), {"label": torch.arange(6)}),
}
RATES = {"start": (1.0, 0.0), "end": (0.0, 1.0), "both": (1.0, 0.5)}


@pytest.mark.parametrize("rates", RATES)
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("path", PATHS)
def test_both_modes_agree_from_the_clean_end_to_pure_noise(path: str, network: str, rates: str) -> None:
    make, shape, cond = NETWORKS[network]
    student = student_of(make(), Targets.ANY)
    at = torch.linspace(0.02, PATHS[path].noisiest, 6, dtype=torch.float64)
    to = at * torch.linspace(0, 1, 6)
    rate_at, rate_to = RATES[rates]
    along = Direction(_normal(6, *shape, seed=1), rate_at, rate_to)
    x = _normal(6, *shape)
    (estimate, exact), (same, near) = (how(student, PATHS[path], x, at, to, cond, along) for how in (FORWARD, STEPS))
    plain = student(x, PATHS[path].level(at), PATHS[path].level(to), cond)
    for value in (estimate, same):
        torch.testing.assert_close(value, plain, rtol=1e-5, atol=1e-5)
    assert exact.dtype == torch.float32
    assert bool(exact.flatten(1).norm(dim=1).gt(1e-3).all())
    assert float((near - exact).norm() / exact.norm()) < 0.01


@pytest.mark.parametrize("how", [FORWARD, replace(STEPS, step=1e-4)], ids=["forward", "differences"])
def test_along_its_trajectory_an_exact_consistency_function_does_not_change(how: Derivative) -> None:
    oracle, path = Gaussian(np.array([0.3, -0.2]), np.array([0.5, 0.8])), Trig()
    t = torch.linspace(0.05, path.noisiest - 1e-6, 7, dtype=torch.float64)
    at = path.level(t)
    x = at.mix(_normal(7, 2).double(), _normal(7, 2, seed=1).double())
    flow = (t.cos()[:, None] * x - oracle(x, at, at)) / t.sin()[:, None]
    _, along = how(replace(oracle, targets=Targets.CLEAN), path, x, t, 0 * t, {}, Direction(flow))
    _, across = how(replace(oracle, targets=Targets.CLEAN), path, x, t, 0 * t, {}, Direction(flow + 1))
    assert float(along.abs().max()) < 1e-4  # one-sided at the noisy end
    assert float(across.abs().min()) > 1e-2


def test_nothing_learns_through_a_derivative() -> None:
    network = perceptron()
    for how in (FORWARD, STEPS):
        t = torch.full((3,), 0.5, dtype=torch.float64)
        results = how(
            student_of(network, Targets.ANY), Linear(), _normal(3, 2), t, 0 * t, {}, Direction(_normal(3, 2))
        )
        assert not any(result.requires_grad for result in results)


def test_forward_mode_needs_float32() -> None:
    """Why the training loop gives a target in float32: arithmetic in bfloat16 has no derivative in forward mode."""
    half = student_of(AtPrecision(perceptron(), CPU, "bf16"), Targets.ANY)
    t = torch.full((3,), 0.5, dtype=torch.float64)
    with pytest.raises(RuntimeError):
        FORWARD(half, Linear(), _normal(3, 2), t, 0 * t, {}, Direction(_normal(3, 2)))


@pytest.mark.parametrize(
    ("wrong", "said"), [({"mode": "backward"}, "mode"), ({"step": 0.0}, "step"), ({"step": 1.0}, "step")]
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"{said} must be"):
        Derivative(**wrong)
