"""A second time for diffusers' U-Nets: where a jump ends. A denoiser that has it can become a flow map.

diffusers' own class embeds it: with `class_embed_type="timestep"` a U-Net adds an embedding of `class_labels` to that
of its timestep. The last layer of the embedder is 0 at first, so that the network is still what it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from diffusers import ConfigMixin
from diffusers.models.embeddings import TimestepEmbedding
from torch import Tensor, nn

from fewstep.models.parts import ModelError

EMBEDDER = "class_embedding"
"""The module that embeds the second time."""


def add_target_time(network: nn.Module) -> nn.Module:
    """Give a U-Net a second time, in place; it ignores it at first.

    Args:
        network: diffusers' `UNet2DConditionModel`.

    Returns:
        The embedder, float32 and trainable.

    Raises:
        ModelError: the network is of another kind, or has classes or a second time.
    """
    unet: Any = network
    if type(network).__name__ != "UNet2DConditionModel":
        raise ModelError(f"only a UNet2DConditionModel can be given a second time, not a {type(network).__name__}")
    if unet.config.class_embed_type or unet.config.num_class_embeds:
        raise ModelError("the network has classes, or a second time already")
    width, length = unet.time_embedding.linear_1.in_features, unet.time_embedding.linear_2.out_features
    embedder = _Embedder(width, length, act_fn=unet.config.act_fn)
    nn.init.zeros_(embedder.linear_2.weight)
    nn.init.zeros_(embedder.linear_2.bias)
    placed: nn.Module = embedder.to(next(network.parameters()).device)
    unet.class_embedding = placed
    cast(ConfigMixin, network).register_to_config(class_embed_type="timestep")
    return placed


class _Embedder(TimestepEmbedding):  # type: ignore[misc]  # diffusers is untyped
    """diffusers' embedder, in its own precision whatever that of the network is."""

    def forward(self, sample: Tensor, condition: Tensor | None = None) -> Tensor:
        embedded: Tensor = super().forward(sample.to(self.linear_1.weight.dtype), condition)
        return embedded


def has_target_time(config: Any) -> bool:
    """Whether a U-Net with this configuration takes a second time."""
    return bool(config.class_embed_type == "timestep")


@contextmanager
def target_time_off(network: nn.Module) -> Iterator[None]:
    """Within this context a network with a second time is what it was without: it takes none.

    The network changes for every caller: do not call it from another thread meanwhile.
    """
    unet: Any = network
    embedder = unet.class_embedding
    unet.class_embedding = None
    try:
        yield
    finally:
        unet.class_embedding = embedder
