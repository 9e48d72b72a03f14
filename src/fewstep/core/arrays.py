"""The few array helpers that NumPy arrays and torch tensors share, through the Array API standard.

Nothing here imports torch: the namespace is taken from the arrays that arrive.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from array_api_compat import array_namespace, device, is_torch_array, to_device

from fewstep.core.array_api import Array, ArrayLike, ArrayT, Namespace

Condition: TypeAlias = Mapping[str, Array]
"""Named arrays that steer a network, each with the batch as its first axis."""

__all__ = [
    "Array",
    "ArrayLike",
    "ArrayT",
    "Condition",
    "batch_of",
    "divide",
    "is_tensor",
    "like",
    "namespace",
    "per_sample",
    "reciprocal",
]


def is_tensor(values: object) -> bool:
    """Whether `values` are a torch tensor. (array_api_compat's own check makes the type checker forget what else an
    array may be.)"""
    return bool(is_torch_array(values))


def namespace(*arrays: ArrayLike) -> Namespace:
    """Return the Array API namespace of `arrays`: that of the tensors among them, else NumPy."""
    tensors = [a for a in arrays if not isinstance(a, np.ndarray) and is_tensor(a)]
    # NumPy speaks the standard itself since 2.1; its wrapper would import half of NumPy's submodules
    xp: Namespace = array_namespace(*tensors) if tensors else np
    return xp


def like(values: ArrayLike, reference: ArrayT) -> ArrayT:
    """Return `values` in the namespace and on the device of `reference`, its own precision kept.

    Python numbers become float64 (whole ones int64). A tensor stays in its graph.
    """
    if is_tensor(reference):
        same: ArrayT = to_device(_tensor(values, reference), device(reference))
    else:
        same = namespace(reference).asarray(values)
    return same


def _tensor(values: ArrayLike, reference: Array) -> Any:
    """`values` as a tensor, where they are: `asarray` of a tensor would leave its graph in some versions of torch."""
    if is_tensor(values):
        return values
    array = np.asarray(values)
    return namespace(reference).asarray(array if array.flags.writeable else array.copy())


def _cast_like(values: ArrayLike, reference: ArrayT) -> ArrayT:
    """`values` with the namespace, device and precision of `reference`, cast before they travel: not every
    accelerator has float64."""
    xp = namespace(reference)
    if is_tensor(reference):
        cast: ArrayT = to_device(xp.astype(_tensor(values, reference), reference.dtype), device(reference))
    else:
        cast = xp.astype(xp.asarray(values), reference.dtype)
    return cast


def per_sample(values: ArrayLike, x: ArrayT) -> ArrayT:
    """Shape per-sample numbers so that they multiply `x`.

    Args:
        values: one number, or numbers of shape [b], in any namespace and precision.
        x: [b, ...] the array to be scaled; gives namespace, device and precision.

    Returns:
        An array of x's type of shape [] or [b, 1, ...].
    """
    xp = namespace(x)
    numbers = _cast_like(values, x)
    if numbers.ndim == 0:
        return numbers
    return xp.reshape(numbers, (-1,) + (1,) * (x.ndim - 1))


def batch_of(values: ArrayLike, x: ArrayT) -> ArrayT:
    """Return per-sample numbers as an array of shape [b] of x's type: what a network takes as times."""
    numbers = _cast_like(values, x)
    return numbers if numbers.shape == x.shape[:1] else namespace(x).broadcast_to(numbers, (x.shape[0],))


def divide(numerator: ArrayT, denominator: ArrayT) -> ArrayT:
    """Divide, giving 0 where the denominator is 0: for quotients that are multiplied by a zero there."""
    xp = namespace(numerator, denominator)
    is_zero = _is_zero(denominator)
    safe = xp.where(is_zero, xp.ones_like(denominator), denominator)
    return xp.where(is_zero, xp.zeros_like(numerator * safe), numerator / safe)


def reciprocal(values: ArrayT) -> ArrayT:
    """1/values, giving 0 where a value is 0: for factors of what is zero there."""
    return divide(namespace(values).ones_like(values), values)


def _is_zero(values: Array) -> Array:
    return values == 0
