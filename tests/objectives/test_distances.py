from __future__ import annotations

import numpy as np
import pytest
import torch

from fewstep.objectives.distances import Norm, Perceptual, PseudoHuber, Squared
from subjects import normal, tensor

A, B = normal(3, 2, 4, seed=1), normal(3, 2, 4, seed=2)
SQUARE = np.sum((A - B).reshape(3, -1) ** 2, axis=1)
C = 0.00054 * np.sqrt(8)
DISTANCES = {
    "squared": (Squared(), SQUARE),
    "norm": (Norm(), np.sqrt(SQUARE + 1e-12) - 1e-6),
    "pseudo_huber": (PseudoHuber(), np.sqrt(SQUARE + C**2) - C),
    "pseudo_huber_c": (PseudoHuber(0.3), np.sqrt(SQUARE + 0.09) - 0.3),
    "perceptual": (Perceptual(lambda x: 2 * x), 4 * SQUARE),
    "perceptual_pixels": (Perceptual(lambda x: 2 * x, pixels=0.5), 4.5 * SQUARE),
}


@pytest.mark.parametrize("kind", [np.asarray, tensor])
@pytest.mark.parametrize("name", DISTANCES)
def test_a_distance_is_its_formula_one_number_a_sample(name: str, kind) -> None:
    distance, expected = DISTANCES[name]
    values = distance(kind(A), kind(B))
    assert values.shape == (3,)
    np.testing.assert_allclose(np.asarray(values), expected, rtol=1e-10)


@pytest.mark.parametrize("name", DISTANCES)
def test_equal_batches_are_at_distance_0_with_a_finite_gradient(name: str) -> None:
    a = tensor(A, requires_grad=True)
    values = DISTANCES[name][0](a, a.detach().clone())
    assert values.abs().max() < 1e-12
    values.sum().backward()
    assert (a.grad == 0).all()


def test_pseudo_huber_is_squared_near_0_and_the_norm_far_away() -> None:
    near, far = np.full((1, 8), 1e-4), np.full((1, 8), 1e3)
    zero, c = np.zeros((1, 8)), 0.3
    np.testing.assert_allclose(PseudoHuber(c)(near, zero), Squared()(near, zero) / (2 * c), rtol=1e-5)
    np.testing.assert_allclose(PseudoHuber(c)(far, zero), Norm(0.0)(far, zero) - c, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", DISTANCES)
def test_half_precision_is_summed_in_single(name: str, dtype: torch.dtype) -> None:
    """4 096 squares of 10 sum to 409 600, beyond float16's 65 504."""
    a, b = torch.full((1, 4096), 10.0, dtype=dtype), torch.zeros(1, 4096, dtype=dtype)
    values = DISTANCES[name][0](a, b)
    assert values.dtype == torch.float32
    np.testing.assert_allclose(values, DISTANCES[name][0](a.float(), b.float()), rtol=1e-5)


def test_pseudo_huber_without_a_constant_is_refused() -> None:
    with pytest.raises(ValueError, match="c must be above 0"):
        PseudoHuber(0.0)
