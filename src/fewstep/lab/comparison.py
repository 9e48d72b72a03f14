"""Quality against network evaluations: methods trained alike, sampled in every setting they allow, and measured."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from fewstep.core import grids
from fewstep.core.grids import SIGMA_MAX
from fewstep.core.levels import Level
from fewstep.core.parameterisations import Targets
from fewstep.core.randomness import derive
from fewstep.lab.method_rows import MethodRow
from fewstep.lab.methods import METHODS, TrainedMethod, costs, train_method
from fewstep.lab.worlds import SIGMA_MIN, WORLDS, PlaneWorld, World
from fewstep.measure.level_search import best_levels
from fewstep.samplers import SAMPLERS
from fewstep.training.loop import TrainingDiverged

BUDGETS = {"mixture": 3_000_000, "digits": 100_000, "emoji": 120_000}
"""Network evaluations of one training, by data: all methods and three seeds take hours on two cores."""

SHORT = {"mixture": 300_000, "digits": 10_000}
"""The same for a look at all of them in five minutes on two cores, with `SHORT_SAMPLES` samples."""

SHORT_SAMPLES = 500


@dataclass(frozen=True)
class SamplerSetting:
    """A sampler and its number of steps.

    Args:
        sampler: name of the sampler.
        steps: its number of steps.
    """

    sampler: str
    steps: int

    @property
    def evaluations(self) -> int:
        return 2 * self.steps - 1 if self.sampler == "heun" else self.steps

    @property
    def is_deterministic(self) -> bool:
        return self.steps == 1 or not SAMPLERS[self.sampler].gamma


def sampler_settings(method: str, targets: Targets) -> list[SamplerSetting]:
    """The settings that a method's network is sampled in: solvers at about 8, 20 and 40 evaluations, consistency
    functions and flow maps at 1, 2 and 4."""
    if targets is Targets.SAME:
        return [SamplerSetting(name, steps) for name, all_steps in SOLVERS[method].items() for steps in all_steps]
    consistency = [SamplerSetting("consistency", steps) for steps in (1, 2, 4)]
    return consistency + ([SamplerSetting("flow_map", steps) for steps in (2, 4)] if targets is Targets.ANY else [])


SOLVERS: Mapping[str, Mapping[str, Sequence[int]]] = {
    "diffusion": {"heun": (4, 10, 20), "dpm_solver": (8, 20, 40)},
    "flow_matching": {"euler": (8, 20, 40)},
}
"""Solvers and their numbers of steps, for methods that train a denoiser."""


@torch.no_grad()
def sampled(
    trained: TrainedMethod,
    world: World,
    setting: SamplerSetting,
    levels: Level,
    samples: int,
    seed: int,
    chunk: int = 10_000,
) -> tuple[Tensor, Tensor]:
    """The initial noise and the samples drawn from it, both [samples, …] on the CPU."""
    device = next(trained.network.parameters()).device
    cond = world.conditions(samples)

    def fresh(draw: int) -> Tensor:
        generator = torch.Generator().manual_seed(derive("bench", seed, draw))
        return torch.randn((samples, *world.shape), generator=generator)

    ends = []
    for begin in range(0, samples, chunk):
        rows = slice(begin, begin + chunk)
        here = {name: torch.as_tensor(values[rows], device=device) for name, values in cond.items()}
        x = fresh(0)[rows].to(device) * float(levels.sigma[0])
        extra = {"noise": partial(_rows, fresh, rows)} if SAMPLERS[setting.sampler].gamma is not None else {}
        *_, last = SAMPLERS[setting.sampler].run(trained.estimator, x, levels.like(x), here, **extra)
        ends.append(torch.as_tensor(last.x).cpu())
    return fresh(0), torch.cat(ends)


def _rows(fresh: Callable[[int], Tensor], rows: slice, draw: int) -> Tensor:
    return fresh(draw)[rows]


def levels_for(trained: TrainedMethod, world: World, setting: SamplerSetting, samples: int) -> Level:
    """The levels of a setting: a Karras grid for solvers, otherwise the best levels for this network, searched with
    separate noise."""
    if trained.targets is Targets.SAME:
        return grids.karras(setting.steps, SIGMA_MIN, SIGMA_MAX)
    if setting.steps == 1:
        return grids.from_ratios((SIGMA_MAX,))

    def score(ratios: tuple[float, ...]) -> float:
        return world.error(sampled(trained, world, setting, grids.from_ratios(ratios), samples, seed=-1)[1])

    tries = 12 // (setting.steps - 1)  # per level: two steps have only one, with two minima
    return grids.from_ratios(best_levels(score, setting.steps, SIGMA_MAX, tries=tries, rounds=2)[0])


def compare(
    budgets: Mapping[str, int],
    methods: Sequence[str],
    seeds: Iterable[int],
    device: torch.device,
    samples: int | None = None,
    known: Sequence[MethodRow] = (),
    progress: Callable[[str], None] = lambda text: None,
    worlds: Mapping[str, World] = WORLDS,
) -> Iterator[list[MethodRow]]:
    """Train and sample each method on each data, for each seed.

    Args:
        budgets: network evaluations per training, by name in `WORLDS`.
        methods: names in `METHODS`; methods that these start from are trained too.
        seeds: seeds of data and noise.
        device: the device to train and sample on.
        samples: number of samples to measure with; None for each world's default.
        known: rows that are already measured and are skipped.
        progress: called with a line of text for each step of the work.
        worlds: the data by name.

    Returns:
        The rows of one method and seed at a time; none for a training that diverges, which is reported.

    Raises:
        ValueError: a name is unknown, or there is nothing to compare.
    """
    check_names("data", list(budgets), worlds)
    check_names("methods", methods, METHODS)
    for name in budgets:
        worlds[name].check()
    for name, budget in budgets.items():
        for seed in seeds:
            yield from _seed(
                ComparisonTask(worlds[name], budget, seed, device, samples or worlds[name].samples),
                methods,
                known,
                progress,
            )


def check_names(kind: str, names: Sequence[str], known: Iterable[str]) -> None:
    """Raise ValueError unless there is at least one name and all are known."""
    if not names or not set(names) <= set(known):
        raise ValueError(f"{kind} must be among {', '.join(known)}, got {', '.join(names) or 'nothing'}")


@dataclass(frozen=True)
class ComparisonTask:
    """The data, seed and settings of one comparison."""

    world: World
    budget: int
    seed: int
    device: torch.device
    samples: int

    @property
    def name(self) -> str:
        return f"{self.world.name}, seed {self.seed}"

    def is_in(self, row: MethodRow) -> bool:
        return row.place == (self.world.name, self.budget, self.samples) and self.seed in row.seeds


def _seed(
    task: ComparisonTask, methods: Sequence[str], known: Sequence[MethodRow], progress: Callable[[str], None]
) -> Iterator[list[MethodRow]]:
    wanted = set(methods) - {row.method for row in known if task.is_in(row)}
    cost = costs(_needed(wanted), task.world, task.device)
    done: dict[str, TrainedMethod] = {}
    for name in cost:
        method = METHODS[name]
        if method.start and method.start not in done:
            progress(f"{task.name}: {name} skipped: {method.start}, which it starts from, diverged")
            continue
        try:
            done[name] = train_method(method, task.world, task.budget, cost[name], task.seed, done.get(method.start))
        except TrainingDiverged as stopped:
            progress(f"{task.name}: {name} diverged: {stopped}")
            continue
        if name in wanted:
            yield [
                _measured(task, name, setting, done[name], progress)
                for setting in sampler_settings(name, done[name].targets)
            ]


def _measured(
    task: ComparisonTask, name: str, setting: SamplerSetting, trained: TrainedMethod, progress: Callable[[str], None]
) -> MethodRow:
    world, count = task.world, task.samples
    levels = levels_for(trained, world, setting, max(round(count * world.search_share), 2))
    noise, drawn = sampled(trained, world, setting, levels, count, task.seed)
    error = world.error(drawn)
    progress(f"{task.name}: {name}, {setting.sampler} in {setting.evaluations}: {error:.4f}")
    return MethodRow(
        method=name,
        data=world.name,
        sampler=setting.sampler,
        steps=setting.steps,
        evaluations=setting.evaluations,
        levels=tuple(float(ratio) for ratio in levels.ratio[:-1]),
        seeds=(task.seed,),
        errors=(error,),
        samples=count,
        to_flow=world.distance_to_flow(noise, drawn)
        if isinstance(world, PlaneWorld) and setting.is_deterministic
        else None,
        measure=world.error_name,
        budget=task.budget,
        images=trained.images,
        training=trained.evaluations,
        training_with_start=trained.evaluations + trained.before,
    )


def _needed(methods: Collection[str]) -> set[str]:
    """These methods and those that they start from."""
    needed = set(methods)
    while more := {METHODS[name].start for name in needed} - needed - {""}:
        needed |= more
    return needed
