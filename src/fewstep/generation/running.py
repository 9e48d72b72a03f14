"""Running a plan: one jump after another, with the network's evaluations counted and timed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from fewstep.core.arrays import ArrayT, Condition
from fewstep.core.guidance import Guided
from fewstep.core.jump import Jump
from fewstep.core.parameterisations import Estimator, Network
from fewstep.core.randomness import Noise, NoiseBetween
from fewstep.editing import Constrained, Fitted
from fewstep.generation.planning import Conditions, Plan, Sampling, Start
from fewstep.models.codecs import Codec
from fewstep.models.conditioning import between
from fewstep.models.spec import ModelSpec
from fewstep.samplers import SAMPLERS
from fewstep.samplers.consistency import NoiseSource


@dataclass
class CountingNetwork:
    """A network that counts the samples that it was called for and the time that it took."""

    network: Network
    samples: int = 0
    seconds: float = 0.0

    def __call__(self, x: ArrayT, time_at: ArrayT, time_to: ArrayT, cond: Condition) -> ArrayT:
        start = time.perf_counter()
        output = self.network(x, time_at, time_to, cond)
        self.seconds += time.perf_counter() - start
        self.samples += int(x.shape[0])
        return output


@dataclass(frozen=True)
class Progress:
    """The state after one jump.

    Args:
        jump: the jump.
        steps: total number of jumps.
        codec: the codec from data to pixels.
        evaluations: network evaluations per image so far.
        timings: milliseconds by stage so far.
    """

    jump: Jump
    steps: int
    codec: Codec
    evaluations: int
    timings: Mapping[str, float] = field(default_factory=dict)

    @property
    def previews(self) -> Any:
        """The data estimates as pixels [b, c, h, w], decoded on access."""
        return self.codec.decode(self.jump.estimate)

    @cached_property
    def pixels(self) -> Any:
        """The state as pixels [b, c, h, w]; after the last jump, these are the pictures."""
        return self.codec.decode(self.jump.x)


def run(spec: ModelSpec, plan: Plan, network: CountingNetwork, estimator: Estimator) -> Iterator[Progress]:
    """Run a plan jump by jump.

    Args:
        spec: the model's description.
        plan: the plan.
        network: the network, whose calls are counted and timed.
        estimator: the estimator made from this network.
    """
    begun = time.perf_counter()
    sampling = plan.sampling
    cond = condition(spec, plan.conditions)
    encoded = time.perf_counter()
    estimator = _constrained(_guided(estimator, spec, plan.conditions), plan.start)
    noise = _noise(spec, sampling)
    settings: dict[str, Any] = {} if sampling.gamma is None else {"noise": noise, "gamma": sampling.gamma}
    x = _first(noise, sampling, plan.start)
    away = 0.0  # seconds that the consumer of this generator spends between jumps, which do not count
    for jump in SAMPLERS[sampling.sampler].run(estimator, x, sampling.levels, cond, **settings):
        total = time.perf_counter() - encoded - away
        seconds = {"encode": encoded - begun, "model": network.seconds, "sampler": total - network.seconds}
        timings = {stage: 1000 * value for stage, value in seconds.items()}
        left = time.perf_counter()
        evaluations = network.samples // len(sampling.seeds)
        yield Progress(jump, sampling.steps, spec.codec, evaluations, timings)
        away += time.perf_counter() - left


def condition(spec: ModelSpec, conditions: Conditions) -> Condition:
    """The named arrays that the network takes."""
    cond = _arrays(spec, conditions, conditions.prompts)
    way = conditions.interpolation
    if way is None or way.prompt is None:
        return cond
    return between(cond, _arrays(spec, conditions, (way.prompt,) * len(conditions.prompts)), way.positions)


def _arrays(spec: ModelSpec, conditions: Conditions, prompts: Sequence[str]) -> dict[str, Any]:
    size = len(prompts)
    return spec.conditioning.encode(
        size,
        prompt=prompts,
        label=conditions.labels,
        control=[conditions.control] * size,
        guidance=None if conditions.guidance is None else [conditions.guidance] * size,
    )


def _guided(estimator: Estimator, spec: ModelSpec, conditions: Conditions) -> Estimator:
    """The estimator with guidance on the prompt or label, unless that is distilled, and on the control image."""
    if spec.conditioning.guidance is None and conditions.guidance is not None and conditions.guidance != 1:
        away = (conditions.negative_prompt,) * len(conditions.prompts)
        estimator = Guided(estimator, _arrays(spec, replace(conditions, labels=None), away), conditions.guidance)
    if conditions.control is not None and conditions.control_strength != 1:
        none = _arrays(spec, replace(conditions, control=None), conditions.prompts)
        without = {name: values for name, values in none.items() if name.startswith("control")}
        estimator = Guided(estimator, without, conditions.control_strength)
    return estimator


def _constrained(estimator: Estimator, start: Start) -> Estimator:
    """The estimator with what an edit keeps put into each estimate."""
    if start.known is None:
        return estimator
    return Constrained(Fitted(estimator, start.known, start.fit) if start.fit else estimator, start.known)


def _noise(spec: ModelSpec, sampling: Sampling) -> NoiseSource:
    """The noise of the images, each from its own seed."""
    shape = spec.codec.shape(spec.pixels)
    way = sampling.interpolation
    if sampling.noise is not None:
        return _StartingWith(sampling.noise, Noise(sampling.seeds, shape))
    if way is None or way.seed is None:
        return Noise(sampling.seeds, shape)
    return NoiseBetween(sampling.seeds[0], way.seed, way.positions, shape)


@dataclass(frozen=True)
class _StartingWith:
    """The noise of seeds, but for the first draw."""

    first: Any
    others: NoiseSource

    def __call__(self, draw: int) -> Any:
        return self.others(draw) if draw else self.first


def _first(noise: NoiseSource, sampling: Sampling, start: Start) -> Any:
    """The state at the start: noise at the first level, added to the start image if there is one."""
    x = noise(0) * np.float32(sampling.levels.sigma[0])
    if start.image is None:
        return x
    return (x if start.image.fresh else 0 * x) + np.float32(sampling.levels.alpha[0]) * start.image.data
