"""Load a model by its name, for one engine."""

from __future__ import annotations

from pathlib import Path

from fewstep.engines import table
from fewstep.engines.component_networks import running
from fewstep.engines.registry import open_network
from fewstep.generation.model import Model
from fewstep.models.finding import find


def load(
    name: str | Path = "emoji",
    engine: str = "onnx",
    device: str = "cpu",
    threads: int | None = None,
    precision: str | None = None,
) -> Model:
    """Load a model.

    Args:
        name: a built-in model, a directory, or `user/name` on the Hugging Face hub.
        engine: `onnx` (ONNX Runtime, the default, without torch), `openvino`, `eager` or `compiled` (PyTorch), or
            `auto`: the fastest one that `fewstep bench engines` measured on this machine.
        device: for `eager` and `compiled`: cpu, cuda, mps.
        threads: of one network call; None for one a core.
        precision: float32, or bfloat16 for `openvino`; None is float32, for `auto` that of the engine it takes.

    Raises:
        ModelError: there is no such model, or it is damaged.
        ValueError: there is no such engine, precision or device.
        ImportError: the engine's package is not installed.
        EngineError: the engine cannot run it here.
    """
    saved = find(name)
    if engine == "auto":
        engine, precision = table.choose(saved, precision, device, threads)
    precision = precision or "float32"
    network = open_network(saved.component("network"), engine, precision, device, threads)
    return Model(running(saved, threads), network, engine, precision, device)
