"""The engines by name: the package that each needs, where it runs and how it is opened."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewstep.core.parameterisations import Network
from fewstep.engines.errors import EngineError
from fewstep.models.components import GRAPH, NetworkPart
from fewstep.models.saved import SavedComponent


@dataclass(frozen=True)
class Engine:
    """One way to run a network.

    Args:
        name: name of the engine.
        package: the package that must be installed.
        install: the command that installs it.
        precisions: precisions of its arithmetic, the most exact first.
        devices: whether it can run on devices other than the CPU.
        open: opens a network from (component, precision, device, threads); imports what it needs.
    """

    name: str
    package: str
    install: str
    precisions: tuple[str, ...]
    devices: bool
    open: Callable[[SavedComponent, str, str, int | None], Network]

    @property
    def installed(self) -> bool:
        """Whether its package can be found."""
        return importlib.util.find_spec(self.package) is not None


def open_network(
    component: SavedComponent,
    engine: str,
    precision: str = "float32",
    device: str = "cpu",
    threads: int | None = None,
) -> Network:
    """Open a network of a model on an engine.

    Args:
        component: a component of the kind `network`; `saved.component("network")` is the one that is sampled.
        engine: a name in `ENGINES`.
        precision: precision of the arithmetic.
        device: cpu, cuda or mps, if the engine supports several.
        threads: threads per call; None for one per core.

    Raises:
        ValueError: the engine, its precision or its device does not exist.
        ImportError: the engine's package is not installed; the message says how to install it.
        EngineError: the engine cannot run this model here.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got '{engine}'")
    chosen = ENGINES[engine]
    if precision not in chosen.precisions:
        raise ValueError(
            f"precision of the engine '{engine}' must be {' or '.join(chosen.precisions)}, got '{precision}'"
        )
    if device != "cpu" and not chosen.devices:
        raise ValueError(f"the engine '{engine}' runs on the cpu here, got device '{device}': use engine 'eager'")
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    if not chosen.installed:
        raise ImportError(f"the engine '{engine}' needs {chosen.package}: {chosen.install}")
    if not isinstance(component.part, NetworkPart):
        raise EngineError(f"the component '{component.name}' is not a network: no engine can run it")
    return chosen.open(component, precision, device, threads)


def _graph(component: SavedComponent, engine: str) -> Path:
    """The file of the exported network."""
    if (file := component.file(GRAPH)) is None:
        raise EngineError(
            f"the engine '{engine}' needs '{component.name}{GRAPH}' in the model's directory: export the model first"
        )
    return file


def _onnx(component: SavedComponent, precision: str, device: str, threads: int | None) -> Network:
    network: Any = importlib.import_module("fewstep.engines.onnx").OnnxNetwork
    opened: Network = network(_graph(component, "onnx"), threads)
    return opened


def _openvino(component: SavedComponent, precision: str, device: str, threads: int | None) -> Network:
    network: Any = importlib.import_module("fewstep.engines.openvino").OpenVinoNetwork
    opened: Network = network(_graph(component, "openvino"), precision, threads)
    return opened


def _eager(component: SavedComponent, precision: str, device: str, threads: int | None) -> Network:
    network: Any = importlib.import_module("fewstep.engines.eager").EagerNetwork
    opened: Network = network(component, device, threads)
    return opened


def _compiled(component: SavedComponent, precision: str, device: str, threads: int | None) -> Network:
    network: Any = importlib.import_module("fewstep.engines.compiled").CompiledNetwork
    opened: Network = network(component, device, threads)
    return opened


ENGINES: dict[str, Engine] = {  # without measurements, the first one that can run is chosen
    engine.name: engine
    for engine in (
        Engine("onnx", "onnxruntime", "pip install fewstep", ("float32",), False, _onnx),
        Engine("openvino", "openvino", "pip install 'fewstep[openvino]'", ("float32", "bfloat16"), False, _openvino),
        Engine("eager", "torch", "pip install 'fewstep[train]'", ("float32",), True, _eager),
        Engine("compiled", "torch", "pip install 'fewstep[train]'", ("float32",), True, _compiled),
    )
}

__all__ = ["ENGINES", "Engine", "EngineError", "open_network"]
