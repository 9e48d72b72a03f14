"""What a distillation leaves: a LoRA in two layouts or a pipeline for `from_pretrained`, with a model card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from fewstep.interop.diffusers.folders import INDEX, PARTS
from fewstep.interop.diffusers.pipeline import Pipeline
from fewstep.interop.lora_files import write_diffusers, write_kohya
from fewstep.interop.lora_weights import LoraWeights
from fewstep.recipes.pipeline_previews import few_step_scheduler

KOHYA = "pytorch_lora_weights_kohya.safetensors"
CARD = "README.md"


@dataclass(frozen=True)
class Output:
    """What a card says.

    Args:
        teacher: the pipeline, as it was given.
        method: how it was distilled.
        settings: all settings, as JSON values.
        images: the number of encoded images.
    """

    teacher: str
    method: str
    settings: Mapping[str, Any]
    images: int

    @property
    def name(self) -> str:
        """The teacher's name, without the path on this machine."""
        return self.teacher if not Path(self.teacher).exists() else Path(self.teacher).resolve().name


def save_lora(network: nn.Module, pipeline: Pipeline, folder: Path, output: Output) -> Path:
    """Write a network's adapter for diffusers and for kohya's, A1111's and ComfyUI's loaders, and a card."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = LoraWeights.of(network)
    write_diffusers(weights, folder)
    write_kohya(weights, folder / KOHYA)
    scheduler = type(few_step_scheduler(pipeline.timetable)).__name__
    use = f"""from diffusers import DiffusionPipeline, {scheduler}

pipeline = DiffusionPipeline.from_pretrained("{output.name}")
pipeline.scheduler = {scheduler}.from_config(pipeline.scheduler.config)
pipeline.load_lora_weights("{folder.name}")
image = pipeline("a prompt", num_inference_steps=4, guidance_scale=1.0).images[0]"""
    note = (
        f"The guidance scale {output.settings['guidance']:g} is part of the LoRA: guide no further.\n"
        f"`{KOHYA}` is the same LoRA for kohya's scripts, A1111 and ComfyUI."
    )
    _write_card(folder, output, use, note)
    return folder


def save_pipeline(network: nn.Module, pipeline: Pipeline, folder: Path, output: Output) -> Path:
    """Write the whole pipeline with this network and LCMScheduler, and a card."""
    source = pipeline.folder
    folder.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        if source.class_of(part) is not None and part not in ("unet", "scheduler") and (source.path / part).is_dir():
            shutil.copytree(source.path / part, folder / part, dirs_exist_ok=True)
    module: Any = network
    module.save_pretrained(folder / "unet", safe_serialization=True)
    scheduler = few_step_scheduler(pipeline.timetable)
    scheduler.save_pretrained(folder / "scheduler")
    index = {name: value for name, value in source.index.items() if name in PARTS or not isinstance(value, list)}
    index["scheduler"] = ["diffusers", type(scheduler).__name__]
    index.update({name: [None, None] for name in _LEFT_OUT if name in source.index})
    if "requires_safety_checker" in source.index:
        index["requires_safety_checker"] = False
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    low, high = output.settings["scales"]
    use = f"""from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained("{folder.name}")
image = pipeline("a prompt", num_inference_steps=4, guidance_scale=8.0).images[0]"""
    note = f"The network is told the guidance scale, from {low:g} to {high:g}, at no further cost."
    _write_card(folder, output, use, note)
    return folder


_LEFT_OUT = ("safety_checker", "feature_extractor", "image_encoder")


def _write_card(folder: Path, output: Output, use: str, note: str) -> None:
    # paths of the training machine are private
    settings = json.dumps({**output.settings, "teacher": output.name}, indent=2, ensure_ascii=False)
    kind = "LoRA" if output.method == "lcm-lora" else "pipeline"
    text = f"""---
base_model: {output.name}
library_name: diffusers
tags: [text-to-image, few-step, {output.method}]
---

# {output.name} in few steps

A {kind} that lets `{output.name}` draw in one to eight steps, distilled by fewstep with `{output.method}` from
{output.images} captioned images. Its licence is that of the base model and of the images.

```python
{use}
```

{note}

## Settings

```json
{settings}
```
"""
    (folder / CARD).write_text(text, encoding="utf-8")
