"""Comparison with diffusers: a network with random weights in its ConsistencyModelPipeline and in this library."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import CMStochasticIterativeScheduler, ConsistencyModelPipeline, UNet2DModel

from fewstep.interop.consistency_pipeline import save_pipeline
from fewstep.lab.turns import Turns, in_turn

SETTINGS: dict[str, Any] = {  # of UNet2DModel: matches the emoji model's parameter count and feature map sizes to 1 %
    "sample_size": 16,
    "in_channels": 3,
    "out_channels": 3,
    "layers_per_block": 1,
    "block_out_channels": (64, 128, 160),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": 32,
}
# Both start from the same noise and return a Pillow image.
_OURS = """
import sys
from fewstep.generation import load
model = load(sys.argv[1], sys.argv[2])
draw = lambda seed: model.generate(seed=seed, steps=1)
"""
_PEER = """
import sys, torch
from diffusers import ConsistencyModelPipeline
from fewstep.core.randomness import noise
pipeline = ConsistencyModelPipeline.from_pretrained(sys.argv[1])
pipeline.set_progress_bar_config(disable=True)
shape = (pipeline.unet.config.in_channels, *[pipeline.unet.config.sample_size] * 2)
draw = lambda seed: pipeline(num_inference_steps=1, latents=torch.from_numpy(noise(seed, shape))[None]).images[0]
"""
_ANSWER = """
import time
import numpy as np
def answer(calls=0):
    image = draw(0)
    if not calls:
        return np.asarray(image).tolist()
    spent = []
    for seed in range(calls):
        began = time.perf_counter()
        draw(seed)
        spent.append(time.perf_counter() - began)
    return spent
"""


def beside_diffusers(engines: Sequence[str], rounds: int = 6, calls: int = 8) -> list[dict[str, Any]]:
    """One-step latency of each engine and of the pipeline, taking turns, and the largest pixel difference.

    Args:
        engines: names of this library's engines.
        rounds: turns of each contestant.
        calls: images per turn.
    """
    torch.manual_seed(0)
    unet = UNet2DModel(**SETTINGS)
    pipeline = ConsistencyModelPipeline(unet, CMStochasticIterativeScheduler())
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        peer, ours = Path(folder) / "peer", Path(folder) / "ours"
        pipeline.save_pretrained(peer)
        save_pipeline(pipeline, ours, "peer")
        running = {"diffusers": stack.enter_context(Turns("diffusers", _PEER + _ANSWER, str(peer)))}
        for engine in engines:
            running[engine] = stack.enter_context(Turns(engine, _OURS + _ANSWER, str(ours), engine))
        images = {name: turns.ask() for name, turns in running.items()}
        spent = in_turn(running, rounds, calls=calls)
    medians = {name: 1000 * statistics.median(values) for name, values in spent.items()}
    return [
        {
            "engine": name,
            "ms": round(milliseconds, 2),
            "times_faster": round(medians["diffusers"] / milliseconds, 2),
            "largest_difference": _difference(images[name], images["diffusers"]),
            "parameters": sum(p.numel() for p in unet.parameters()),
        }
        for name, milliseconds in medians.items()
    ]


def _difference(image: Any, other: Any) -> int:
    """The largest difference over all pixels, out of 255."""
    return int(np.abs(np.asarray(image, dtype=int) - np.asarray(other, dtype=int)).max())
