"""Load a model by its name, for one engine."""

from __future__ import annotations

from functools import partial
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
        device: device of `eager` and `compiled`: cpu, cuda or mps.
        threads: threads per network call; None for one per core.
        precision: float32, or bfloat16 for `openvino`; None for float32, or with `auto` for the precision of the
            engine that it chooses.

    Raises:
        ModelError: the model does not exist, or is damaged.
        ValueError: the engine, precision or device does not exist.
        ImportError: the engine's package is not installed.
        EngineError: the engine cannot run the model here.
    """
    saved = find(name)
    if engine == "auto":
        engine, precision = table.choose(saved, precision, device, threads)
    precision = precision or "float32"
    network = open_network(saved.component("network"), engine, precision, device, threads)
    reopen = partial(load, saved.directory, engine, device, threads, precision)
    return Model(running(saved, threads), network, engine, precision, device, reopen)
