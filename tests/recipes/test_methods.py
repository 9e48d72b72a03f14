"""The comparison of methods: what a method costs is counted, what it starts from is trained first, rows say how."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fewstep.core.parameterisations import Targets
from fewstep.data.toys import ring
from fewstep.evaluation import tradeoff
from fewstep.objectives import Diffusion
from fewstep.recipes.comparison import Way, compare, joined, ways_of
from fewstep.recipes.methods import METHODS, Stage, Trained, cost_of
from fewstep.recipes.worlds import Plane

CPU = torch.device("cpu")
WORLD = Plane(samples=200)
COSTS = {
    "diffusion": 3,
    "flow_matching": 3,
    "consistency_distillation": 3 + 1 + 2,
    "consistency_training": 3 + 1,
    "easy_consistency": 3 + 1,
    "continuous_training": 3 + 2,
    "continuous_distillation": 3 + 2 + 1,
    "mean_flow": 3 + 2,
    "improved_mean_flow": 3 + 2 + 1,
    "mean_flow_distillation": 3 + 2 + 1,
    "shortcut": 3 + 2,
    "soflow": 3 + 1,
    "eulerian_flow_map": 3 + 2 + 1,
    "lagrangian_flow_map": 3 + 2 + 1,
}


@pytest.mark.parametrize("name", METHODS)
def test_the_evaluations_of_a_step_are_counted(name: str) -> None:
    targets = Targets.CLEAN if name == "truncated_consistency" else Targets.SAME
    start = Trained(WORLD.network(), targets, 0, 0, 0).estimator if METHODS[name].start else None
    cost = cost_of(METHODS[name].objective(Stage(WORLD.density, 10, start)), WORLD, CPU)
    if name == "truncated_consistency":  # its first stage answers where the target lies below t'
        assert 4 < cost < 5
    else:
        assert cost == COSTS[name]


def test_every_method_comes_after_what_it_starts_from() -> None:
    names = list(METHODS)
    assert all(names.index(method.start) < names.index(name) for name, method in METHODS.items() if method.start)


def test_a_comparison_trains_what_is_needed_and_tells_what_was_spent() -> None:
    said: list[str] = []
    methods, worlds = ["easy_consistency", "mean_flow"], {"mixture": WORLD}
    single = list(compare(["mixture"], methods, 4_000, (0, 1), CPU, say=said.append, worlds=worlds))
    rows = joined(single)
    assert [(row.method, row.sampler, row.evaluations) for row in rows] == [
        *(("easy_consistency", "consistency", n) for n in (1, 2, 4)),
        *(("mean_flow", "consistency", n) for n in (1, 2, 4)),
        *(("mean_flow", "flow_map", n) for n in (2, 4)),
    ]
    assert len(said) == len(single) == 2 * len(rows)
    for row in rows:
        assert row.error > 0
        assert row.seeds == (0, 1)
        assert row.spread > 0
        assert len(row.levels) == row.steps
        assert row.levels[0] == 80.0
        assert all(a > b for a, b in zip(row.levels, row.levels[1:], strict=False))
        assert abs(row.training - 4_000) < 512 * 6  # whole batches
        assert (row.training_with_start > row.training) == (row.method == "easy_consistency")
        assert (row.to_flow is not None) == (row.steps == 1 or row.sampler == "flow_map")
    figure = tradeoff.picture([row.as_json() for row in rows])
    (axes,) = figure.axes
    assert axes.get_xscale() == axes.get_yscale() == "log"


def test_the_error_of_the_mixture_is_0_for_the_mixture_and_sees_a_shift() -> None:
    world, rng = Plane(), np.random.default_rng(1)
    fresh = [torch.from_numpy(ring().sample(10_000, rng)) for _ in range(8)]
    assert abs(float(np.mean([world.error(points) for points in fresh]))) < 0.002
    assert world.error(fresh[0] + torch.tensor([0.03, 0.0])) > 0.008


def test_a_seed_by_itself_is_the_same_as_among_others() -> None:
    one, both = (
        list(compare(["mixture"], ["diffusion"], 2_000, seeds, CPU, worlds={"mixture": WORLD}))
        for seeds in ((1,), (0, 1))
    )
    assert both[len(one) :] == one


def test_solvers_are_compared_by_their_evaluations() -> None:
    ways = ways_of("diffusion", Targets.SAME)
    assert [way.evaluations for way in ways] == [7, 19, 39, 8, 20, 40]
    assert Way("heun", 20).is_deterministic
    assert not Way("consistency", 2).is_deterministic


@pytest.mark.parametrize(
    ("data", "methods"), [(["mixture"], ["magic"]), (["sand"], ["diffusion"]), ([], ["diffusion"])]
)
def test_unknown_names_are_refused(data: list[str], methods: list[str]) -> None:
    with pytest.raises(ValueError, match="must be of"):
        next(compare(data, methods, 1_000, [0], CPU, worlds={"mixture": WORLD}))


def test_a_method_without_its_start_says_so() -> None:
    with pytest.raises(ValueError, match="starts from another one"):
        METHODS["consistency_distillation"].objective(Stage(WORLD.density, 10, None))
    assert isinstance(METHODS["diffusion"].objective(Stage(WORLD.density, 10, None)), Diffusion)
