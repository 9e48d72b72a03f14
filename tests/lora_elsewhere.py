"""Runs cases of tests/interop/test_lora_elsewhere.py in a process in which fewstep cannot be imported: LoRA files are
loaded by diffusers, or as ComfyUI merges them, and what the networks answer is saved.

    python lora_elsewhere.py DIRECTORY      # reads cases.json, writes answers.safetensors
"""

from __future__ import annotations

import importlib.abc
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


class NoFewstep(importlib.abc.MetaPathFinder):
    """Refuses to import fewstep."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] == "fewstep":
            raise ImportError(f"{name} is not here")


def merge_as_comfyui(network: nn.Module, file: Path, prefix: str) -> None:
    """Add kohya's matrices to the weights by ComfyUI's key map (comfy/lora.py, model_lora_keys_unet)."""
    left = load_file(file)
    for name, weight in network.state_dict().items():
        key = prefix + name.removesuffix(".weight").replace(".", "_")
        if name.endswith(".weight") and f"{key}.lora_up.weight" in left:
            up, down = left.pop(f"{key}.lora_up.weight"), left.pop(f"{key}.lora_down.weight")
            scale = left.pop(f"{key}.alpha").item() / down.shape[0]
            weight += scale * (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)
    assert not left, f"lora key not loaded: {sorted(left)}"


def answer(case: dict[str, Any], directory: Path) -> dict[str, Tensor]:
    from lora_networks import NETWORKS, images, output, pipeline

    family, (first, *others) = case["family"], case["files"]
    network = NETWORKS[family]()
    if case["how"] == "comfyui":
        merge_as_comfyui(network, directory / first, case["prefix"])
        return {case["name"]: output(network, family)}
    made = pipeline(network, family)
    for number, file in enumerate((first, *others)):
        path = directory / file
        made.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name=f"lora{number}")
    names = [f"lora{number}" for number in range(1 + len(others))]
    if others:
        made.set_adapters(names, case["scales"])
    if case["how"] == "fuse":
        made.fuse_lora(adapter_names=names)
    answers = {case["name"]: output(network, family)}
    return answers | ({f"{case['name']} image": images(made)} if family == "unet" else {})


def main(directory: Path) -> None:
    sys.meta_path.insert(0, NoFewstep())
    try:
        import fewstep  # noqa: F401
    except ImportError:
        pass
    else:
        raise AssertionError("fewstep can be imported here")
    answers: dict[str, Tensor] = {}
    noted: dict[str, list[str]] = {}
    for case in json.loads((directory / "cases.json").read_text(encoding="utf-8")):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", RuntimeWarning)
            answers |= answer(case, directory)
        noted[case["name"]] = [str(each.message) for each in caught if each.category is RuntimeWarning]
    save_file({name: drawn.contiguous() for name, drawn in answers.items()}, directory / "answers.safetensors")
    (directory / "warnings.json").write_text(json.dumps(noted), encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
