"""Our LoRA files in diffusers' hands, in a process that has no fewstep: they draw what the network drew with them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import lora_elsewhere
from fewstep.interop.lora import add_lora
from fewstep.interop.lora_files import read_lora, write_diffusers, write_kohya
from fewstep.interop.lora_weights import LoraMatrices, LoraWeights
from lora_networks import NETWORKS, images, output, pipeline
from once import Once

SCALES = [1.0, 0.8]


def trained(family: str, rank: int = 4, alpha: float = 6.5, seed: int = 4) -> nn.Module:
    """A network with a LoRA that changes its output."""
    network = NETWORKS[family]()
    add_lora(network, rank, alpha)
    torch.manual_seed(seed)
    for name, parameter in network.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.2)
    return network


def mixed(weights: LoraWeights) -> LoraWeights:
    """Ranks and alphas that differ from layer to layer."""
    layers = {}
    for number, (path, matrices) in enumerate(weights.layers.items()):
        rank, alpha = (2, 3.0) if number % 3 == 0 else (4, (6.5, 1.0)[number % 2])
        layers[path] = LoraMatrices(matrices.down[:rank], matrices.up[:, :rank], alpha)
    return replace(weights, layers=layers)


def build(directory: Path) -> None:
    """Write the LoRAs and what our networks answer with them, then let a process without fewstep answer."""
    cases: list[dict[str, Any]] = []
    expected: dict[str, Tensor] = {}

    def expect(name: str, network: nn.Module, family: str, how: str, files: list[Path], **more: Any) -> None:
        expected[name] = output(network, family)
        if family == "unet" and how != "comfyui":
            expected[f"{name} image"] = images(pipeline(network, family))
        names = [str(file.relative_to(directory)) for file in files]
        cases.append({"name": name, "family": family, "how": how, "files": names, **more})

    expected["unet alone image"] = images(pipeline(NETWORKS["unet"](), "unet"))
    for family in NETWORKS:
        expected[f"{family} alone"] = output(NETWORKS[family](), family)
        student = trained(family)
        weights = LoraWeights.of(student)
        kohya = write_kohya(weights, directory / f"{family}.safetensors")
        expect(f"{family} diffusers", student, family, "load", [write_diffusers(weights, directory / family)])
        prefix = "lora_unet_" if family == "unet" else "lora_transformer_"
        expect(f"{family} comfyui", student, family, "comfyui", [kohya], prefix=prefix)
        if family == "unet":
            expect("unet kohya", student, family, "load", [kohya])
        if family == "flux":  # diffusers knows of this layout only Flux's attention
            attention = replace(weights, layers={path: m for path, m in weights.layers.items() if ".attn." in path})
            file = write_kohya(attention, directory / "attention.safetensors")
            expect("flux kohya", attention.fused(NETWORKS[family]()), family, "load", [file])
        uneven = mixed(weights)
        file = write_diffusers(uneven, directory / f"{family}-mixed")
        expect(f"{family} mixed diffusers", uneven.fused(NETWORKS[family]()), family, "load", [file])
    uneven = mixed(LoraWeights.of(trained("unet")))
    file = write_kohya(uneven, directory / "mixed.safetensors")
    expect("unet mixed kohya", uneven.fused(NETWORKS["unet"]()), "unet", "load", [file])

    fast, style = LoraWeights.of(trained("unet")), LoraWeights.of(trained("unet", rank=2, alpha=1.0, seed=5))
    styled = {path: replace(m, alpha=SCALES[1] * m.alpha) for path, m in style.layers.items()}
    both = replace(style, layers=styled).fused(fast.fused(NETWORKS["unet"]()))
    files = [directory / "unet" / "pytorch_lora_weights.safetensors", write_kohya(style, directory / "s.safetensors")]
    expect("both set", both, "unet", "set", files, scales=SCALES)
    expect("both fused", both, "unet", "fuse", files, scales=SCALES)

    (directory / "cases.json").write_text(json.dumps(cases), encoding="utf-8")
    save_file({name: drawn.contiguous() for name, drawn in expected.items()}, directory / "expected.safetensors")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, lora_elsewhere.__file__, str(directory)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=directory)
    assert done.returncode == 0, done.stderr[-3000:]


Answers = tuple[dict[str, Tensor], dict[str, Tensor], dict[str, list[str]]]


@pytest.fixture(scope="module")
def answers(once: Once) -> Answers:
    """What our networks answer, what they answer elsewhere, and the warnings there."""
    directory = once("lora-elsewhere", build)
    noted = json.loads((directory / "warnings.json").read_text(encoding="utf-8"))
    return load_file(directory / "expected.safetensors"), load_file(directory / "answers.safetensors"), noted


def difference(a: Tensor, b: Tensor) -> float:
    """The largest difference, relative to the largest value."""
    return float((a - b).abs().max() / b.abs().max())


FILES = [
    "unet diffusers",
    "unet kohya",
    "unet comfyui",
    "unet mixed diffusers",
    "unet mixed kohya",
    "sd3 diffusers",
    "sd3 comfyui",
    "sd3 mixed diffusers",
    "flux diffusers",
    "flux kohya",
    "flux comfyui",
    "flux mixed diffusers",
]


@pytest.mark.parametrize("name", FILES)
def test_a_file_loads_elsewhere_as_what_was_trained(answers: Answers, name: str) -> None:
    ours, theirs, noted = answers
    family = name.partition(" ")[0]
    assert difference(ours[name], ours[f"{family} alone"]) > 0.03, "the LoRA must matter"
    assert difference(theirs[name], ours[name]) < 1e-5
    assert noted[name] == []


@pytest.mark.parametrize("name", ["unet diffusers", "unet kohya", "unet mixed diffusers", "unet mixed kohya"])
def test_a_pipeline_elsewhere_draws_the_same_images(answers: Answers, name: str) -> None:
    ours, theirs, _ = answers
    image = f"{name} image"
    assert (ours[image] - ours["unet alone image"]).abs().max() > 0.02, "the LoRA must show"
    assert (theirs[image] - ours[image]).abs().max() < 1e-4


def test_style_and_acceleration_together_are_the_sum_set_or_fused(answers: Answers) -> None:
    ours, theirs, _ = answers
    assert difference(theirs["both set"], theirs["both fused"]) < 2e-5
    for name in ("both set", "both fused"):
        assert difference(theirs[name], ours[name]) < 2e-5
        assert (theirs[f"{name} image"] - ours[f"{name} image"]).abs().max() < 1e-4
    assert difference(ours["both set"], ours["unet diffusers"]) > 0.05, "the style must matter"


def test_what_diffusers_saves_is_read(tmp_path: Path) -> None:
    """Its files have the true alpha in their metadata alone."""
    student = trained("unet")
    from diffusers.training_utils import _collate_lora_metadata
    from peft import get_peft_model_state_dict

    made = pipeline(student, "unet")
    state = get_peft_model_state_dict(student)
    made.save_lora_weights(tmp_path, unet_lora_layers=state, **_collate_lora_metadata({"unet": student}))
    read = read_lora(tmp_path, NETWORKS["unet"]())
    assert {matrices.alpha for matrices in read.layers.values()} == {6.5}
    assert difference(output(read.fused(NETWORKS["unet"]()), "unet"), output(student, "unet")) < 1e-5
