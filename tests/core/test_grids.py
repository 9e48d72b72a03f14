from __future__ import annotations

import numpy as np
import pytest
from diffusers import DDIMScheduler, EDMEulerScheduler
from hypothesis import given
from hypothesis import strategies as st

from fewstep.core.grids import (
    MAX_STEPS,
    check_steps,
    from_ratios,
    karras,
    leading,
    log_uniform,
    trailing,
    uniform,
)
from fewstep.core.levels import VP, Level, place
from subjects import PATHS, STEPS

TABLE = VP.scaled_linear()
GRIDS = {
    "karras": karras,
    "log_uniform": log_uniform,
    **{f"uniform_{name}": lambda n, path=path: uniform(path, n) for name, path in PATHS.items()},
    "trailing": lambda n: trailing(TABLE, n),
    "leading": lambda n: leading(TABLE, n),
    "from_ratios": lambda n: from_ratios(np.geomspace(50.0, 0.1, n)),
    "from_infinity": lambda n: from_ratios(np.append(np.inf, np.geomspace(50.0, 0.1, n))[:n]),
}


def _is_a_grid(levels: Level, steps: int) -> None:
    assert len(levels) == steps + 1
    assert levels.alpha.dtype == levels.sigma.dtype == np.float64
    assert np.isfinite(levels.alpha).all()
    assert np.isfinite(levels.sigma).all()
    assert (levels.alpha[-1], levels.sigma[-1]) == (1.0, 0.0)
    assert (levels.sigma[:-1] > 0).all()
    assert (np.diff(levels.angle(0.5)) < 0).all()


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_falls_from_noise_to_clean_in_n_steps(name: str, steps: int) -> None:
    _is_a_grid(GRIDS[name](steps), steps)


@given(steps=st.integers(1, 60), low=st.floats(1e-3, 1.0), factor=st.floats(1.5, 1e5), rho=st.floats(1.0, 10.0))
def test_karras_and_log_uniform_are_grids_for_any_range(steps: int, low: float, factor: float, rho: float) -> None:
    for levels in (karras(steps, low, low * factor, rho), log_uniform(steps, low, low * factor)):
        _is_a_grid(levels, steps)
        assert levels.ratio[0] == pytest.approx(low * factor)
        if steps > 1:
            assert levels.ratio[-2] == pytest.approx(low)


@given(steps=st.integers(1, 1000))
def test_timestep_grids_are_grids_for_any_count(steps: int) -> None:
    _is_a_grid(trailing(TABLE, steps), steps)
    _is_a_grid(leading(TABLE, steps), steps)


@pytest.mark.parametrize("steps", [*STEPS, 18, 40])
def test_karras_equals_diffusers(steps: int) -> None:
    theirs = EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, rho=7.0)
    theirs.set_timesteps(steps)
    np.testing.assert_allclose(karras(steps).ratio, theirs.sigmas.numpy(), rtol=1e-5)


def test_karras_is_eq_5() -> None:
    i, n = np.arange(5), 5
    sigma = (80 ** (1 / 7) + i / (n - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    np.testing.assert_allclose(karras(5).ratio, [*sigma, 0.0])


def test_log_uniform_is_geometric() -> None:
    np.testing.assert_allclose(log_uniform(4, 0.01, 10.0).ratio, [10.0, 1.0, 0.1, 0.01, 0.0])


@pytest.mark.parametrize("steps", [*STEPS, 3, 7, 20, 50, 999, 1000])
@pytest.mark.parametrize("spacing", ["trailing", "leading"])
def test_timesteps_equal_ddims(spacing: str, steps: int) -> None:
    theirs = DDIMScheduler(timestep_spacing=spacing, steps_offset=0)
    theirs.set_timesteps(steps)
    ours = (trailing if spacing == "trailing" else leading)(TABLE, steps)
    np.testing.assert_allclose(TABLE.time(ours)[:-1], theirs.timesteps.numpy(), atol=1e-6)


def test_leading_takes_stable_diffusions_offset() -> None:
    theirs = DDIMScheduler(timestep_spacing="leading", steps_offset=1)
    theirs.set_timesteps(4)
    np.testing.assert_allclose(TABLE.time(leading(TABLE, 4, offset=1))[:-1], theirs.timesteps.numpy(), atol=1e-6)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", PATHS)
def test_uniform_divides_the_paths_own_time(name: str, steps: int) -> None:
    path = PATHS[name]
    times = path.time(uniform(path, steps))[:-1]
    expected = path.noisiest + (path.cleanest - path.noisiest) * np.arange(steps) / steps
    np.testing.assert_allclose(times, expected, atol=1e-8)


def test_linear_and_trig_grids_start_at_pure_noise() -> None:
    for name in ("linear", "trig"):
        assert uniform(PATHS[name], 1).alpha.tolist() == [0.0, 1.0]
    assert from_ratios([np.inf, 1.5]).alpha.tolist() == [0.0, 1.0, 1.0]
    assert from_ratios([np.inf, 1.5]).sigma.tolist() == [1.0, 1.5, 0.0]


@pytest.mark.parametrize("name", PATHS)
def test_placing_keeps_the_points_and_takes_the_paths_scale(name: str) -> None:
    path, levels = PATHS[name], from_ratios([5.0, 1.0, 0.5])
    placed = place(levels, path)
    np.testing.assert_allclose(placed.ratio, levels.ratio)
    np.testing.assert_allclose(placed.sigma[:3], path.level(path.time(levels)).sigma[:3])
    assert (placed.alpha[-1], placed.sigma[-1]) == (1.0, 0.0)


@pytest.mark.parametrize("name", ["karras", "log_uniform", "uniform_linear", "uniform_trig"])
def test_a_grid_may_have_as_many_steps_as_a_ddpm_table(name: str) -> None:
    _is_a_grid(GRIDS[name](1000), 1000)


@pytest.mark.parametrize("steps", [0, -1, 1.5, True, MAX_STEPS + 1, "4"])
def test_steps_must_be_a_whole_number_within_bounds(steps: object) -> None:
    with pytest.raises(ValueError, match=f"between 1 and {MAX_STEPS}, got {steps}"):
        check_steps(steps)


def test_every_grid_checks_its_steps_and_its_range() -> None:
    for name in ("karras", "log_uniform", "uniform_linear", "trailing", "leading"):
        with pytest.raises(ValueError, match="steps must be"):
            GRIDS[name](0)
    for grid in (trailing, leading):
        with pytest.raises(ValueError, match="between 1 and 1000, got 1001"):
            grid(TABLE, 1001)
    for grid in (karras, log_uniform):
        for low, high in ((0.0, 1.0), (1.0, 1.0), (2.0, 1.0), (1.0, np.inf)):
            with pytest.raises(ValueError, match="0 < sigma_min < sigma_max"):
                grid(4, low, high)
    check_steps(np.int64(4))


@pytest.mark.parametrize("ratios", [[], [1.0, 1.0], [1.0, 2.0], [1.0, 0.0], [-1.0], [np.nan], 3.0, [np.inf, np.inf]])
def test_a_list_that_does_not_fall_is_no_grid(ratios: object) -> None:
    with pytest.raises(ValueError, match="grid"):
        from_ratios(ratios)


def test_leading_steps_must_stay_on_the_table() -> None:
    total = len(TABLE.betas)
    assert len(leading(TABLE, 1, offset=total - 1)) == 2
    for offset in (-1, total):
        with pytest.raises(ValueError, match=f"offset must be at least 0 .* got {offset}"):
            leading(TABLE, 1, offset)
