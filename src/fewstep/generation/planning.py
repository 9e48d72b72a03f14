"""A request on its way: the plan with every choice made, and what each jump tells."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from fewstep.core.arrays import Array, Condition
from fewstep.core.jump import Jump
from fewstep.core.levels import Level
from fewstep.core.parameterisations import Network
from fewstep.editing import Measurement
from fewstep.editing.layouts import Layout
from fewstep.editing.prepared import Start
from fewstep.models.codecs import Codec


@dataclass
class Counted:
    """A network that counts how many samples it was asked for, and how long it took."""

    network: Network
    samples: int = 0
    seconds: float = 0.0

    def __call__(self, x: Array, time_at: Array, time_to: Array, cond: Condition) -> Array:
        start = time.perf_counter()
        output = self.network(x, time_at, time_to, cond)
        self.seconds += time.perf_counter() - start
        self.samples += int(x.shape[0])
        return output


@dataclass(frozen=True)
class Way:
    """From the prompt and seed of a plan's pictures to others: an interpolation.

    Args:
        positions: of each picture: 0 is the plan's own prompt and seed, 1 these.
        prompt, seed: of the other end; None leaves the plan's.
    """

    positions: tuple[float, ...]
    prompt: str | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Plan:
    """A request with every choice made. Of a request's pictures it holds what is needed to its end and no more.

    Args:
        gamma: the share of fresh noise between steps, None for a sampler that takes none.
        size: (width, height) of the pictures, None for the model's own.
        background: of the pictures, None where the model's are opaque.
        parents: what the pictures are made from, for their records.
        layout: how they are laid back onto an edited image, or None.
        control: float32 [c, h, w] in [0, 1], or None.
        control_strength: a guidance scale on it.
        way: to another prompt or seed, or None.
        start: what to go out from, where the levels begin below pure noise.
        known: what an edit keeps, or None.
        fit: corrections of the noise before each estimate, so that it agrees with what is known.
        settings: what the sampler was told beside the levels.
    """

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    sampler: str
    levels: Level
    guidance: float | None
    gamma: float | None
    negative_prompt: str = ""
    labels: tuple[int | None, ...] | None = None
    control: Any = None
    control_strength: float = 1.0
    way: Way | None = None
    start: Start | None = None
    known: Measurement | None = None
    fit: int = 0
    size: tuple[int, int] | None = None
    background: str | None = None
    parents: tuple[str, ...] = ()
    layout: Layout | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Jumps that are made: a start near clean needs one, whatever was asked for."""
        return len(self.levels) - 1


@dataclass(frozen=True)
class Progress:
    """One jump done.

    Args:
        jump: the jump.
        steps: jumps in all.
        codec: from data to pixels.
        evaluations: network evaluations of one image so far.
        timings: milliseconds by stage so far.
    """

    jump: Jump
    steps: int
    codec: Codec
    evaluations: int
    timings: Mapping[str, float] = field(default_factory=dict)

    @property
    def previews(self) -> Any:
        """The data estimates as pixels [b, c, h, w], decoded when they are asked for."""
        return self.codec.decode(self.jump.estimate)

    @cached_property
    def pixels(self) -> Any:
        """The state as pixels [b, c, h, w]: after the last jump, the pictures."""
        return self.codec.decode(self.jump.x)
