from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from fewstep.core.arrays import batch_of, divide, like, namespace, per_sample
from subjects import tensor


def test_namespace_prefers_torch_and_takes_numbers_for_numpy() -> None:
    assert "torch" in namespace(np.zeros(1), torch.zeros(1)).__name__
    assert "numpy" in namespace(1.0, np.zeros(1)).__name__
    assert "numpy" in namespace(1, 2.0).__name__


def test_like_keeps_precision_numbers_and_graph() -> None:
    assert like(0.1, torch.zeros(1)).item() == 0.1
    assert like(np.float32(0.1), torch.zeros(1, dtype=torch.float64)).dtype == torch.float32
    leaf = torch.ones(2, requires_grad=True)
    assert like(leaf, torch.zeros(1)).requires_grad
    assert like(np.ones(2), np.zeros(1, dtype=np.float32)).dtype == np.float64


def test_like_neither_warns_of_nor_shares_memory_that_may_not_be_written() -> None:
    fixed = np.broadcast_to(np.float64(0.3), (3,))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        moved = like(fixed, torch.zeros(1))
        like(torch.ones(1, requires_grad=True), torch.zeros(1))
    moved[0] = 9.0
    assert fixed[0] == 0.3


@pytest.mark.parametrize("x", [np.zeros((2, 3, 4), np.float32), torch.zeros(2, 3, 4, dtype=torch.float32)])
def test_per_sample_multiplies_each_sample_in_its_precision(x: object) -> None:
    scaled = per_sample(np.array([2.0, 3.0]), x) * (x + 1)
    assert scaled.dtype == x.dtype
    np.testing.assert_array_equal(np.asarray(scaled)[:, 0, 0], [2, 3])
    assert per_sample(2.0, x).shape == ()
    assert batch_of(0.5, x).shape == (2,)
    assert batch_of(np.array([0.5, 1.0]), x).dtype == x.dtype


def test_divide_gives_zero_for_zero_forward_and_backward() -> None:
    assert divide(np.array([1.0, 0.0]), np.array([0.0, 2.0])).tolist() == [0, 0]
    top, bottom = tensor([1.0, 1.0], requires_grad=True), tensor([0.0, 2.0], requires_grad=True)
    divide(top, bottom).sum().backward()
    assert top.grad.tolist() == [0, 0.5]
    assert bottom.grad.tolist() == [0, -0.25]
