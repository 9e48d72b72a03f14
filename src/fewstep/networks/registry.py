"""Networks by kind, for models read from disk and for recipes that fit a network to their data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import nn

from fewstep.networks.inputs import NetworkInputs, NetworkSize
from fewstep.networks.mlp import MLP, MLPConfig
from fewstep.networks.unet import UNet, UNetConfig
from fewstep.networks.unet2d import UNet2D, UNet2DConfig

NETWORKS: dict[str, tuple[type[nn.Module], type[Any]]] = {
    "unet": (UNet, UNetConfig),
    "mlp": (MLP, MLPConfig),
    "unet2d": (UNet2D, UNet2DConfig),
}


def build(description: Mapping[str, Any]) -> nn.Module:
    """A network with fresh weights from {"kind": …, "config": {…}}.

    Raises:
        ValueError: the kind is unknown.
    """
    network, config = _known(description["kind"])
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in description["config"].items()}
    return network(config(**settings))


def fit(kind: str, inputs: NetworkInputs, size: NetworkSize) -> nn.Module:
    """A network of a kind with fresh weights, for given inputs and of a given size.

    Raises:
        ValueError: the kind is unknown, or cannot take these inputs.
    """
    network, config = _known(kind)
    return network(config.fitted(inputs, size))


def _known(kind: str) -> tuple[type[nn.Module], type[Any]]:
    if kind not in NETWORKS:
        raise ValueError(f"unknown network '{kind}': this version knows {', '.join(sorted(NETWORKS))}")
    return NETWORKS[kind]


def describe(network: nn.Module) -> dict[str, Any]:
    """The inverse of `build`, as JSON values."""
    for kind, (cls, _) in NETWORKS.items():
        if type(network) is cls:
            config: Any = network.config
            return {"kind": kind, "config": {name: getattr(config, name) for name in config.__dataclass_fields__}}
    raise ValueError(f"a {type(network).__name__} cannot be saved: it is not registered in fewstep.networks")


def load_weights(network: nn.Module, file: Path) -> None:
    """Read float16 or float32 weights into a float32 network; every name must match."""
    network.load_state_dict({name: value.float() for name, value in load_file(file).items()})
