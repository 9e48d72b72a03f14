"""The components that a model is made of: what each kind is called, what it says of itself, which files it may have.

A new kind is a frozen dataclass and one entry in `KINDS`. Its fields are its settings in model.json, its files stand
beside it there. A component that is more than data says with which networks of the model it runs (`RunsNetworks`);
`fewstep.engines.component_networks` opens those.
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
    """A network: its weights (.safetensors), and exported with or without them (.onnx).

    Args:
        architecture: a name in `fewstep.networks`; None for a network that exists only exported.
        config: what that network is built with.
    """

    architecture: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def description(self) -> dict[str, Any]:
        """For `fewstep.networks.registry.build`."""
        return {"kind": self.architecture, "config": self.config}


@dataclass(frozen=True)
class Judge:
    """A recogniser of what the model draws (.onnx), which says in a served answer what it recognises."""


@dataclass(frozen=True)
class Sketch:
    """What is particular to drawing from a sketch.

    Args:
        fills: where each picture shows one thing: the share of the side that its longer side takes; sketches are
            framed so. None where pictures are anything.
        guidance: the guidance scale with a sketch if none is chosen; None: as without.
    """

    fills: float | None = None
    guidance: float | None = None

    def __post_init__(self) -> None:
        if self.fills is not None and not 0 < self.fills <= 1:
            raise ValueError(f"fills must be above 0 and at most 1, got {self.fills:g}")


@dataclass(frozen=True)
class Vocabulary:
    """The words that a model was trained on: captions and others (.txt), and those with a meaning to a program.

    Args:
        styles: style words, in the order in which they are offered.
        palette: colour words and the colour that each stands for, "#rrggbb".
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
    """A part that other components of its model have to run for."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of components of the kind `network`."""
        ...

    def running(self, networks: Mapping[str, Network]) -> Any:
        """The part with those networks, by component."""
        ...


@dataclass(frozen=True)
class Kind:
    """A kind of component.

    Args:
        part: the frozen dataclass that holds its settings.
        files: endings of the files that it may have, one of each.
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
        engine: which engine runs it, where it is not the one that was chosen for the model.
    """

    part: Any
    files: Mapping[str, str] = field(default_factory=dict)
    engine: str | None = None

    @property
    def kind(self) -> str:
        """Its name in `KINDS`.

        Raises:
            ValueError: there is none.
        """
        for name, kind in KINDS.items():
            if type(self.part) is kind.part:
                return name
        raise ValueError(f"a {type(self.part).__name__} is no component: it is not registered in KINDS")

    def file(self, ending: str) -> str | None:
        """The name of its file with this ending."""
        return next((name for name in self.files if name.endswith(ending)), None)


PARTICULAR: Mapping[str, type[Any]] = {
    "network": NetworkPart,
    "codec": Codec,
    "judge": Judge,
    "sketch": Sketch,
    "vocabulary": Vocabulary,
}
"""The names that stand for something of their own in each model, and what they must be."""


def components(network: Mapping[str, Any], conditioning: Conditioning, **others: Any) -> dict[str, Component]:
    """The components of a model that is one network.

    Args:
        network: of `fewstep.networks.registry.describe`.
        conditioning: its codec and conditioners.
        others: parts by name, such as `sketch` and `vocabulary`; None is left out.
    """
    parts = {
        "network": NetworkPart(network["kind"], network["config"]),
        "codec": conditioning.codec,
        **conditioning.conditioners,
        **others,
    }
    return {name: Component(part) for name, part in parts.items() if part is not None}


def check_components(named: Mapping[str, Component]) -> None:
    """Raise ValueError for components that do not make a model together."""
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
