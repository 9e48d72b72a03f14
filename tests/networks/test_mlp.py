"""The perceptron for points: the U-Net's protocol in two dimensions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep.networks.mlp import MLP, MLPConfig
from fewstep.networks.registry import build, describe
from students import perceptron

ALL = {"classes": 3, "guidance": True, "dropout": 0.3}


def inputs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return x, torch.linspace(0.1, 1.5, 4, dtype=dtype), torch.zeros(4, dtype=dtype)


def conditions() -> dict[str, Tensor]:
    return {"label": torch.tensor([0, 1, 2, 0]), "guidance": torch.full((4,), 2.0), "dropout": torch.arange(4)}


def test_a_new_network_gives_zero_and_the_shape_of_x() -> None:
    output = MLP(MLPConfig(dims=3))(torch.ones(5, 3), torch.ones(5), torch.zeros(5), {})
    assert output.shape == (5, 3)
    assert not output.any()


@pytest.mark.parametrize("moved", ["x", "time_at", "time_to"])
def test_forward_mode_derivatives_match_central_differences(moved: str) -> None:
    network = perceptron(**ALL).double()
    where = dict(zip(("x", "time_at", "time_to"), inputs(torch.float64), strict=True))
    tangent = torch.ones_like(where[moved])

    def along(values: Tensor) -> Tensor:
        return network(**{**where, moved: values}, cond=conditions())

    _, derivative = torch.func.jvp(along, (where[moved],), (tangent,))
    with torch.no_grad():
        difference = (along(where[moved] + 1e-5 * tangent) - along(where[moved] - 1e-5 * tangent)) / 2e-5
    assert float(derivative.detach().abs().max()) > 1e-3
    torch.testing.assert_close(derivative, difference, rtol=1e-6, atol=1e-8)


def test_a_target_starts_without_effect() -> None:
    network = perceptron()
    x, at, to = inputs()
    assert not torch.allclose(network(x, at, to, {}), network(x, at, at, {}))
    torch.nn.init.zeros_(network.embedding.to_target.weight)
    torch.testing.assert_close(network(x, at, to, {}), network(x, at, at, {}), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["label", "guidance", "dropout"])
def test_each_condition_has_an_effect(name: str) -> None:
    network, cond = perceptron(**ALL), conditions()
    without = network(*inputs(), {k: v for k, v in cond.items() if k != name})
    assert not torch.allclose(network(*inputs(), cond), without, atol=1e-4)


def test_dropout_belongs_to_a_key_not_to_a_place_in_the_batch() -> None:
    network = perceptron(**ALL)
    x, at, to = inputs()
    cond = {**conditions(), "label": torch.zeros(4, dtype=torch.int64)}
    turned = {k: v.flip(0) for k, v in cond.items()}
    output = network(x.flip(0), at.flip(0), to.flip(0), turned).flip(0)
    torch.testing.assert_close(output, network(x, at, to, cond))


def test_each_layer_drops_by_its_own_mask() -> None:
    assert [block.layer for block in perceptron(depth=4).blocks] == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["dims", "width", "depth", "embedding"])
def test_a_shape_that_cannot_be_is_refused(name: str) -> None:
    settings: dict[str, Any] = {name: 0}
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        MLPConfig(**settings)


def test_a_description_builds_the_same_network() -> None:
    network = perceptron(**ALL)
    again = build(describe(network))
    again.load_state_dict(network.state_dict())
    torch.testing.assert_close(again(*inputs(), conditions()), network(*inputs(), conditions()), rtol=0, atol=0)
