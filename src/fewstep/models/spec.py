"""The description of a model: its components, the parameterisation of its network, and how it is sampled."""

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

MAX_NUMBERS = 2**26  # numbers in one image


@dataclass(frozen=True)
class ModelSpec:
    """A model's description.

    Args:
        name: a short name, without slashes.
        components: components by name; every model has `network` and `codec` (`fewstep.models.components`).
        parameterisation, targets: how the network's output is interpreted, and which jumps it can make.
        pixels: shape [c, h, w] of an image.
        pixel_format: the meaning of the channels.
        sampler: the default sampler.
        steps: the default number of steps.
        guidance: the default guidance scale, or None.
        levels: for a number of steps, the σ/α to visit, noisiest first; other numbers use a Karras grid. Infinity is
            pure noise.
        sigma_min, sigma_max: the last σ/α before clean, and the first, of that grid.
        licence: licence of weights and data, as an SPDX expression or text.
        recipe: the resolved recipe that made the model.
        lineage: what the model was made from: {"name", "hash"} of teachers and data.
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
        """The {"kind", "config"} of the network, for `fewstep.networks.registry.build`."""
        part: NetworkPart = self.components["network"].part
        return part.description

    @property
    def codec(self) -> Codec:
        """The codec between pixels and data."""
        codec: Codec = self.components["codec"].part
        return codec

    @cached_property
    def conditioning(self) -> Conditioning:
        """All conditioners, with the codec."""
        parts = {name: component.part for name, component in self.components.items()}
        return Conditioning(self.codec, {name: p for name, p in parts.items() if isinstance(p, Conditioner)})

    @property
    def sketch(self) -> Sketch:
        """The settings for drawing from a sketch; empty if the model has none."""
        return self.components["sketch"].part if "sketch" in self.components else Sketch()

    @property
    def vocabulary(self) -> Vocabulary:
        """The style and colour words that the model knows; empty if it has none."""
        return self.components["vocabulary"].part if "vocabulary" in self.components else Vocabulary()

    @property
    def files(self) -> dict[str, str]:
        """SHA-256 of each file of each component."""
        return {name: digest for component in self.components.values() for name, digest in component.files.items()}

    def usual_guidance(self, controlled: bool) -> float | None:
        """The default guidance scale, with or without a control image."""
        return self.sketch.guidance if controlled and self.sketch.guidance is not None else self.guidance

    def grid(self, steps: int) -> Level:
        """The levels [steps + 1] to visit: the model's own for this number of steps, otherwise a Karras grid."""
        grids.check_steps(steps)
        if steps in self.levels:
            return grids.from_ratios(self.levels[steps])
        return grids.karras(steps, self.sigma_min, self.sigma_max)

    def check(self) -> None:
        """Raise ValueError for a value that would otherwise fail later, in the middle of a request."""
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
                raise ValueError(f"there must be {steps} levels for {steps} steps, got {len(self.levels[steps])}")
        self._check_scale("guidance", self.guidance)

    def _check_sketch(self) -> None:
        if self.sketch.fills is not None and self.pixel_format != "rgba_premultiplied":
            raise ValueError(f"a sketch's fills needs transparent pictures, these are {self.pixel_format}")
        if self.sketch.guidance is not None and not self.conditioning.control:
            raise ValueError("a sketch's guidance needs a model that takes a control image")
        self._check_scale("a sketch's guidance", self.sketch.guidance)

    def _check_scale(self, name: str, scale: float | None) -> None:
        distilled = self.conditioning.guidance
        if distilled is not None and scale is not None and not distilled[0] <= scale <= distilled[1]:
            low, high = distilled
            raise ValueError(f"{name} must be in the distilled range {low:g} … {high:g}, got {scale:g}")
