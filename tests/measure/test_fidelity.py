"""What a codec is measured by, against closed forms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from fewstep.measure.fidelity import AWAY, fidelity, psnr, sharpness, ssim, stray


def discs(count: int = 2, side: int = 32) -> Any:
    """Opaque white discs."""
    rows, columns = np.mgrid[0:side, 0:side] - (side - 1) / 2
    disc = (np.hypot(rows, columns) < 6).astype(np.float32)
    return np.broadcast_to(disc, (count, 4, side, side)).copy()


def test_psnr_of_an_even_error_is_its_size_in_decibels() -> None:
    real = discs()
    assert psnr(real, real + 0.1) == pytest.approx(20, abs=1e-4)
    assert psnr(real, real + np.array([0.1, 0.01])[:, None, None, None]) == pytest.approx(30, abs=1e-4)
    assert psnr(real, real) == 100


def test_ssim_is_1_for_equals_and_falls_with_structure_not_with_light() -> None:
    real = np.random.default_rng(0).random((1, 4, 32, 32))
    assert ssim(real, real) == pytest.approx(1)
    noised = real + 0.2 * np.random.default_rng(1).standard_normal(real.shape)
    shifted = real + noised.std() - real.std()
    assert ssim(real, noised) < 0.85 < ssim(real, shifted)


def test_ssim_of_flat_pictures_is_wangs_formula() -> None:
    a, b = np.full((1, 4, 16, 16), 0.2), np.full((1, 4, 16, 16), 0.6)
    assert ssim(a, b) == pytest.approx((2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4))


def test_ssim_is_taken_in_wangs_window() -> None:
    """11 × 11 pixels of a Gaussian of deviation 1.5 (Wang et al. 2004, §III.C), here with scipy's filter."""
    real, made = np.random.default_rng(2).random((2, 1, 1, 20, 20))

    def smooth(values: Any) -> Any:
        return gaussian_filter(values, 1.5, radius=5, axes=(2, 3))[..., 5:-5, 5:-5]

    a, b = smooth(real), smooth(made)
    variances = smooth(real**2) - a**2 + smooth(made**2) - b**2
    similar = (2 * a * b + 0.01**2) * (2 * (smooth(real * made) - a * b) + 0.03**2)
    assert ssim(real, made) == pytest.approx((similar / ((a**2 + b**2 + 0.01**2) * (variances + 0.03**2))).mean())


def test_sharpness_halves_when_steps_do() -> None:
    real = discs()
    assert sharpness(0.5 * real) == pytest.approx(0.5 * sharpness(real), rel=0.01)
    assert sharpness(np.zeros_like(real)) == 0


def test_stray_pixels_count_only_far_from_what_is_drawn_and_where_they_are_seen() -> None:
    real, made = discs(1), discs(1)
    made[0, 3, 16, 16 + 6 + AWAY - 1] = 1  # within reach of the disc's edge
    made[0, 3, 0, 1] = 2 / 255
    assert stray(real, made) == 0
    made[0, 3, 0, 0] = 3 / 255
    background = _background(real)
    assert stray(real, made) == pytest.approx(1 / background)
    assert stray(np.ones_like(real), made) == 0


def _background(real: Any) -> int:
    """Pixels more than AWAY rows or columns from anything, counted one by one."""
    drawn = np.argwhere(real[0, 3] > 0)
    far = [
        all(max(abs(row - r), abs(column - c)) > AWAY for r, c in drawn)
        for row in range(real.shape[2])
        for column in range(real.shape[3])
    ]
    return sum(far)


def test_all_figures_come_together() -> None:
    figures = fidelity(discs(), discs())
    assert figures == {"psnr": 100, "ssim": pytest.approx(1), "sharpness": 1, "stray": 0}
    assert all(math.isfinite(value) for value in figures.values())
