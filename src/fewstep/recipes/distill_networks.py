"""The networks of a distillation: a LoRA's teacher is the same network, a whole network's a copy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from typing import Any

from torch import nn

from fewstep.interop.diffusers.networks import DiffusersNetwork
from fewstep.interop.diffusers.target_time import has_target_time, target_time_off
from fewstep.interop.lora import adapters_off
from fewstep.models.parts import ModelError

EMBEDDING = 256
"""The width of the embedded guidance scale of the released models."""


@contextmanager
def as_teacher(network: nn.Module) -> Iterator[None]:
    """Within this context a network is what it was before a LoRA and a second time were added to it, if they were."""
    with ExitStack() as parts:
        if getattr(network, "peft_config", None):
            parts.enter_context(adapters_off(network))
            config: Any = network.config
            if config.get("class_embed_type") is not None and has_target_time(config):
                parts.enter_context(target_time_off(network))
        yield


class Unadapted(nn.Module):
    """A network without the effect of its LoRA: the teacher of an adapter, at no memory of its own."""

    def __init__(self, adapted: DiffusersNetwork) -> None:
        super().__init__()
        self.adapted = adapted

    def forward(self, x: Any, time_at: Any, time_to: Any, cond: Any) -> Any:
        with as_teacher(self.adapted.network):
            return self.adapted(x, time_at, time_to, cond)


def trainable_copy(network: nn.Module) -> nn.Module:
    """A copy in float32, all of which is trained."""
    return deepcopy(network).float().train().requires_grad_(True)


def with_embedded_guidance(network: Any) -> nn.Module:
    """A trainable copy of a U-Net that takes a guidance scale, and ignores it at first.

    Raises:
        ModelError: the network is of another kind, or already takes a scale.
    """
    if type(network).__name__ != "UNet2DConditionModel":
        raise ModelError(f"lcm trains a UNet2DConditionModel, not a {type(network).__name__}: use lcm-lora")
    if network.config.time_cond_proj_dim:
        raise ModelError("the pipeline's network takes a guidance scale: it was distilled already")
    parameter = next(network.parameters())
    copy = type(network).from_config({**network.config, "time_cond_proj_dim": EMBEDDING})
    missing, unexpected = copy.load_state_dict(network.state_dict(), strict=False)
    assert not unexpected
    assert all(name.startswith("time_embedding.cond_proj") for name in missing)
    nn.init.zeros_(copy.time_embedding.cond_proj.weight)
    trained: nn.Module = copy.to(parameter.device).float().train().requires_grad_(True)
    return trained
