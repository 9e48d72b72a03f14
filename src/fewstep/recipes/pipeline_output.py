"""What a distillation leaves: a LoRA in two layouts or a pipeline for `from_pretrained`, with a model card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from fewstep.core.parameterisations import Targets
from fewstep.interop.diffusers import flow_map_pipeline
from fewstep.interop.diffusers.folders import INDEX, PARTS
from fewstep.interop.diffusers.pipeline import Pipeline
from fewstep.interop.diffusers.target_time import EMBEDDER
from fewstep.interop.lora_files import write_diffusers, write_kohya
from fewstep.interop.lora_weights import LoraWeights, component_of
from fewstep.recipes.distill_methods import MethodKind
from fewstep.recipes.pipeline_previews import few_step_scheduler

KOHYA = "pytorch_lora_weights_kohya.safetensors"
CARD = "README.md"


@dataclass(frozen=True)
class Output:
    """What a card says.

    Args:
        teacher: the pipeline, as it was given.
        method: how it was distilled.
        kind: what is known about the method.
        settings: all settings, as JSON values.
        images: the number of encoded images.
    """

    teacher: str
    method: str
    kind: MethodKind
    settings: Mapping[str, Any]
    images: int

    @property
    def name(self) -> str:
        """The teacher's name, without the path on this machine."""
        return self.teacher if not Path(self.teacher).exists() else Path(self.teacher).resolve().name

    @property
    def is_flow_map(self) -> bool:
        return self.kind.targets is Targets.ANY


def save_lora(network: nn.Module, pipeline: Pipeline, folder: Path, output: Output) -> Path:
    """Write a network's adapter for diffusers and for kohya's, A1111's and ComfyUI's loaders, and a card. A flow map
    comes with its embedder of the second time, and with the pipeline's class that loads it."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = LoraWeights.of(network)
    write_diffusers(weights, folder)
    scale = f"The guidance scale {output.settings['guidance']:g} is part of the LoRA: guide no further."
    if output.is_flow_map:
        embedder: Any = network.get_submodule(EMBEDDER)
        save_file({name: values.contiguous() for name, values in embedder.state_dict().items()}, folder / TARGET_TIME)
        _write_class(folder, pipeline)
        use = f"""from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained("{output.name}", custom_pipeline="{folder.name}", trust_remote_code=True)
pipeline.load_flow_map("{folder.name}")
image = pipeline("a prompt", num_inference_steps=4).images[0]"""
        note = f"""{scale}
The LoRA is useless without `{TARGET_TIME}`, which tells the network where a jump ends; `{CLASS_FILE}` loads both."""
    else:
        write_kohya(weights, folder / KOHYA)
        scheduler = type(few_step_scheduler(pipeline.timetable, output.kind.targets)).__name__
        use = f"""from diffusers import DiffusionPipeline, {scheduler}

pipeline = DiffusionPipeline.from_pretrained("{output.name}")
pipeline.scheduler = {scheduler}.from_config(pipeline.scheduler.config)
pipeline.load_lora_weights("{folder.name}")
image = pipeline("a prompt", num_inference_steps=4, guidance_scale=1.0).images[0]"""
        note = f"{scale}\n`{KOHYA}` is the same LoRA for kohya's scripts, A1111 and ComfyUI."
    _write_card(folder, output, use, note)
    return folder


def save_pipeline(network: nn.Module, pipeline: Pipeline, folder: Path, output: Output) -> Path:
    """Write the whole pipeline with this network and the scheduler for few steps, and a card. A flow map's comes with
    a class of its own, which tells the network where each jump ends."""
    source, part = pipeline.folder, component_of(network)
    folder.mkdir(parents=True, exist_ok=True)
    for other in PARTS:
        kept = source.class_of(other) is not None and other not in (part, "scheduler")
        if kept and (source.path / other).is_dir():
            shutil.copytree(source.path / other, folder / other, dirs_exist_ok=True)
    module: Any = network
    module.save_pretrained(folder / part, safe_serialization=True)
    scheduler = few_step_scheduler(pipeline.timetable, output.kind.targets)
    scheduler.save_pretrained(folder / "scheduler")
    index = {name: value for name, value in source.index.items() if name in PARTS or not isinstance(value, list)}
    index["scheduler"] = ["diffusers", type(scheduler).__name__]
    index.update({name: [None, None] for name in _LEFT_OUT if name in source.index})
    if "requires_safety_checker" in source.index:
        index["requires_safety_checker"] = False
    options = ""
    if output.is_flow_map:
        _write_class(folder, pipeline)
        index["_class_name"] = [Path(CLASS_FILE).stem, FLOW_MAP_CLASS]
        options = ", trust_remote_code=True"
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    scale, note = _guidance_of(output)
    use = f"""from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained("{folder.name}"{options})
image = pipeline("a prompt", num_inference_steps=4, guidance_scale={scale}).images[0]"""
    _write_card(folder, output, use, note)
    return folder


def _guidance_of(output: Output) -> tuple[float, str]:
    """The scale to draw with, and what the card says of it."""
    if output.kind.told:
        low, high = output.settings["scales"]
        return 8.0, f"The network is told the guidance scale, from {low:g} to {high:g}, at no further cost."
    if output.kind.guided:
        return 1.0, f"The guidance scale {output.settings['guidance']:g} is part of the network: guide no further."
    return 1.0, "The network has learnt from images alone, without guidance."


def _write_class(folder: Path, pipeline: Pipeline) -> None:
    """Write the class of a flow map's pipeline, derived from that of the teacher."""
    base = str(pipeline.folder.index["_class_name"])
    text = Path(flow_map_pipeline.__file__).read_text(encoding="utf-8")
    assert _BASE in text
    (folder / CLASS_FILE).write_text(text.replace(_BASE, f"import {base} as Base"), encoding="utf-8")


CLASS_FILE = "pipeline.py"
TARGET_TIME = "target_time.safetensors"
FLOW_MAP_CLASS = flow_map_pipeline.FlowMapPipeline.__name__
_BASE = "import StableDiffusionPipeline as Base"
_LEFT_OUT = ("safety_checker", "feature_extractor", "image_encoder")


def _write_card(folder: Path, output: Output, use: str, note: str) -> None:
    # paths of the training machine are private
    settings = json.dumps({**output.settings, "teacher": output.name}, indent=2, ensure_ascii=False)
    kind = "LoRA" if output.kind.is_lora else "pipeline"
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
