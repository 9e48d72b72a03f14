"""How the truncated consistency model's part of parity.npz was made: NumPy alone, from the published formula.

The authors' code (NVlabs/TCM) may not be used freely, so this is written from the paper (2410.14895) without
anything of fewstep: the loss in two parts, λ_b·E[ℓ | t = t'] + E[ℓ | t > t'] with t' = 1, λ_b = 0.1 and a quarter of
the samples at t'; ℓ = d(f(x_t, t), sg f(x_r, r))/(t − r), the frozen first stage in the place of f(x_r, r) where
r < t'; r = t·(1 − n(t)/256), n(t) = 1 + 8/(1 + e^t) (2406.14548 eq. 20 at its eighth stage); d the pseudo-Huber
distance √(‖·‖² + c²) − c with c = 0.06. Gradients by the chain rule, by hand.

    python tests/objectives/make_tcm_parity.py

adds `TCM/…`, `tcm_uniform` and `tcm_ratio` to the file; everything else in it stays as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).parent / "parity.npz"
SIGMA_DATA, BOUNDARY, SHARE, WEIGHT, C = 0.5, 1.0, 0.25, 0.1, 0.06
UNIFORM = np.array([0.1, 0.6, 0.2, 0.9, 0.3, 0.7])  # below SHARE: at the boundary, as samples 0 and 2 are
RATIO = np.array([9.0, 1.001, 2.0, 3.7, 1.9, 60.0])  # of the others; sample 1 has its r below the boundary


def network(kept: dict[str, Any], role: str, x: Any, sigma: Any) -> tuple[Any, Any, Any]:
    """F(c_in·x, ¼·ln σ) of the little network, its input and its hidden layer."""
    inputs = x / np.sqrt(SIGMA_DATA**2 + sigma**2)[:, None]
    time = np.sin(np.log(sigma) / 4)[:, None]
    hidden = np.tanh(inputs @ kept[f"{role}.w1"].T + time * kept[f"{role}.from_at"] + kept[f"{role}.b"])
    return hidden @ kept[f"{role}.w2"].T, inputs, hidden


def answer(kept: dict[str, Any], role: str, x: Any, sigma: Any) -> Any:
    """f = c_skip·x + c_out·F in EDM's preconditioning (2206.00364 table 1)."""
    skip = SIGMA_DATA**2 / (sigma**2 + SIGMA_DATA**2)
    out = sigma * SIGMA_DATA / np.sqrt(sigma**2 + SIGMA_DATA**2)
    return skip[:, None] * x + out[:, None] * network(kept, role, x, sigma)[0]


def loss_and_gradients(kept: dict[str, Any]) -> dict[str, Any]:
    data, noise = (kept[name].reshape(6, -1) for name in ("data", "noise"))
    edge = UNIFORM < SHARE
    t = np.where(edge, BOUNDARY, RATIO)
    r = t * (1 - (1 + 8 / (1 + np.exp(t))) / 256)
    x_t, x_r = data + t[:, None] * noise, data + r[:, None] * noise
    goal = np.where((r < BOUNDARY)[:, None], answer(kept, "teacher", x_r, r), answer(kept, "student", x_r, r))
    difference = answer(kept, "student", x_t, t) - goal
    length = np.sqrt((difference**2).sum(axis=1) + C**2)
    part = np.where(edge, WEIGHT / SHARE, 1 / (1 - SHARE)) / (t - r)
    loss = part * (length - C)

    # d(mean loss)/dF, then through the two layers
    out = t * SIGMA_DATA / np.sqrt(t**2 + SIGMA_DATA**2)
    to_output = (part / length / 6 * out)[:, None] * difference
    _, inputs, hidden = network(kept, "student", x_t, t)
    to_hidden = (to_output @ kept["student.w2"]) * (1 - hidden**2)
    return {
        "TCM/loss": loss,
        "TCM/gradient.w1": to_hidden.T @ inputs,
        "TCM/gradient.from_at": np.sin(np.log(t) / 4) @ to_hidden,
        "TCM/gradient.from_to": np.zeros(16),
        "TCM/gradient.b": to_hidden.sum(axis=0),
        "TCM/gradient.w2": to_output.T @ hidden,
    }


if __name__ == "__main__":
    kept = dict(np.load(FILE))
    np.savez(FILE, **{**kept, "tcm_uniform": UNIFORM, "tcm_ratio": RATIO, **loss_and_gradients(kept)})
