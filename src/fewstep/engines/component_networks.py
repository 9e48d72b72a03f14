"""Run the components of a model that are separate networks, such as a learned codec, each on its engine."""

from __future__ import annotations

from dataclasses import replace

from fewstep.core.parameterisations import Network
from fewstep.engines.registry import open_network
from fewstep.models.components import RunsNetworks
from fewstep.models.saved import SavedModel

USUAL = "onnx"
"""The engine of a component that does not name one. It does not follow the engine of the sampled network, so that the
same latents give the same picture on every engine."""


def running(saved: SavedModel, threads: int | None = None) -> SavedModel:
    """The model with running networks in all components that need them; a model without such is returned unchanged.

    Args:
        saved: the model.
        threads: threads per network call; None for one per core.

    Raises:
        ValueError: a component names an engine that does not exist.
        ImportError: the package of its engine is not installed.
        EngineError: the engine cannot run it here.
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
