"""Acceleration LoRAs on diffusers networks (2311.05556), through PEFT: the frozen network is the teacher, the network
with its adapter the student, and both are the same module."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

from diffusers.loaders import PeftAdapterMixin
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from fewstep.interop.lora_weights import adaptable, component_of
from fewstep.models.parts import ModelError

UNET_TARGETS = (
    "to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2",
    "conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj",
)  # fmt: skip
"""The kinds of layer that LCM-LoRA trains in a U-Net (diffusers' train_lcm_distill_lora_*.py)."""

TRANSFORMER_TARGETS = (
    "to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out",
    "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2", "proj_mlp", "proj_out",
)  # fmt: skip
"""Attention, added projections and feed-forward of SD3- and Flux-like transformers, single-stream blocks included."""


def add_lora(
    network: nn.Module,
    rank: int = 64,
    alpha: float | None = None,
    targets: Sequence[str] | None = None,
    adapter: str = "default",
) -> tuple[str, ...]:
    """Add a LoRA to a network in place: only its matrices require gradients afterwards, and it changes nothing yet.

    The down matrices are drawn from torch's global generator, as the weights of any new layer; the up matrices are 0.

    Args:
        network: diffusers' `UNet2DConditionModel` or one of its transformers.
        rank: r, the rank of each layer's update.
        alpha: α; the update is (alpha/rank)·B·A. By default rank, as in the released LCM-LoRAs.
        targets: ends of the paths of the layers to adapt ("to_q", "ff.net.2"). By default the kinds in `UNET_TARGETS`
            or `TRANSFORMER_TARGETS` that the network has in its blocks.
        adapter: the adapter's name.

    Returns:
        The paths of the adapted layers.

    Raises:
        ModelError: the network is of another kind, or already has adapters.
        ValueError: rank or alpha is not positive, or a target is no linear or convolution layer of the network.
    """
    component = component_of(network)
    alpha = float(rank) if alpha is None else alpha
    if rank < 1:
        raise ValueError(f"rank must be at least 1, got {rank}")
    if not 0 < alpha < math.inf:
        raise ValueError(f"alpha must be positive and finite, got {alpha}")
    if present := getattr(network, "peft_config", None):
        raise ModelError(f"the network already has adapters ({', '.join(present)}): fuse or unload them")
    if targets is None:
        paths = _default_paths(network, UNET_TARGETS if component == "unet" else TRANSFORMER_TARGETS)
    else:
        paths = _paths(network, targets)
    network.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(paths))  # type: ignore[arg-type]  # α may be 0.5
    cast(PeftAdapterMixin, network).add_adapter(config, adapter)
    return paths


def _default_paths(network: nn.Module, kinds: Sequence[str]) -> tuple[str, ...]:
    nested = tuple(f".{kind}" for kind in kinds)
    paths = tuple(path for path, layer in adaptable(network).items() if path.endswith(nested) and _fits(layer))
    if not paths:
        raise ValueError(f"{type(network).__name__} has no layer of the usual kinds: name the targets")
    return paths


def _paths(network: nn.Module, targets: Sequence[str]) -> tuple[str, ...]:
    name, layers = type(network).__name__, adaptable(network)
    chosen: set[str] = set()
    for target in targets:
        matching = [path for path in layers if f".{path}".endswith(f".{target}")]
        if not matching or not target:
            raise ValueError(f"no linear or convolution layer of {name} is called '{target}'")
        if grouped := [path for path in matching if not _fits(layers[path])]:
            raise ValueError(f"'{grouped[0]}' of {name} is a convolution in groups, which a LoRA cannot adapt here")
        chosen.update(matching)
    if not chosen:
        raise ValueError("targets must name at least one layer")
    return tuple(path for path in layers if path in chosen)


def _fits(layer: nn.Module) -> bool:
    return not isinstance(layer, nn.Conv2d) or layer.groups == 1


@contextmanager
def adapters_off(network: nn.Module) -> Iterator[None]:
    """Within this context the network's adapters are off: it is its own teacher.

    Afterwards the adapters and the parameters that require gradients are as before, also after an exception and in
    nested contexts. The network changes for every caller: do not call it from another thread meanwhile.

    Raises:
        ModelError: the network has no adapters.
    """
    layers = [module for module in network.modules() if isinstance(module, BaseTunerLayer)]
    if not layers:
        raise ModelError("the network has no adapters to turn off: add a LoRA first")
    on = [layer for layer in layers if not layer.disable_adapters]
    # PEFT freezes the parameters of an adapter that it turns off and trains those of one that it turns on
    trained = [(parameter, parameter.requires_grad) for layer in layers for parameter in layer.parameters()]
    try:
        for layer in on:
            layer.enable_adapters(False)
        yield
    finally:
        for layer in on:
            layer.enable_adapters(True)
        for parameter, required in trained:
            parameter.requires_grad_(required)
