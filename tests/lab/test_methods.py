"""The comparison of methods: what a method costs is counted, what it starts from is trained first, rows say how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from fewstep.core.parameterisations import Targets
from fewstep.data.dataset import DataError
from fewstep.data.toys import ring
from fewstep.lab import comparison, tradeoff
from fewstep.lab import methods as recipes
from fewstep.lab.comparison import SamplerSetting, compare, sampler_settings
from fewstep.lab.method_rows import joined
from fewstep.lab.methods import METHODS, Method, TrainedMethod, cost_of, costs, train_method
from fewstep.lab.worlds import PictureWorld, PlaneWorld
from fewstep.recipes.digits import DigitsRecipe
from fewstep.training.calling import AtPrecision
from fewstep.training.loop import TrainingDiverged

CPU = torch.device("cpu")
WORLD = PlaneWorld(samples=200)
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
    # the student draws and is asked once for the jump before; its own step and both scores' every fifth time
    "distribution_matching": 1 + (3 + 1 + 1 + 4 * 1) / 5 + 3,
    "flow_map_distribution_matching": 1 + 3 + 3 + 1,
}


@pytest.mark.parametrize("name", METHODS)
def test_the_evaluations_of_a_step_are_counted(name: str) -> None:
    cost = cost_of(METHODS[name].settings, WORLD, CPU)
    if name == "truncated_consistency":  # its first stage answers where the target lies below t'
        assert 4 < cost < 5
    else:
        assert cost == pytest.approx(COSTS[name])


def test_a_method_learns_at_its_rate() -> None:
    start = train_method(METHODS["diffusion"], WORLD, 6_000, 3, 0, None)
    weights = dict(start.network.named_parameters())

    def moved(rate: float) -> float:
        method = replace(METHODS["easy_consistency"], rate=rate)
        after = train_method(method, WORLD, 4_000, 4, 0, start).network.named_parameters()
        return max(float((values - weights[name]).abs().max()) for name, values in after)

    assert moved(0.01) < 0.02 * moved(1.0)


def test_every_method_comes_after_what_it_starts_from() -> None:
    names = list(METHODS)
    assert all(names.index(method.start) < names.index(name) for name, method in METHODS.items() if method.start)


def test_a_comparison_trains_what_is_needed_and_tells_what_was_spent() -> None:
    said: list[str] = []
    methods, worlds = ["easy_consistency", "mean_flow"], {"mixture": WORLD}
    groups = list(compare({"mixture": 4_000}, methods, (0, 1), CPU, progress=said.append, worlds=worlds))
    assert [len(group) for group in groups] == [3, 5] * 2
    single = [row for group in groups for row in group]
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
    world, rng = PlaneWorld(), np.random.default_rng(1)
    fresh = [torch.from_numpy(ring().sample(10_000, rng)) for _ in range(8)]
    assert abs(float(np.mean([world.error(points) for points in fresh]))) < 0.002
    assert world.error(fresh[0] + torch.tensor([0.03, 0.0])) > 0.008


def test_a_seed_by_itself_is_the_same_as_among_others() -> None:
    one, both = (
        list(compare({"mixture": 2_000}, ["diffusion"], seeds, CPU, worlds={"mixture": WORLD}))
        for seeds in ((1,), (0, 1))
    )
    assert both[len(one) :] == one


def test_the_error_of_digits_is_about_0_for_others_and_large_for_grey() -> None:
    world = PictureWorld(DigitsRecipe(), 300)
    world.check()
    real = world._subject.real(world._subject.queries(300, 0), 7)
    samples = torch.from_numpy(world.recipe.conditioning.codec.encode(real))
    assert samples.shape[1:] == world.shape
    assert abs(world.error(samples)) < 0.1
    assert world.error(torch.zeros_like(samples)) > 1.0
    assert len(world.conditions(300)["label"]) == 300


def test_solvers_are_compared_by_their_evaluations() -> None:
    settings = sampler_settings("diffusion", Targets.SAME)
    assert [setting.evaluations for setting in settings] == [7, 19, 39, 8, 20, 40]
    assert SamplerSetting("heun", 20).is_deterministic
    assert not SamplerSetting("consistency", 2).is_deterministic


def test_rows_that_are_there_are_not_made_again_and_starts_only_where_needed() -> None:
    worlds = {"mixture": WORLD}
    (first,) = compare({"mixture": 2_000}, ["easy_consistency"], [0], CPU, worlds=worlds)
    both = ["diffusion", "easy_consistency"]
    (second,) = compare({"mixture": 2_000}, both, [0], CPU, known=joined(first), worlds=worlds)
    assert {row.method for row in second} == {"diffusion"}
    assert list(compare({"mixture": 2_000}, both, [0], CPU, known=[*first, *second], worlds=worlds)) == []
    (other,) = compare({"mixture": 3_000}, ["diffusion"], [0], CPU, known=second, worlds=worlds)
    assert {row.budget for row in other} == {3_000}


def test_what_diverges_is_said_and_left_out_with_all_that_starts_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    trained, said = comparison.train_method, list[str]()

    def diverging(method: Method, *given: Any) -> TrainedMethod:
        if method is METHODS["easy_consistency"]:
            raise TrainingDiverged("at σ/α = 3")
        return trained(method, *given)

    monkeypatch.setattr(comparison, "train_method", diverging)
    methods = ["easy_consistency", "truncated_consistency", "flow_matching"]
    (rows,) = compare({"mixture": 2_000}, methods, [0], CPU, progress=said.append, worlds={"mixture": WORLD})
    assert {row.method for row in rows} == {"flow_matching"}
    assert "mixture, seed 0: easy_consistency diverged: at σ/α = 3" in said
    assert "mixture, seed 0: truncated_consistency skipped: easy_consistency, which it starts from, diverged" in said


def test_what_is_missing_is_found_before_any_training(monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing(PlaneWorld):
        def check(self) -> None:
            raise DataError("no font")

    monkeypatch.setattr(comparison, "train_method", None)
    worlds = {"mixture": WORLD, "emoji": Missing()}
    with pytest.raises(DataError, match="no font"):
        next(compare({"mixture": 2_000, "emoji": 2_000}, ["diffusion"], [0], CPU, worlds=worlds))


class Meta:
    """Random numbers without values, on the device `meta`."""

    def __init__(self, seed: int, step: int, device: torch.device) -> None:
        self.device = device

    def normal(self, shape: Sequence[int]) -> torch.Tensor:
        return torch.empty(tuple(shape), device=self.device)

    uniform = normal


class Whole(AtPrecision):
    """In float32 without autocast, which `meta` does not have."""

    def __call__(self, *given: Any) -> torch.Tensor:
        output: torch.Tensor = self._network(*given)
        return output


@pytest.mark.parametrize(
    "name", [name for name in METHODS if name != "truncated_consistency"]
)  # it queries for values
def test_all_that_a_method_computes_with_is_on_its_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU: the device `meta` refuses to compute with tensors of the CPU, as a GPU does."""
    monkeypatch.setattr(recipes, "StepRng", Meta)
    monkeypatch.setattr(recipes, "AtPrecision", Whole)
    assert costs({name}, WORLD, torch.device("meta"))[name] == COSTS[name]


@pytest.mark.parametrize(
    ("data", "methods"), [(["mixture"], ["magic"]), (["sand"], ["diffusion"]), ([], ["diffusion"])]
)
def test_unknown_names_are_refused(data: list[str], methods: list[str]) -> None:
    with pytest.raises(ValueError, match="must be among"):
        next(compare(dict.fromkeys(data, 1_000), methods, [0], CPU, worlds={"mixture": WORLD}))


def test_a_method_without_its_start_says_so() -> None:
    with pytest.raises(ValueError, match="needs a teacher"):
        train_method(METHODS["consistency_distillation"], WORLD, 1_000, 6, 0, None)
