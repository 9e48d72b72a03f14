"""What is known of a model beside its files: its components, how its network is asked, how it is sampled."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from fewstep.core import grids
from fewstep.core.levels import Level
from fewstep.core.parameterisations import Parameterisation, Targets
from fewstep.models.codecs import Codec
from fewstep.models.components import Component, NetworkPart, Sketch, Vocabulary, check_components
from fewstep.models.conditioners import Conditioner, ControlImage
from fewstep.models.conditioning import Conditioning
from fewstep.models.parts import check_types
from fewstep.pictures.pixels import CHANNELS, PixelFormat
from fewstep.pictures.plain import label
from fewstep.samplers import SAMPLERS

MAX_NUMBERS = 2**26  # in one image


@dataclass(frozen=True)
class ModelSpec:
    """A model's description.

    Args:
        name: short, without slashes.
        components: by name; `network` and `codec` are in every model (`fewstep.models.components`).
        parameterisation, targets: how to ask the network.
        pixels: an image's shape [c, h, w].
        pixel_format: what the channels mean.
        sampler: the sampler to use if none is chosen.
        steps: how many steps then.
        guidance: the guidance scale then, or None.
        levels: for a number of steps, the σ/α to visit, noisiest first; other numbers use a Karras grid. Pure noise
            is infinity.
        sigma_min, sigma_max: that grid's last σ/α before clean, and its first.
        licence: SPDX expression or text, for weights and data.
        recipe: the resolved recipe that made it.
        lineage: what it was made from: {"name", "hash"} of teachers, data.
    """

    name: str
    components: Mapping[str, Component]
    parameterisation: Parameterisation
    targets: Targets
    pixels: tuple[int, ...]
    pixel_format: PixelFormat
    sampler: str
    steps: int
    guidance: float | None = None
    levels: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    licence: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    lineage: Sequence[Mapping[str, Any]] = ()

    @property
    def network(self) -> dict[str, Any]:
        """The network's {"kind", "config"}, for `fewstep.networks.registry.build`."""
        part: NetworkPart = self.components["network"].part
        return part.description

    @property
    def codec(self) -> Codec:
        """Between pixels and data."""
        codec: Codec = self.components["codec"].part
        return codec

    @cached_property
    def conditioning(self) -> Conditioning:
        """All of its conditioners."""
        parts = {name: component.part for name, component in self.components.items()}
        return Conditioning(self.codec, {name: p for name, p in parts.items() if isinstance(p, Conditioner)})

    @property
    def sketch(self) -> Sketch:
        """What is particular to drawing from a sketch; an empty one if the model says nothing of it."""
        return self.components["sketch"].part if "sketch" in self.components else Sketch()

    @property
    def vocabulary(self) -> Vocabulary:
        """The style and colour words that it knows; an empty one if the model says nothing of it."""
        return self.components["vocabulary"].part if "vocabulary" in self.components else Vocabulary()

    @property
    def files(self) -> dict[str, str]:
        """SHA-256 of each file of each component."""
        return {name: digest for component in self.components.values() for name, digest in component.files.items()}

    def usual_guidance(self, controlled: bool) -> float | None:
        """The scale if none is chosen, with a control image or without."""
        return self.sketch.guidance if controlled and self.sketch.guidance is not None else self.guidance

    def grid(self, steps: int) -> Level:
        """The levels [steps + 1] to visit: the model's own for this number of steps, else a Karras grid."""
        grids.check_steps(steps)
        if steps in self.levels:
            return grids.from_ratios(self.levels[steps])
        return grids.karras(steps, self.sigma_min, self.sigma_max)

    def check(self) -> None:
        """Raise ValueError for a value that would fail only later, in the middle of a request."""
        if not isinstance(self.name, str) or not re.fullmatch(r"\w[\w. +-]{0,99}", self.name):
            raise ValueError(f"name must be letters, digits, spaces and . _ + - only, got {self.name!r}")
        check_components(self.components)
        check_types(ModelSpec, {name: getattr(self, name) for name in ModelSpec.__dataclass_fields__})
        if not hasattr(self.parameterisation, "estimate"):
            raise ValueError(f"parameterisation must be a part of that kind, got {self.parameterisation!r}")
        label("a recipe's name", self.recipe.get("name", ""))
        self._check_pixels()
        self._check_sampling()
        self._check_sketch()

    def _check_pixels(self) -> None:
        if not self.pixels or not all(type(side) is int and side > 0 for side in self.pixels):
            raise ValueError(f"pixels must be whole numbers above 0, got {list(self.pixels)}")
        if math.prod(self.pixels) > MAX_NUMBERS:
            raise ValueError(f"pixels must be at most {MAX_NUMBERS} numbers, got {list(self.pixels)}")
        if CHANNELS.get(self.pixel_format, self.pixels[0]) != self.pixels[0]:
            raise ValueError(
                f"{self.pixel_format} pixels have {CHANNELS[self.pixel_format]} channels, got {self.pixels[0]}"
            )
        self.codec.shape(self.pixels)
        for part in self.conditioning.conditioners.values():
            if isinstance(part, ControlImage) and part.pixels != self.pixels:
                raise ValueError(f"a control image must have the shape {list(self.pixels)}, got {list(part.pixels)}")

    def _check_sampling(self) -> None:
        if self.sampler not in SAMPLERS:
            raise ValueError(f"sampler must be one of {', '.join(sorted(SAMPLERS))}, got {self.sampler!r}")
        for steps in (self.steps, *self.levels):
            if len(self.grid(steps)) != steps + 1:
                raise ValueError(f"levels for {steps} steps must be {steps}, got {len(self.levels[steps])}")
        self._check_scale("guidance", self.guidance)

    def _check_sketch(self) -> None:
        if self.sketch.fills is not None and self.pixel_format != "rgba_premultiplied":
            raise ValueError(f"a sketch's fills is for transparent pictures, these are {self.pixel_format}")
        if self.sketch.guidance is not None and not self.conditioning.control:
            raise ValueError("a sketch's guidance is for models that take a control image")
        self._check_scale("a sketch's guidance", self.sketch.guidance)

    def _check_scale(self, name: str, scale: float | None) -> None:
        distilled = self.conditioning.guidance
        if distilled is not None and scale is not None and not distilled[0] <= scale <= distilled[1]:
            low, high = distilled
            raise ValueError(f"{name} must be in the distilled range {low:g} … {high:g}, got {scale:g}")
