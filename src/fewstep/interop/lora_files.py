"""LoRA files: the layout of diffusers (`pytorch_lora_weights.safetensors`) and that of kohya's sd-scripts, which
ComfyUI and A1111 read.

In diffusers' layout α is folded into B, so that α = rank, and the file's metadata say so: programs that read the
metadata and those that ignore them see the same LoRA. kohya's layout has the true α beside the matrices. Its keys are
diffusers' module paths with underscores, after `lora_unet_` for U-Nets and `lora_transformer_` for transformers, as
ComfyUI maps them (comfy/lora.py: U-Nets, SD3, Flux). diffusers 0.42 itself reads this layout for U-Nets and for the
attention layers of Flux; with Flux's other layers it raises, and for other transformers it loads nothing.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fewstep.interop.lora_weights import (
    Component,
    LoraMatrices,
    LoraWeights,
    adaptable,
    component_of,
    refuse_variants,
)
from fewstep.models.parts import ModelError

FILE_NAME = "pytorch_lora_weights.safetensors"
"""The name under which diffusers looks for a LoRA in a directory."""

_SETTINGS = "lora_adapter_metadata"
_KOHYA: dict[Component, str] = {"unet": "lora_unet_", "transformer": "lora_transformer_"}
_DIFFUSERS_ENDS = {".lora_A.weight": "down", ".lora_B.weight": "up"}
_KOHYA_ENDS = {".lora_down.weight": "down", ".lora_up.weight": "up", ".alpha": "alpha"}
_VARIANTS = {
    "lora_magnitude_vector": "a DoRA",
    "dora_scale": "a DoRA",
    "lora_mid": "a LoCon with a convolution between its matrices",
    "hada_": "a LoHa",
    "lokr_": "a LoKr",
}


def write_diffusers(weights: LoraWeights, directory: Path) -> Path:
    """Write `pytorch_lora_weights.safetensors` for `load_lora_weights`; the directory is made if missing.

    Returns:
        The file.
    """
    folded = weights.folded()
    tensors = {}
    for path, matrices in folded.layers.items():
        tensors[f"{weights.component}.{path}.lora_A.weight"] = matrices.down
        tensors[f"{weights.component}.{path}.lora_B.weight"] = matrices.up
    settings = {f"{weights.component}.{name}": value for name, value in _settings(folded).items()}
    directory.mkdir(parents=True, exist_ok=True)
    return _save(tensors, directory / FILE_NAME, {_SETTINGS: json.dumps(settings, sort_keys=True)})


def write_kohya(weights: LoraWeights, file: Path) -> Path:
    """Write a LoRA in kohya's layout, with one alpha for all layers.

    diffusers misreads files with several (its `alpha_pattern` misses the attention layers). Where layers have another
    alpha than most, it is folded into their `up` matrices; in a LoRA made by `add_lora` none has.

    Args:
        weights: the LoRA.
        file: where to, `….safetensors`, in a directory that exists.

    Returns:
        The file.

    Raises:
        ModelError: two module paths have the same name with underscores.
    """
    tensors = {}
    ((usual, _),) = Counter(matrices.alpha for matrices in weights.layers.values()).most_common(1)
    for name, path in _underscored(weights.component, weights.layers).items():
        matrices = weights.layers[path].folded(usual)
        tensors[f"{name}.lora_down.weight"] = matrices.down
        tensors[f"{name}.lora_up.weight"] = matrices.up
        tensors[f"{name}.alpha"] = torch.tensor(matrices.alpha)
    return _save(tensors, file, {})


def read_lora(file: Path, network: nn.Module) -> LoraWeights:
    """Read a LoRA of a network, in either layout.

    Args:
        file: a safetensors file, or a directory with `pytorch_lora_weights.safetensors`.
        network: diffusers' `UNet2DConditionModel` or one of its transformers, with or without adapters.

    Raises:
        ModelError: the file cannot be read, is in another layout, holds more than a plain LoRA (DoRA, LoCon, LoHa, a
            text encoder's), or belongs to another model; the message names the first key or layer.
    """
    file = file / FILE_NAME if file.is_dir() else file
    component, source = component_of(network), f"'{file}'"
    try:
        with safe_open(file, framework="pt") as opened:
            metadata: Mapping[str, str] = opened.metadata() or {}
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118  # not a mapping
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{source} cannot be read: {error}") from error
    if not tensors:
        raise ModelError(f"{source} holds no LoRA: it is empty")
    kohya = any(key.endswith((".lora_down.weight", ".lora_up.weight")) for key in tensors)
    ends, prefix = (_KOHYA_ENDS, _KOHYA[component]) if kohya else (_DIFFUSERS_ENDS, f"{component}.")
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, part = _split(key, ends, prefix, source)
        parts.setdefault(name, {})[part] = tensor
    if kohya:
        paths = _underscored(component, adaptable(network))
        named = {paths.get(prefix + name, name): found for name, found in parts.items()}
        layers = {path: _matrices(path, found, source) for path, found in named.items()}
    else:
        settings = _read_settings(metadata, f"{component}.", source)
        layers = {path: _matrices(path, found | _alpha(path, settings), source) for path, found in parts.items()}
    weights = LoraWeights(component, layers)
    weights.check(network, source)
    return weights


def _split(key: str, ends: Mapping[str, str], prefix: str, source: str) -> tuple[str, str]:
    """The module and the part (down, up or alpha) that a key is for."""
    for sign, variant in _VARIANTS.items():
        if sign in key:
            raise ModelError(f"{source} is {variant}, only a plain LoRA can be read ('{key}')")
    if key.startswith(("text_encoder", "lora_te")):
        raise ModelError(f"{source} is also for a text encoder, only a network's LoRA can be read ('{key}')")
    others = {*_KOHYA.values(), *(f"{component}." for component in _KOHYA)} - {prefix}
    end = next((end for end in ends if key.endswith(end)), None)
    if end is not None and key.startswith(tuple(others)):
        raise ModelError(f"{source} is of another model: its keys begin otherwise than '{prefix}' ('{key}')")
    if end is None or not key.startswith(prefix):
        raise ModelError(f"{source} is in no known LoRA layout ('{key}')")
    return key[len(prefix) : -len(end)], ends[end]


def _matrices(path: str, parts: Mapping[str, Tensor], source: str) -> LoraMatrices:
    if missing := {"down", "up"} - set(parts):
        raise ModelError(f"{source} lacks the {missing.pop()} matrix of '{path}'")
    down, up = parts["down"], parts["up"]
    alpha = float(parts["alpha"]) if "alpha" in parts else float(down.shape[0])
    try:
        return LoraMatrices(down, up, alpha)
    except ModelError as error:
        raise ModelError(f"{source}, '{path}': {error}") from error


def _underscored(component: Component, paths: Mapping[str, Any]) -> dict[str, str]:
    """Module paths by their name in kohya's layout."""
    names: dict[str, str] = {}
    for path in paths:
        name = _KOHYA[component] + path.replace(".", "_")
        if name in names:
            raise ModelError(f"'{names[name]}' and '{path}' have the same name in kohya's layout")
        names[name] = path
    return names


def _settings(weights: LoraWeights) -> dict[str, Any]:
    """The settings of PEFT's `LoraConfig` for a LoRA with alpha = rank; those that its older versions have too."""
    ranks = {path: matrices.rank for path, matrices in weights.layers.items()}
    ((usual, _),) = Counter(ranks.values()).most_common(1)
    others = {path: rank for path, rank in ranks.items() if rank != usual}
    return {
        "r": usual,
        "lora_alpha": usual,
        "rank_pattern": others,
        "alpha_pattern": others,
        "target_modules": sorted(ranks),
        "lora_dropout": 0.0,
        "bias": "none",
        "use_dora": False,
    }


def _read_settings(metadata: Mapping[str, str], prefix: str, source: str) -> dict[str, Any]:
    """The settings in a file's metadata, empty if there are none."""
    if _SETTINGS not in metadata:
        return {}
    try:
        written = dict(json.loads(metadata[_SETTINGS]))
    except (ValueError, TypeError) as error:
        raise ModelError(f"{source} has metadata that is not JSON: {error}") from error
    settings = {name.removeprefix(prefix): value for name, value in written.items() if name.startswith(prefix)}
    refuse_variants(settings, source)
    alphas = [settings.get("lora_alpha"), *(settings.get("alpha_pattern") or {}).values()]
    if not all(isinstance(alpha, int | float) for alpha in alphas):
        raise ModelError(f"{source} has metadata with a lora_alpha that is no number: {alphas}")
    return settings


def _alpha(path: str, settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """The alpha of a layer by the settings: that of a pattern, or the common one."""
    if not settings:
        return {}
    patterns = settings.get("alpha_pattern") or {}
    return {"alpha": torch.tensor(patterns.get(get_pattern_key(list(patterns), path), settings["lora_alpha"]))}


def _save(tensors: Mapping[str, Tensor], file: Path, metadata: Mapping[str, str]) -> Path:
    scratch = file.with_name(f".writing-{os.getpid()}-{file.name}")
    own = {key: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for key, tensor in tensors.items()}
    try:
        save_file(own, scratch, {"format": "pt", **metadata})
        scratch.replace(file)
    finally:
        scratch.unlink(missing_ok=True)
    return file
