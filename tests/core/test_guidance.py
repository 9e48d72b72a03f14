from __future__ import annotations

import numpy as np
import pytest
import torch

from fewstep.core.arrays import Array, Condition, per_sample
from fewstep.core.guidance import Guided
from fewstep.core.levels import CLEAN, PURE_NOISE, Level
from fewstep.core.parameterisations import Targets
from subjects import normal, tensor

KINDS = {"numpy": np.asarray, "torch": tensor}


class Steered:
    """D = x·push + σ + to.σ, and how often it was called."""

    targets, epsilon = Targets.ANY, 0.25

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Array, at: Level, to: Level, cond: Condition) -> Array:
        self.calls += 1
        return x * per_sample(cond["push"], x) + per_sample(at.sigma, x) + per_sample(to.sigma, x)


def _case(kind: str, size: int = 3) -> tuple[Array, Level, Level, dict[str, Array], dict[str, Array]]:
    at = Level(np.array([0.0, 0.6, 0.9])[:size], np.array([1.0, 0.6, 0.09])[:size])
    cond, null = (KINDS[kind](np.asarray(push)) for push in ([1.0, 2.0, 3.0][:size], [0.5, 0.25, -1.0][:size]))
    return KINDS[kind](normal(size, 2, 2)), at, CLEAN.batch(size), {"push": cond}, {"push": null}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("low_high", [(0.0, float("inf")), (0.5, 2.0)])
def test_weight_1_is_the_conditional_estimate_to_the_bit(kind: str, low_high: tuple[float, float]) -> None:
    x, at, to, cond, null = _case(kind)
    guided = Guided(Steered(), null, 1.0, *low_high)
    np.testing.assert_array_equal(np.asarray(guided(x, at, to, cond)), np.asarray(Steered()(x, at, to, cond)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weight", [0.0, 1.0, 4.5, np.array([0.0, 2.0, 7.0])])
def test_guidance_is_its_formula_with_one_weight_or_one_a_sample(kind: str, weight: object) -> None:
    x, at, to, cond, null = _case(kind)
    conditional, empty = Steered()(x, at, to, cond), Steered()(x, at, to, null)
    weight = weight if isinstance(weight, float) else KINDS[kind](weight)
    expected = empty + per_sample(weight, x) * (conditional - empty)
    np.testing.assert_allclose(np.asarray(Guided(Steered(), null, weight)(x, at, to, cond)), np.asarray(expected))


@pytest.mark.parametrize("kind", KINDS)
def test_outside_the_interval_the_estimate_is_the_conditional_one(kind: str) -> None:
    """σ/α of the three samples: ∞, 1, 0.1. The interval is open below and closed above."""
    x, at, to, cond, null = _case(kind)
    conditional = np.asarray(Steered()(x, at, to, cond))
    always = np.asarray(Guided(Steered(), null, 3.0)(x, at, to, cond))
    for low, high, inside in (
        (0.0, 1.0, [False, True, True]),
        (0.1, 1.0, [False, True, False]),
        (1.0, float("inf"), [True, False, False]),
        (0.2, 0.9, [False, False, False]),
    ):
        guided = np.asarray(Guided(Steered(), null, 3.0, low, high)(x, at, to, cond))
        for i, guides in enumerate(inside):
            np.testing.assert_array_equal(guided[i], (always if guides else conditional)[i])


def test_guidance_is_the_same_numbers_in_numpy_and_torch_and_for_levels_of_either() -> None:
    x, at, to, cond, null = _case("torch")
    weight = np.array([0.5, 2.0, 7.0])
    reference = Guided(Steered(), _case("numpy")[4], weight, 0.1, 5.0)(*_case("numpy")[:4])
    for levels in (at, at.like(x)):
        for weights in (weight, tensor(weight)):
            guided = Guided(Steered(), null, weights, 0.1, 5.0)(x, levels, to, cond)
            np.testing.assert_allclose(guided.numpy(), reference, atol=1e-14)


def test_guidance_calls_once_with_twice_the_batch_and_is_an_estimator_of_the_same_kind() -> None:
    x, at, to, cond, null = _case("numpy")
    inner = Steered()
    guided = Guided(inner, null, 2.0)
    guided(x, at, to, cond)
    assert inner.calls == 1
    assert (guided.targets, guided.epsilon) == (Targets.ANY, 0.25)


def test_one_null_serves_the_batch_and_what_it_lacks_is_kept() -> None:
    x, at, to, cond, _ = _case("numpy")
    one = Guided(Steered(), {"push": np.array([0.5])}, 3.0)(x, at, to, cond)
    each = Guided(Steered(), {"push": np.full(3, 0.5)}, 3.0)(x, at, to, cond)
    np.testing.assert_array_equal(one, each)
    np.testing.assert_array_equal(Guided(Steered(), {}, 3.0)(x, at, to, cond), Steered()(x, at, to, cond))


def test_guidance_keeps_single_precision_and_takes_levels_without_a_batch() -> None:
    x, _, _, cond, null = _case("torch")
    single = {name: {k: v.float() for k, v in c.items()} for name, c in (("cond", cond), ("null", null))}
    guided = Guided(Steered(), single["null"], 2.0)(x.float(), PURE_NOISE, CLEAN, single["cond"])
    assert guided.dtype == torch.float32
    assert torch.isfinite(guided).all()
