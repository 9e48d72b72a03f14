from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st

from fewstep.core.levels import CLEAN, PURE_NOISE, VE, VP, Level, Linear, Trig, from_ratio, place
from subjects import PATHS, normal, tensor

RATIOS = st.floats(1e-3, 1e3)
SCALES = st.floats(1e-3, 1e3)
ENDS = {"pure_noise": (0.0, 1.0), "clean": (1.0, 0.0)}
FINITE = {
    "angle": lambda level: level.angle(0.5),
    "magnitude": lambda level: level.magnitude(0.5),
    **{f"{name}.time": lambda level, path=path: path.time(level) for name, path in PATHS.items()},
    **{f"{name}.alpha": lambda level, path=path: place(level, path).alpha for name, path in PATHS.items()},
    **{f"{name}.sigma": lambda level, path=path: place(level, path).sigma for name, path in PATHS.items()},
}


@pytest.mark.parametrize("name", PATHS)
@given(share=st.floats(0.0, 1.0))
def test_time_and_level_are_inverse(name: str, share: float) -> None:
    path = PATHS[name]
    time = path.cleanest + share * (path.noisiest - path.cleanest)
    assert float(path.time(path.level(np.float64(time)))) == pytest.approx(time, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", PATHS)
@given(ratio=RATIOS, scale=SCALES)
def test_a_paths_time_sees_the_ratio_alone(name: str, ratio: float, scale: float) -> None:
    path, level = PATHS[name], from_ratio(ratio)
    assert float(path.time(level.scaled(scale))) == pytest.approx(float(path.time(level)), rel=1e-9, abs=1e-9)


@given(ratio=RATIOS, scale=SCALES, sigma_data=st.floats(0.1, 2.0))
def test_ratio_clock_and_angle_are_invariant_under_scale_and_magnitude_follows_it(
    ratio: float, scale: float, sigma_data: float
) -> None:
    level, scaled = from_ratio(ratio), from_ratio(ratio).scaled(scale)
    assert float(scaled.ratio) == pytest.approx(ratio)
    assert float(scaled.clock) == pytest.approx(1 / ratio)
    assert float(scaled.angle(sigma_data)) == pytest.approx(np.arctan(ratio / sigma_data))
    assert float(scaled.magnitude(sigma_data)) == pytest.approx(scale * np.hypot(sigma_data, ratio))
    assert float(level.magnitude()) == pytest.approx(np.hypot(1, ratio))


@pytest.mark.parametrize("name", PATHS)
@given(ratio=RATIOS)
def test_place_keeps_the_ratio_within_the_paths_ends(name: str, ratio: float) -> None:
    path = PATHS[name]
    low, high = (float(path.level(np.float64(t)).ratio) for t in (path.cleanest, path.noisiest))
    placed = place(from_ratio(ratio), path)
    assert float(placed.ratio) == pytest.approx(min(max(ratio, low), high), rel=1e-9)
    again = place(placed, path)
    assert float(again.sigma) == pytest.approx(float(placed.sigma), rel=1e-9)


@pytest.mark.parametrize("name", PATHS)
def test_place_keeps_clean_clean_and_takes_pure_noise_to_the_noisy_end(name: str) -> None:
    path = PATHS[name]
    clean = place(CLEAN, path)
    assert (float(clean.alpha), float(clean.sigma)) == (1.0, 0.0)
    end, noisy = path.level(np.float64(path.noisiest)), place(PURE_NOISE, path)
    assert float(noisy.sigma) == pytest.approx(float(end.sigma), rel=1e-9)
    assert float(noisy.alpha) == pytest.approx(float(end.alpha), rel=1e-9, abs=1e-300)


def test_the_table_of_paths() -> None:
    """maths.md §1: α and σ of each path at a time."""
    t = np.float64(0.3)
    for path, alpha, sigma in (
        (VE(), 1.0, 0.3),
        (Linear(), 0.7, 0.3),
        (Trig(0.5), np.cos(0.3), 0.5 * np.sin(0.3)),
        (Trig(1.0), np.cos(0.3), np.sin(0.3)),
    ):
        assert float(path.level(t).alpha) == pytest.approx(alpha)
        assert float(path.level(t).sigma) == pytest.approx(sigma)


def test_linear_and_trig_begin_at_pure_noise_exactly() -> None:
    for path in (Linear(), Trig(), Trig(1.0)):
        assert float(path.level(np.float64(path.noisiest)).alpha) == 0.0
        assert float(path.level(torch.tensor(path.noisiest, dtype=torch.float32)).alpha) == 0.0
        assert float(path.level(np.float64(path.cleanest)).sigma) == 0.0


@pytest.mark.parametrize(
    ("path", "schedule", "options"),
    [
        (VP.ddpm(), "linear", {}),
        (VP.scaled_linear(), "scaled_linear", {"beta_start": 0.00085, "beta_end": 0.012}),
        (VP.cosine(), "squaredcos_cap_v2", {}),
        (VP.ddpm(2e-4, 1e-2, 50), "linear", {"beta_start": 2e-4, "beta_end": 1e-2, "num_train_timesteps": 50}),
    ],
)
def test_vp_tables_equal_diffusers(path: VP, schedule: str, options: dict[str, float]) -> None:
    theirs = DDPMScheduler(beta_schedule=schedule, **options)
    alpha_bar = theirs.alphas_cumprod.double().numpy()
    ours = path.level(np.arange(len(path.betas)))
    np.testing.assert_allclose(path.betas, theirs.betas.double().numpy(), rtol=1e-4, atol=1e-7)
    # theirs are float32, and the product's end is near 1e-9 on the cosine table
    np.testing.assert_allclose(ours.alpha**2, alpha_bar, rtol=2e-4, atol=1e-6)
    np.testing.assert_allclose(ours.sigma**2, 1 - alpha_bar, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["scaled_linear", "ddpm", "cosine"])
def test_vp_preserves_variance_and_interpolates_log_snr(name: str) -> None:
    path = PATHS[name]
    below, between, above = (path.level(np.float64(t)) for t in (400.0, 400.25, 401.0))
    assert float(between.magnitude()) == pytest.approx(1.0)
    logs = [np.log(float(level.ratio)) for level in (below, between, above)]
    assert logs[1] == pytest.approx(0.75 * logs[0] + 0.25 * logs[2])


def test_vp_refuses_what_is_no_table_of_betas() -> None:
    for betas in ((), (0.5,), (0.1, 1.0), (0.0, 0.1)):
        with pytest.raises(ValueError, match="betas must be"):
            VP(betas)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("name", FINITE)
def test_ends_are_finite_forward_and_backward(name: str, end: str) -> None:
    parts = [tensor([value, 0.5], requires_grad=True) for value in ENDS[end]]
    value = FINITE[name](Level(*parts))
    assert torch.isfinite(value).all()
    if value.requires_grad:
        value.sum().backward()
        assert all(part.grad is None or torch.isfinite(part.grad).all() for part in parts)


def test_the_angles_gradient_is_right_at_both_ends() -> None:
    """d atan2(σ, σd·α) = (σd·α·dσ − σd·σ·dα)/(σd²·α² + σ²)."""
    alpha, sigma = tensor([0.0, 1.0], requires_grad=True), tensor([1.0, 0.0], requires_grad=True)
    Level(alpha, sigma).angle(0.5).sum().backward()
    assert alpha.grad.tolist() == [-0.5, 0.0]
    assert sigma.grad.tolist() == [0.0, 2.0]


def test_ratio_and_clock_are_infinite_at_their_ends_and_nowhere_nan() -> None:
    assert float(PURE_NOISE.ratio) == np.inf
    assert float(PURE_NOISE.clock) == 0.0
    assert float(CLEAN.ratio) == 0.0
    assert float(CLEAN.clock) == np.inf


@pytest.mark.parametrize("name", PATHS)
def test_levels_are_the_same_numbers_in_numpy_and_torch(name: str) -> None:
    path = PATHS[name]
    times = np.linspace(path.cleanest, path.noisiest, 9)
    ours, theirs = path.level(times), path.level(tensor(times))
    np.testing.assert_allclose(theirs.alpha.numpy(), ours.alpha, atol=1e-15)
    np.testing.assert_allclose(theirs.sigma.numpy(), ours.sigma, atol=1e-15)
    np.testing.assert_allclose(path.time(theirs).numpy(), path.time(ours), atol=1e-12)
    ends = Level(np.array([0.0, 1.0]), np.array([1.0, 0.0]))
    np.testing.assert_allclose(path.time(ends.like(tensor(0.0))).numpy(), path.time(ends), atol=1e-12)


def test_a_level_of_numbers_is_float64_and_keeps_its_kind_beside_a_tensor() -> None:
    assert Level(1, 0).alpha.dtype == np.float64
    mixed = Level(0.1, torch.ones(3, dtype=torch.float64))
    assert mixed.alpha.dtype == torch.float64
    assert mixed.alpha.tolist() == [0.1] * 3
    assert Level(torch.ones(3), 0.5).sigma.shape == (3,)
    assert isinstance(Level(np.ones(2), torch.ones(2)).alpha, torch.Tensor)
    assert isinstance(Level(torch.ones(2), np.ones(2)).sigma, torch.Tensor)


def test_a_grid_of_levels_is_indexed_and_batched() -> None:
    grid = Level(np.array([0.0, 0.5, 1.0]), np.array([1.0, 0.5, 0.0]))
    assert len(grid) == 3
    assert float(grid[1].alpha) == 0.5
    assert grid[2].batch(4).sigma.tolist() == [0.0] * 4
    assert len(grid[1:]) == 2


@pytest.mark.parametrize("kind", [np.asarray, tensor])
def test_mix_is_alpha_data_plus_sigma_noise_per_sample(kind) -> None:
    data, noise = normal(2, 3, 4, seed=1), normal(2, 3, 4, seed=2)
    mixed = Level(np.array([0.5, 1.0]), np.array([2.0, 0.0])).mix(kind(data), kind(noise))
    np.testing.assert_allclose(np.asarray(mixed[0]), 0.5 * data[0] + 2 * noise[0])
    np.testing.assert_array_equal(np.asarray(mixed[1]), data[1])
