"""The identity of a run: it resumes from a checkpoint only if these facts are the same."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from torch import nn

from fewstep.training.trainable import fingerprint


def identity(part: Any) -> Any:
    """The identity of one part of a run, as JSON values.

    Dataclasses are identified by name and settings, functions by their bound arguments, networks by name and, if they
    are frozen, a digest of their weights, data sets by name, size and shape.
    """
    if part is None or isinstance(part, (bool, int, float, str)):
        return part
    if isinstance(part, (tuple, list)):
        return [identity(value) for value in part]
    if isinstance(part, Mapping):
        return {str(key): identity(value) for key, value in part.items()}
    if isinstance(part, Enum):
        return part.name
    if isinstance(part, functools.partial):
        return {"kind": identity(part.func), "args": identity(part.args), "keywords": identity(part.keywords)}
    if is_dataclass(part) and not isinstance(part, (nn.Module, type)):
        settings = {f.name: identity(getattr(part, f.name)) for f in fields(part) if f.compare}
        return {"kind": type(part).__qualname__, **settings}
    return _of_kind(part)


def _of_kind(part: Any) -> Any:
    """The identity of anything but values and dataclasses: networks, wrappers, data sets, functions and classes."""
    kind = getattr(part, "__qualname__", type(part).__qualname__)
    if isinstance(part, nn.Module):
        digest = fingerprint(part)
        return kind if digest is None else {"kind": kind, "frozen": digest}
    if hasattr(part, "network"):
        return {"kind": kind, "network": identity(_innermost(part.network))}
    if hasattr(part, "example") and hasattr(part, "shape"):
        return {"kind": kind, "name": part.name, "examples": len(part), "shape": identity(part.shape)}
    return kind


def _innermost(network: Any) -> Any:
    """A network without its wrappers: how it is called is not part of a run's identity."""
    while not isinstance(network, nn.Module) and hasattr(network, "network"):
        network = network.network
    return network
