"""Run the parts of a model that are networks of their own, such as a learned codec, each on its engine."""

from __future__ import annotations

from dataclasses import replace

from fewstep.core.parameterisations import Network
from fewstep.engines.registry import open_network
from fewstep.models.components import RunsNetworks
from fewstep.models.saved import SavedModel

USUAL = "onnx"
"""The engine of a component that names none. It does not follow the engine of the network that is sampled, so that
the same latents are the same picture on all of them."""


def running(saved: SavedModel, threads: int | None = None) -> SavedModel:
    """The model with every part that runs networks given them; a model without such parts is given back as it is.

    Args:
        saved: the model.
        threads: of one network call; None for one a core.

    Raises:
        ValueError: a component names an engine that does not exist.
        ImportError: the package of its engine is not installed.
        EngineError: its engine cannot run it here.
    """
    opened = {
        name: replace(component, part=part.running({n: _network(saved, n, threads) for n in part.needs}))
        for name, component in saved.spec.components.items()
        if isinstance(part := component.part, RunsNetworks)
    }
    if not opened:
        return saved
    return replace(saved, spec=replace(saved.spec, components={**saved.spec.components, **opened}))


def _network(saved: SavedModel, name: str, threads: int | None) -> Network:
    component = saved.component(name)
    return open_network(component, component.engine or USUAL, threads=threads)
