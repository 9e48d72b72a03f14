"""How close reconstructed pictures come to the originals: the metrics of a codec. NumPy only.

Pictures are premultiplied RGBA, float [n, 4, h, w] in [0, 1].
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fewstep.pictures.pixels import Pixels

AWAY = 3  # distance from the drawing, in pixels, beyond which a pixel is background
VISIBLE = 2 / 255  # alpha above which a background pixel is visible


def fidelity(real: Pixels, made: Pixels) -> dict[str, float]:
    """All metrics of `made` against `real`: `psnr` in dB, `ssim`, `sharpness` and `stray`; see the functions."""
    return {
        "psnr": psnr(real, made),
        "ssim": ssim(real, made),
        "sharpness": sharpness(made) / sharpness(real),
        "stray": stray(real, made),
    }


def psnr(real: Pixels, made: Pixels) -> float:
    """The mean peak signal-to-noise ratio of pictures over all their channels, in dB."""
    squared = np.square(real.astype(np.float64) - made).mean(axis=(1, 2, 3))
    return float(np.mean(-10 * np.log10(np.maximum(squared, 1e-10))))


def ssim(real: Pixels, made: Pixels, window: int = 11, deviation: float = 1.5) -> float:
    """The mean structural similarity (Wang et al. 2004, eq. 13) over channels, in a Gaussian window."""
    a, b = real.astype(np.float64), made.astype(np.float64)
    offsets = np.arange(window) - (window - 1) / 2
    kernel = np.exp(-0.5 * (offsets / deviation) ** 2)
    kernel /= kernel.sum()

    def smooth(values: Pixels) -> Pixels:
        rows = sliding_window_view(values, window, axis=2) @ kernel
        smoothed: Pixels = sliding_window_view(rows, window, axis=3) @ kernel
        return smoothed

    mean_a, mean_b = smooth(a), smooth(b)
    var_a, var_b = smooth(a * a) - mean_a**2, smooth(b * b) - mean_b**2
    both = smooth(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    similar = (2 * mean_a * mean_b + c1) * (2 * both + c2)
    return float((similar / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean())


def sharpness(pictures: Pixels) -> float:
    """The mean absolute difference of neighbouring pixels, of the picture on white and of its alpha."""
    values = np.concatenate([pictures[:, :3] + 1 - pictures[:, 3:], pictures[:, 3:]], axis=1)
    across, down = np.abs(np.diff(values, axis=3)).mean(), np.abs(np.diff(values, axis=2)).mean()
    return float((across + down) / 2)


def stray(real: Pixels, made: Pixels) -> float:
    """The share of background pixels, those farther than AWAY from the drawing, that are visible in `made`; 0 if
    there is no background."""
    side = 2 * AWAY + 1
    padded = np.pad(real[:, 3] > 0, ((0, 0), (AWAY, AWAY), (AWAY, AWAY)))
    near = sliding_window_view(padded, (side, side), axis=(1, 2)).any(axis=(3, 4))
    background = ~near
    if not background.any():
        return 0.0
    return float((made[:, 3] > VISIBLE)[background].mean())
