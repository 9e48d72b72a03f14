"""The matrices of a LoRA by module: W + (α/r)·B·A (2106.09685 §4.1) for the linear and the convolution layers of a
diffusers network."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from diffusers import UNet2DConditionModel
from diffusers.loaders import PeftAdapterMixin
from jaxtyping import Float
from peft import LoraConfig
from peft.tuners.lora import LoraLayer as PeftLoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from fewstep.models.parts import ModelError

Component = Literal["unet", "transformer"]

_WITHOUT_EFFECT = {
    "r", "lora_alpha", "rank_pattern", "alpha_pattern",  # read for each layer
    "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern",  # the matrices say which layers
    "lora_dropout", "inference_mode", "task_type", "peft_type", "peft_version",
    "base_model_name_or_path", "revision", "auto_mapping",
}  # fmt: skip
_STARTS = (True, False, "gaussian", "orthogonal")  # initialisations that leave the network's own weights as they are


@dataclass(frozen=True)
class LoraMatrices:
    """A layer's update of low rank, (alpha/rank)·up·down.

    Args:
        down: A, (rank, in), or (rank, in, height, width) for a convolution.
        up: B, (out, rank), or (out, rank, 1, 1).
        alpha: α; rank means a factor of 1.

    Raises:
        ModelError: the matrices do not fit each other, or alpha is 0 or not finite.
    """

    down: Float[Tensor, "rank inputs *kernel"]
    up: Float[Tensor, "outputs rank *one"]
    alpha: float

    def __post_init__(self) -> None:
        down, up = tuple(self.down.shape), tuple(self.up.shape)
        one = (1, 1)[: len(down) - 2]
        if len(down) not in (2, 4) or len(up) != len(down) or up[1] != down[0] or up[2:] != one or not down[0]:
            raise ModelError(f"matrices of {shape(down)} and {shape(up)} are not a LoRA's")
        if not math.isfinite(self.alpha) or self.alpha == 0:
            raise ModelError(f"alpha must be finite and not 0, got {self.alpha}")

    @property
    def rank(self) -> int:
        """r, the number of rows of `down`."""
        return self.down.shape[0]

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """The shape of the layer's weight: (out, in) or (out, in, height, width)."""
        return (self.up.shape[0], *self.down.shape[1:])

    def delta(self) -> Float[Tensor, "outputs inputs *kernel"]:
        """What is added to the layer's weight, in float32."""
        product = self.up.float().flatten(1) @ self.down.float().flatten(1)
        return (self.alpha / self.rank * product).reshape(self.weight_shape)

    def folded(self, alpha: float | None = None) -> LoraMatrices:
        """The same update with another alpha, by default the rank; the ratio of the two is multiplied into `up`."""
        alpha = float(self.rank) if alpha is None else alpha
        return self if alpha == self.alpha else LoraMatrices(self.down, self.up * (self.alpha / alpha), alpha)


@dataclass(frozen=True)
class LoraWeights:
    """A LoRA of one network.

    Args:
        component: which part of a pipeline the network is.
        layers: the matrices by module path in the network ("mid_block.attentions.0.proj_in").

    Raises:
        ModelError: there are no layers.
    """

    component: Component
    layers: Mapping[str, LoraMatrices]

    def __post_init__(self) -> None:
        if not self.layers:
            raise ModelError("a LoRA must have at least one layer")

    @staticmethod
    def of(network: nn.Module, adapter: str = "default") -> LoraWeights:
        """A copy of the matrices of a network's adapter.

        Args:
            network: a diffusers network with PEFT adapters, as made by `add_lora` or by diffusers.
            adapter: the adapter's name.

        Raises:
            ModelError: the network has no such adapter, or it is more than a plain LoRA (DoRA, rsLoRA, biases).
        """
        component = component_of(network)
        configs: Mapping[str, Any] = getattr(network, "peft_config", {})
        if adapter not in configs:
            raise ModelError(f"the network has no adapter '{adapter}': it has {', '.join(configs) or 'none'}")
        refuse_variants(configs[adapter].to_dict(), f"the adapter '{adapter}'")
        found = {
            path: module
            for path, module in network.named_modules()
            if isinstance(module, PeftLoraLayer) and adapter in module.lora_A
        }
        layers = {
            path: LoraMatrices(
                cast(Tensor, module.lora_A[adapter].weight).detach().clone(),
                cast(Tensor, module.lora_B[adapter].weight).detach().clone(),
                float(module.lora_alpha[adapter]),
            )
            for path, module in found.items()
        }
        return LoraWeights(component, layers)

    def folded(self) -> LoraWeights:
        """The same LoRA with alpha = rank in every layer."""
        return replace(self, layers={path: matrices.folded() for path, matrices in self.layers.items()})

    def check(self, network: nn.Module, source: str = "the LoRA") -> None:
        """Check that this is a LoRA of a network.

        Args:
            network: the network, with or without adapters.
            source: what the message calls this LoRA.

        Raises:
            ModelError: the network is another component or lacks a layer, or a layer has another shape; the message
                names the first such layer.
        """
        name = type(network).__name__
        if self.component != component_of(network):
            raise ModelError(f"{source} is for a {self.component}, the network is a {name}")
        own = adaptable(network)
        for path, matrices in self.layers.items():
            expected = shape(matrices.weight_shape)
            if path not in own:
                raise ModelError(f"{source} is of another model: {name} has no layer '{path}' ({expected})")
            got = weight_shape(own[path])
            if got != matrices.weight_shape:
                raise ModelError(
                    f"{source} is of another model: '{path}' is {expected} there and {shape(got)} in {name}"
                )

    def fused(self, network: nn.Module) -> nn.Module:
        """A copy of a network with this LoRA added to its weights and without adapters of its own.

        The layers that the LoRA leaves alone share their parameters with the network. The sum is computed in float32
        and rounded once to the weight's dtype.

        Raises:
            ModelError: this is not a LoRA of the network.
        """
        self.check(network)
        shared: dict[int, Any] = {id(parameter): parameter for parameter in network.parameters()}
        merged = copy.deepcopy(network, shared)
        if getattr(merged, "peft_config", None):
            cast(PeftAdapterMixin, merged).unload_lora()
        own = adaptable(merged)
        for path, matrices in self.layers.items():
            weight = cast(nn.Parameter, own[path].weight)
            total = weight.detach().float() + matrices.delta().to(weight.device)
            own[path].weight = nn.Parameter(total.to(weight.dtype), requires_grad=weight.requires_grad)
        return merged


def component_of(network: nn.Module) -> Component:
    """Which part of a pipeline a network is, the prefix of its keys in diffusers' files.

    Raises:
        ModelError: it is neither diffusers' U-Net with conditions nor one of its transformers.
    """
    if isinstance(network, UNet2DConditionModel):
        return "unet"
    if isinstance(network, PeftAdapterMixin) and "Transformer" in type(network).__name__:
        return "transformer"
    raise ModelError(
        f"a LoRA needs diffusers' UNet2DConditionModel or one of its transformers, got a {type(network).__name__}"
    )


def adaptable(network: nn.Module) -> dict[str, nn.Module]:
    """The linear and convolution layers of a network by module path, those below an adapter included."""
    found: dict[str, nn.Module] = {}

    def visit(parent: nn.Module, prefix: str) -> None:
        for name, child in parent.named_children():
            layer: nn.Module = child.get_base_layer() if isinstance(child, BaseTunerLayer) else child
            if isinstance(layer, nn.Linear | nn.Conv2d):
                found[prefix + name] = layer
            else:
                visit(layer, f"{prefix}{name}.")

    visit(network, "")
    return found


def weight_shape(layer: nn.Module) -> tuple[int, ...]:
    """The shape of a layer's weight."""
    return tuple(cast(Tensor, layer.weight).shape)


def shape(sizes: tuple[int, ...]) -> str:
    """A shape for messages: 320x768."""
    return "x".join(map(str, sizes))


def refuse_variants(settings: Mapping[str, Any], source: str) -> None:
    """Refuse settings of PEFT's `LoraConfig` under which an adapter is not W + (α/r)·B·A.

    Raises:
        ModelError: there is one; the message names it.
    """
    usual = LoraConfig().to_dict()
    for name, value in settings.items():
        plain = name in _WITHOUT_EFFECT or not value or value == usual.get(name)
        if not (plain or (name == "init_lora_weights" and value in _STARTS)):
            raise ModelError(f"{source} is not a plain LoRA: {name} is {value!r}")
