"""The components that a model is made of: the name, settings and allowed files of each kind.

A new kind is a frozen dataclass and one entry in `KINDS`. Its fields are its settings in model.json, which also lists
its files. A component that runs networks of the model names them (`RunsNetworks`), and
`fewstep.engines.component_networks` opens them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from fewstep.core.parameterisations import Network
from fewstep.models.codecs import Codec, Identity, LearnedCodec, SpaceToDepth
from fewstep.models.conditioners import ClassLabel, ControlImage, GuidanceScale, PromptTokens
from fewstep.models.conditioning import Conditioning

WEIGHTS, GRAPH, TEXT = ".safetensors", ".onnx", ".txt"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,49}")


@dataclass(frozen=True)
class NetworkPart:
    """A network: its weights (.safetensors), and its exported graph with or without weights (.onnx).

    Args:
        architecture: a name in `fewstep.networks`; None for a network that exists only as an exported graph.
        config: the configuration to build the network with.
    """

    architecture: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def description(self) -> dict[str, Any]:
        """The argument of `fewstep.networks.registry.build`."""
        return {"kind": self.architecture, "config": self.config}


@dataclass(frozen=True)
class Judge:
    """A recogniser of what the model draws (.onnx); responses of the server report what it recognises."""


@dataclass(frozen=True)
class Sketch:
    """Settings for drawing from a sketch.

    Args:
        fills: for models whose pictures show a single object: the length of its longer side as a fraction of the
            picture's side, to which sketches are framed. None for models of other pictures.
        guidance: the default guidance scale with a sketch; None for the same as without.
    """

    fills: float | None = None
    guidance: float | None = None

    def __post_init__(self) -> None:
        if self.fills is not None and not 0 < self.fills <= 1:
            raise ValueError(f"fills must be above 0 and at most 1, got {self.fills:g}")


@dataclass(frozen=True)
class Vocabulary:
    """The words that a model was trained on: captions and others (.txt), and those with a meaning to programs.

    Args:
        styles: style words, in the order in which they are offered to users.
        palette: colour words and the colour of each, "#rrggbb".
    """

    styles: tuple[str, ...] = ()
    palette: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not all(isinstance(style, str) for style in self.styles):
            raise ValueError(f"styles must be words, got {list(self.styles)}")
        for word, colour in self.palette.items():
            if not isinstance(colour, str) or not re.fullmatch(r"#[0-9a-f]{6}", colour):
                raise ValueError(f"palette must be colours like #dc2626, got {colour!r} for {word!r}")


@runtime_checkable
class RunsNetworks(Protocol):
    """A part that needs other components of its model to run."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the components, of the kind `network`, that it needs."""
        ...

    def running(self, networks: Mapping[str, Network]) -> Any:
        """A copy of the part with these networks, by component."""
        ...


@dataclass(frozen=True)
class Kind:
    """A kind of component.

    Args:
        part: the frozen dataclass that holds its settings.
        files: endings of the files that it may have, at most one file for each.
    """

    part: type[Any]
    files: tuple[str, ...] = ()


KINDS: dict[str, Kind] = {
    "network": Kind(NetworkPart, (WEIGHTS, GRAPH)),
    "identity": Kind(Identity),
    "space_to_depth": Kind(SpaceToDepth),
    "learned_codec": Kind(LearnedCodec),
    "prompt_tokens": Kind(PromptTokens),
    "class_label": Kind(ClassLabel),
    "control_image": Kind(ControlImage),
    "guidance_scale": Kind(GuidanceScale),
    "recogniser": Kind(Judge, (GRAPH,)),
    "sketch": Kind(Sketch),
    "vocabulary": Kind(Vocabulary, (TEXT,)),
}


@dataclass(frozen=True)
class Component:
    """A named part of a model.

    Args:
        part: an instance of a class in `KINDS`.
        files: SHA-256 of each of its files.
        engine: the engine that runs it, if different from the one chosen for the model.
    """

    part: Any
    files: Mapping[str, str] = field(default_factory=dict)
    engine: str | None = None

    @property
    def kind(self) -> str:
        """The name of its kind in `KINDS`.

        Raises:
            ValueError: its part is not in `KINDS`.
        """
        for name, kind in KINDS.items():
            if type(self.part) is kind.part:
                return name
        raise ValueError(f"a {type(self.part).__name__} is not a component: it is not registered in KINDS")

    def file(self, ending: str) -> str | None:
        """The name of its file with this ending, or None."""
        return next((name for name in self.files if name.endswith(ending)), None)


PARTICULAR: Mapping[str, type[Any]] = {
    "network": NetworkPart,
    "codec": Codec,
    "judge": Judge,
    "sketch": Sketch,
    "vocabulary": Vocabulary,
}
"""The component names with a special meaning in every model, and the type that each must have."""


def components(network: Mapping[str, Any], conditioning: Conditioning, **others: Any) -> dict[str, Component]:
    """The components of a model with a single network.

    Args:
        network: the network's description, as returned by `fewstep.networks.registry.describe`.
        conditioning: its codec and conditioners.
        others: other parts by name, such as `sketch` and `vocabulary`; those that are None are left out.
    """
    parts = {
        "network": NetworkPart(network["kind"], network["config"]),
        "codec": conditioning.codec,
        **conditioning.conditioners,
        **others,
    }
    return {name: Component(part) for name, part in parts.items() if part is not None}


def check_components(named: Mapping[str, Component]) -> None:
    """Raise ValueError for components that do not form a model together."""
    for name, component in named.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"a component's name must be lower-case letters, digits and _, got {name!r}")
        if not isinstance(component.part, PARTICULAR.get(name, object)):
            raise ValueError(f"the component '{name}' must not be of the kind {component.kind}")
        for other in component.part.needs if isinstance(component.part, RunsNetworks) else ():
            if other not in named or not isinstance(named[other].part, NetworkPart):
                raise ValueError(f"the component '{name}' needs a network named '{other}'")
    if missing := [name for name in ("network", "codec") if name not in named]:
        raise ValueError(f"the component {' and '.join(missing)} is missing")
