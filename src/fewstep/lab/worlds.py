"""Testbeds for comparing methods: data, a small network, its training, and the distance of samples from the data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from fewstep.core.arrays import Condition
from fewstep.core.levels import PURE_NOISE, Level
from fewstep.core.randomness import derive
from fewstep.data.dataset import Dataset
from fewstep.data.toys import Mixture, ring
from fewstep.lab.exact import Exact
from fewstep.measure.metrics import frechet_distance, projected
from fewstep.measure.subjects import Query, Subject
from fewstep.networks.mlp import MLP, MLPConfig
from fewstep.objectives import Batch
from fewstep.objectives.times import Density, LogNormal
from fewstep.recipes.digits import DigitsRecipe
from fewstep.recipes.emoji import EmojiRecipe
from fewstep.recipes.two_stage import Experiment, build_network
from fewstep.training.batches import BatchSource, DatasetBatches, tensors
from fewstep.training.calling import Precision
from fewstep.training.ema import EmaConfig
from fewstep.training.loop import TrainingConfig
from fewstep.training.optimizers import OptimizerConfig

SIGMA_MIN = 0.01
"""The lowest σ/α before clean, for solvers and for the distillation grid."""

REFERENCES = 6  # reference samples of the data: the distance between only two is off by a third


class World(Protocol):
    """A testbed: one kind of data to compare methods on.

    `density` is the distribution of training noise levels, `precision` that of training and sampling, `error_name`
    the name of the metric, `samples` the number of samples it takes and `search_share` the share of them that the
    search for levels uses.
    """

    error_name: str
    samples: int
    search_share: float
    precision: Precision

    @property
    def name(self) -> str: ...

    @property
    def density(self) -> Density: ...

    def check(self) -> None:
        """Raise before any training if packages, fonts or a judge are missing."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample, as the network sees it."""
        ...

    def network(self) -> nn.Module:
        """A network with the same initial weights each time."""
        ...

    def batches(self, seed: int) -> BatchSource: ...

    def training(self, images: int, seed: int) -> TrainingConfig: ...

    def conditions(self, samples: int) -> Condition:
        """The conditions of the samples."""
        ...

    def error(self, samples: Tensor) -> float:
        """Distance of samples [n, …] with `conditions(n)` from the data; 0 if they are indistinguishable from it."""
        ...


def _training(images: int, seed: int, batch: int, lr: float, precision: Precision) -> TrainingConfig:
    return TrainingConfig(
        images=images,
        batch=batch,
        seed=seed,
        precision=precision,
        optimizer=OptimizerConfig(kind="adamw", lr=lr, decay_from=0.3),
        ema=EmaConfig(sigma_rel=0.05),
        checkpoint_every=0,
        log_every=0,
        keep=1,
    )


@dataclass(frozen=True)
class MixtureBatches:
    """Points of a mixture, in batches."""

    mixture: Mixture
    seed: int

    def stream(self, first: int, last: int, batch: int, rank: int, world: int) -> Iterator[Batch]:
        for step in range(first, last):
            rng = np.random.Generator(np.random.Philox(derive("points", self.seed, step, rank)))
            yield Batch(torch.from_numpy(self.mixture.sample(batch, rng)))


@dataclass
class PlaneWorld:
    """Eight Gaussians in a ring, with a perceptron as network.

    The error is the sliced Wasserstein distance to samples of the data, minus that between two such samples.
    """

    samples: int = 100_000
    name: str = "mixture"
    error_name: str = "excess sliced Wasserstein distance"
    search_share: float = 0.5
    precision: Precision = "float32"
    density: Density = field(default_factory=lambda: LogNormal(-0.4, 1.8))
    _known: dict[int, tuple[list[Any], float]] = field(default_factory=dict, init=False, repr=False)

    def check(self) -> None:
        """Do nothing: this testbed has no requirements."""

    @property
    def shape(self) -> tuple[int, ...]:
        return (2,)

    def network(self) -> nn.Module:
        torch.manual_seed(0)
        return MLP(MLPConfig())

    def batches(self, seed: int) -> BatchSource:
        return MixtureBatches(ring(), seed)

    def training(self, images: int, seed: int) -> TrainingConfig:
        return _training(images, seed, 512, 1e-3, self.precision)

    def conditions(self, samples: int) -> Condition:
        return {}

    def error(self, samples: Tensor) -> float:
        ours, (real, floor) = projected(samples.numpy()), self._real(len(samples))
        return float(np.mean([np.abs(ours - theirs).mean() for theirs in real])) - floor

    def _real(self, count: int) -> tuple[list[Any], float]:
        """Samples of the data, projected, and the mean distance between two of them."""
        if count not in self._known:
            rng = np.random.default_rng(0)
            real = [projected(ring().sample(count, rng)) for _ in range(REFERENCES)]
            floor = float(np.mean([np.abs(one - other).mean() for one, other in combinations(real, 2)]))
            self._known[count] = real, floor
        return self._known[count]

    def distance_to_flow(self, noise: Tensor, samples: Tensor, most: int = 2000) -> float:
        """The root mean square distance, per coordinate, from samples to the endpoints of the exact flow from the
        same noise."""
        start = noise[:most].double().numpy()
        ends = Exact(ring()).flow(
            start, PURE_NOISE.batch(len(start)), Level(np.ones(len(start)), np.zeros(len(start)))
        )
        return float(np.sqrt(np.mean((samples[:most].numpy() - ends) ** 2)))


class Judged(Experiment, Protocol):
    """An experiment whose pictures can be judged."""

    def subject(self) -> Subject: ...


@dataclass
class PictureWorld:
    """Pictures, with a small U-Net as network.

    The error is the Fréchet distance to real pictures in the features of their judge, minus that between these and as
    many other real pictures.

    Args:
        recipe: the recipe that gives data, network and judge.
        samples: number of pictures judged.
    """

    recipe: Judged
    samples: int
    error_name: str = "excess Fréchet distance"
    search_share: float = 0.1
    precision: Precision = "bf16"
    _floors: dict[int, float] = field(default_factory=dict, init=False, repr=False)

    @property
    def name(self) -> str:
        return self.recipe.model_name

    @property
    def density(self) -> Density:
        return self.recipe.stages.density

    @cached_property
    def _dataset(self) -> Dataset:
        return self.recipe.dataset

    def check(self) -> None:
        self.conditions(1)
        _ = self._subject

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.recipe.conditioning.codec.shape(self.recipe.pixels))

    def network(self) -> nn.Module:
        return build_network(self.recipe, is_student=False)

    def batches(self, seed: int) -> BatchSource:
        return DatasetBatches(self._dataset, self.recipe.conditioning, seed, drop=0.0)

    def training(self, images: int, seed: int) -> TrainingConfig:
        return _training(images, seed, 32, 1e-3, self.precision)

    @cached_property
    def _subject(self) -> Subject:
        return self.recipe.subject()

    def conditions(self, samples: int) -> Condition:
        queries = self._subject.queries(samples, 0)
        arrays: Mapping[str, Any] = self.recipe.conditioning.encode(
            len(queries), prompt=[query.prompt for query in queries], label=[query.label for query in queries]
        )
        return tensors(arrays)

    @cached_property
    def _features(self) -> Any:
        queries = self._subject.queries(self.samples, 0)
        return np.concatenate([self._real(queries, draw) for draw in (1, 2)])

    def _real(self, queries: Sequence[Query], draw: int) -> Any:
        return self._subject.judge(self._subject.real(queries, draw)).features

    def _floor(self, count: int) -> float:
        """The mean distance of `count` other real pictures, which grows as their number falls."""
        if count not in self._floors:
            queries = self._subject.queries(count, 0)
            others = [frechet_distance(self._real(queries, draw), self._features) for draw in (3, 4, 5)]
            self._floors[count] = float(np.mean(others))
        return self._floors[count]

    def error(self, samples: Tensor) -> float:
        pixels = self.recipe.conditioning.codec.decode(samples.numpy())
        return frechet_distance(self._subject.judge(pixels).features, self._features) - self._floor(len(samples))


WORLDS: dict[str, World] = {
    "mixture": PlaneWorld(),
    "digits": PictureWorld(DigitsRecipe(), 2000),
    "emoji": PictureWorld(EmojiRecipe(widths=(32, 32, 64), canvas=(0, 16, 32), text_width=64), 1000),
}
"""The testbeds by name."""
