"""Beside a peer: a network of random weights in diffusers' ConsistencyModelPipeline and in this library, in turn."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

SETTINGS: dict[str, Any] = {  # of UNet2DModel: the parameters and the feature maps of the emoji model, to 1 %
    "sample_size": 16,
    "in_channels": 3,
    "out_channels": 3,
    "layers_per_block": 1,
    "block_out_channels": (64, 128, 160),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": 32,
}
# Both draw from the same noise, make a Pillow image of it, and answer with the seconds of each call. Each has a
# process of its own: the threads of either would go on spinning for a while and take the cores from the other.
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
_LOOP = """
import json, time
import numpy as np
print(json.dumps(np.asarray(draw(0)).tolist()), flush=True)
for line in sys.stdin:
    draw(0)
    spent = []
    for seed in range(int(line)):
        began = time.perf_counter()
        draw(seed)
        spent.append(time.perf_counter() - began)
    print(json.dumps(spent), flush=True)
"""


class _Turns:
    """A process that draws when it is its turn."""

    def __init__(self, code: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", code + _LOOP, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.image = self._read()

    def __enter__(self) -> _Turns:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.communicate()

    def draw(self, times: int) -> list[float]:
        """Seconds of each call."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{times}\n")
        self._process.stdin.flush()
        return [float(value) for value in self._read()]

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            said = self._process.communicate()[1].strip().splitlines()
            raise RuntimeError(f"a process of the comparison stopped: {' '.join(said[-1:])}")
        return json.loads(line)


def beside_diffusers(engines: Sequence[str], rounds: int = 6, calls: int = 8) -> list[dict[str, Any]]:
    """One-step latency of each engine beside the pipeline's, in turn, and the largest difference of an image.

    Args:
        engines: of ours.
        rounds: turns of each.
        calls: in one turn.
    """
    import torch
    from diffusers import CMStochasticIterativeScheduler, ConsistencyModelPipeline, UNet2DModel

    from fewstep.interop.consistency_pipeline import save_pipeline

    torch.manual_seed(0)
    unet = UNet2DModel(**SETTINGS)
    pipeline = ConsistencyModelPipeline(unet, CMStochasticIterativeScheduler())
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        peer, ours = Path(folder) / "peer", Path(folder) / "ours"
        pipeline.save_pretrained(peer)
        save_pipeline(pipeline, ours, "peer")
        running = {"diffusers": stack.enter_context(_Turns(_PEER, str(peer)))}
        for engine in engines:
            running[engine] = stack.enter_context(_Turns(_OURS, str(ours), engine))
        spent: dict[str, list[float]] = {name: [] for name in running}
        for _ in range(rounds):
            for name, turns in running.items():
                spent[name] += turns.draw(calls)
                time.sleep(0.3)  # what still spins comes to rest
        images = {name: turns.image for name, turns in running.items()}
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
    """Of 255, over all pixels."""
    import numpy as np

    return int(np.abs(np.asarray(image, dtype=int) - np.asarray(other, dtype=int)).max())
