"""What is particular to one parameterisation; what all have in common is in conformance/."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fewstep.core.arrays import per_sample
from fewstep.core.levels import CLEAN, PURE_NOISE, VP, Level, Trig, from_ratio, place
from fewstep.core.parameterisations import (
    Clipped,
    Edm,
    Epsilon,
    Parameterised,
    Targets,
    UnsupportedTarget,
    V,
    Velocity,
    require_targets,
)
from oracles import Constant
from subjects import PATHS, noisiest, normal, tensor


class TinyNet(torch.nn.Module):
    """A random network of x and both times."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2)).double()

    def forward(self, x, time_at, time_to, cond):
        return self.layers(torch.cat([x, time_at[:, None], time_to[:, None]], dim=1))


@pytest.mark.parametrize("sigma_data", [0.5, 1.0])
@pytest.mark.parametrize("name", PATHS)
def test_every_path_gives_the_same_estimate_through_one_network(name: str, sigma_data: float) -> None:
    """A network trained on one path may be used on any other: the level's ratio is all it sees."""
    estimator = Parameterised(TinyNet(), Edm(sigma_data), Targets.ANY)
    x, at, to = tensor(normal(6, 2)), from_ratio(np.geomspace(0.1, 14, 6)), from_ratio(np.geomspace(0.05, 5, 6))
    with torch.no_grad():
        reference = estimator(x, at, to, {})
        on_at, on_to = place(at, PATHS[name]), place(to, PATHS[name])
        there = estimator(per_sample(on_at.alpha, x) * x, on_at, on_to, {})
    np.testing.assert_allclose(there, reference, atol=1e-12)


def test_edm_on_ve_is_table_1() -> None:
    sigma, sd = np.array([0.01, 1.0, 50.0]), 0.5
    x, f, level = normal(3, 2), normal(3, 2, seed=1), from_ratio(sigma)
    s = sigma[:, None]
    c_skip, c_out = sd**2 / (s**2 + sd**2), s * sd / np.sqrt(s**2 + sd**2)
    c_in, c_noise = 1 / np.sqrt(s**2 + sd**2), 0.25 * np.log(sigma)
    np.testing.assert_allclose(Edm().estimate(x, f, level), c_skip * x + c_out * f)
    scaled, time_at, time_to = Edm(time="quarter_log").inputs(x, level, from_ratio(0.2).batch(3))
    np.testing.assert_allclose(scaled, c_in * x)
    np.testing.assert_allclose(time_at, c_noise)
    np.testing.assert_allclose(time_to, np.full(3, 0.25 * np.log(0.2)))


def test_edm_on_trig_is_trigflow_with_the_sign_of_f_turned() -> None:
    t, x, f = np.array([0.0, 0.7, np.pi / 2]), normal(3, 2), normal(3, 2, seed=1)
    level = Trig(0.5).level(t)
    expected = np.cos(t)[:, None] * x - 0.5 * np.sin(t)[:, None] * -f
    np.testing.assert_allclose(Edm().estimate(x, f, level), expected, atol=1e-15)
    scaled, time_at, _ = Edm().inputs(x, level, level)
    np.testing.assert_allclose(scaled, x / 0.5)
    np.testing.assert_allclose(time_at, t, atol=1e-15)


def test_edm_gives_a_unit_network_output_unit_variance_targets() -> None:
    """c_in makes the input, and c_out the output, of standard deviation 1 for data of standard deviation σd."""
    rng, level = np.random.default_rng(0), Level(0.7, 0.6).batch(200_000)
    data = 0.5 * rng.standard_normal((200_000, 1))
    x = level.mix(data, rng.standard_normal((200_000, 1)))
    assert Edm(0.5).inputs(x, level, level)[0].std() == pytest.approx(1.0, abs=0.01)
    assert Edm(0.5).output(x, data, level).std() == pytest.approx(1.0, abs=0.01)


def test_below_its_boundary_the_estimate_stays_pinned_to_x() -> None:
    edm, x, f = Edm(epsilon=0.1), normal(3, 2), 100 * normal(3, 2, seed=1)
    for ratio in (0.1, 0.05, 0.0):
        np.testing.assert_allclose(edm.estimate(2 * x, f, from_ratio(ratio).batch(3).scaled(2.0)), x)
    assert edm.epsilon == 0.1


@pytest.mark.parametrize("parameterisation", [Epsilon(), V()])
def test_pure_noise_is_taken_for_the_tables_last_level_with_its_noise_matched(parameterisation) -> None:
    path = VP.scaled_linear()
    last, x = noisiest(path), normal(2, 2)
    scaled, time_at, _ = parameterisation.inputs(x, PURE_NOISE.batch(2), CLEAN.batch(2))
    np.testing.assert_allclose(scaled, x * last.sigma)
    assert time_at.tolist() == [999.0, 999.0]


def test_times_of_discrete_parameterisations_are_the_tables_timesteps() -> None:
    path = VP.cosine()
    at, to = path.level(np.array([10.0, 500.0])), path.level(np.array([3.0, 250.5]))
    for parameterisation in (Epsilon(path), V(path)):
        scaled, time_at, time_to = parameterisation.inputs(3 * normal(2, 2), at.scaled(3.0), to)
        np.testing.assert_allclose(scaled, normal(2, 2))
        np.testing.assert_allclose(time_at, [10.0, 500.0])
        np.testing.assert_allclose(time_to, [3.0, 250.5])


def test_velocity_scales_its_time() -> None:
    x, at, to = normal(2, 2), Level(0.25, 0.75).batch(2), Level(0.5, 0.5).batch(2)
    scaled, time_at, time_to = Velocity(1000.0).inputs(2 * x, at.scaled(2.0), to)
    np.testing.assert_allclose(scaled, x)
    assert time_at.tolist() == [750.0, 750.0]
    assert time_to.tolist() == [500.0, 500.0]
    np.testing.assert_allclose(Velocity().estimate(x, 2 * x, at), x - 0.75 * 2 * x)


@pytest.mark.parametrize(
    ("have", "needed", "possible"),
    [
        (Targets.SAME, Targets.SAME, True),
        (Targets.SAME, Targets.CLEAN, False),
        (Targets.CLEAN, Targets.CLEAN, True),
        (Targets.CLEAN, Targets.SAME, False),
        (Targets.SAME, Targets.ANY, False),
        (Targets.CLEAN, Targets.ANY, False),
        (Targets.ANY, Targets.SAME, True),
        (Targets.ANY, Targets.CLEAN, True),
        (Targets.ANY, Targets.ANY, True),
    ],
)
def test_only_a_flow_map_serves_every_target(have: Targets, needed: Targets, possible: bool) -> None:
    if possible:
        require_targets(Constant(0.0, have), needed, "s")
    else:
        with pytest.raises(UnsupportedTarget, match=rf"'s'.*'{needed.value}'.*'{have.value}'"):
            require_targets(Constant(0.0, have), needed, "s")


def test_an_estimator_hands_its_network_the_inputs_and_the_condition() -> None:
    seen = {}

    def network(x, time_at, time_to, cond):
        seen.update(x=x, at=time_at, to=time_to, cond=cond)
        return 0 * x

    x, cond = normal(2, 2), {"label": np.array([1, 2])}
    estimator = Parameterised(network, Velocity(), Targets.CLEAN)
    estimate = estimator(x, PURE_NOISE.batch(2), CLEAN.batch(2), cond)
    np.testing.assert_array_equal(estimate, x)
    assert seen["cond"] is cond
    assert (seen["at"].tolist(), seen["to"].tolist()) == ([1.0, 1.0], [0.0, 0.0])
    assert (estimator.targets, estimator.epsilon) == (Targets.CLEAN, 0.0)
    assert Parameterised(network, Edm(epsilon=0.002)).epsilon == 0.002


@pytest.mark.parametrize(
    "settings", [{"sigma_data": 0.0}, {"sigma_data": -1.0}, {"sigma_data": float("nan")}, {"epsilon": -0.1}]
)
def test_settings_that_would_give_no_picture_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(settings))} must be"):
        Edm(**settings)


def test_a_clipped_estimate_keeps_its_bound_and_is_else_the_other_ones() -> None:
    x, output, at = normal(64, 2), 3 * normal(64, 2, seed=1), from_ratio(np.float64(5.0)).batch(64)
    free = Edm(epsilon=0.002).estimate(x, output, at)
    clipped = Clipped(Edm(epsilon=0.002), 1.0)
    assert (np.abs(free) > 1).any()
    np.testing.assert_array_equal(clipped.estimate(x, output, at), np.clip(free, -1, 1))
    assert clipped.epsilon == 0.002


@pytest.mark.parametrize("wrong", [{"parameterisation": Trig()}, {"bound": 0.0}, {"bound": float("inf")}])
def test_a_clip_of_nothing_or_to_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Clipped(**{"parameterisation": Edm(), **wrong})
