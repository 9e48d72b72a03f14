"""The few array helpers that NumPy arrays and torch tensors share, through the Array API standard.

Nothing here imports torch: the namespace is taken from the arrays that arrive.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from array_api_compat import array_namespace, device, is_torch_array, to_device

Array: TypeAlias = Any
"""A NumPy array or a torch tensor; which shape, each function says."""

Condition: TypeAlias = Mapping[str, Array]
"""Named arrays that steer a network, each with the batch as its first axis."""


def namespace(*arrays: Array) -> Any:
    """Return the Array API namespace of `arrays`: that of the tensors among them, else NumPy."""
    torch_arrays = [a for a in arrays if not isinstance(a, np.ndarray) and is_torch_array(a)]
    # NumPy speaks the standard itself since 2.1; its wrapper would import half of NumPy's submodules
    return array_namespace(*torch_arrays) if torch_arrays else np


def like(values: Array, reference: Array) -> Array:
    """Return `values` in the namespace and on the device of `reference`, its own precision kept.

    Python numbers become float64 (whole ones int64). A tensor stays in its graph.
    """
    if not is_torch_array(reference):
        return namespace(reference).asarray(values)
    return to_device(_tensor(values, reference), device(reference))


def _tensor(values: Array, reference: Array) -> Array:
    """`values` as a tensor, where they are: `asarray` of a tensor would leave its graph in some versions of torch."""
    if is_torch_array(values):
        return values
    values = np.asarray(values)
    return namespace(reference).asarray(values if values.flags.writeable else values.copy())


def _cast_like(values: Array, reference: Array) -> Array:
    """`values` with the namespace, device and precision of `reference`, cast before they travel: not every
    accelerator has float64."""
    xp = namespace(reference)
    if not is_torch_array(reference):
        return xp.astype(xp.asarray(values), reference.dtype)
    return to_device(xp.astype(_tensor(values, reference), reference.dtype), device(reference))


def per_sample(values: Array, x: Array) -> Array:
    """Shape per-sample numbers so that they multiply `x`.

    Args:
        values: one number, or numbers of shape [b], in any namespace and precision.
        x: [b, ...] the array to be scaled; gives namespace, device and precision.

    Returns:
        An array of x's type of shape [] or [b, 1, ...].
    """
    xp = namespace(x)
    values = _cast_like(values, x)
    if values.ndim == 0:
        return values
    return xp.reshape(values, (-1,) + (1,) * (x.ndim - 1))


def batch_of(values: Array, x: Array) -> Array:
    """Return per-sample numbers as an array of shape [b] of x's type: what a network takes as times."""
    values = _cast_like(values, x)
    return values if values.shape == x.shape[:1] else namespace(x).broadcast_to(values, (x.shape[0],))


def divide(numerator: Array, denominator: Array) -> Array:
    """Divide, giving 0 where the denominator is 0: for quotients that are multiplied by a zero there."""
    xp = namespace(numerator, denominator)
    is_zero = denominator == 0
    safe = xp.where(is_zero, xp.ones_like(denominator), denominator)
    return xp.where(is_zero, xp.zeros_like(numerator * safe), numerator / safe)
