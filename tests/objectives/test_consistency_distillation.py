"""Formula parity with consistency distillation (2303.01469 alg. 2), its solver and guidance written out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep.core.grids import karras
from fewstep.core.parameterisations import Targets
from fewstep.objectives import Batch, ConsistencyDistillation, LearnedGuidance
from fewstep.objectives.curricula import Clock
from fewstep.objectives.distances import PseudoHuber, Squared, inverse_gap
from students import Dictated, student_of

SD, N = 0.5, 8
CLOCK = Clock(0, 1)


def network(shift: float, targets: Targets) -> Any:
    return student_of(lambda x, at, to, cond: torch.sin(2 * x + shift) + at[:, None], targets)


def estimate(shift: float, x: Tensor, t: Tensor) -> Tensor:
    t = t[:, None]
    c_skip, c_out = SD**2 / (t**2 + SD**2), t * SD / torch.sqrt(t**2 + SD**2)
    c_in = 1 / torch.sqrt(t**2 + SD**2)
    return c_skip * x + c_out * (torch.sin(2 * c_in * x + shift) + torch.atan(t / SD))


def draws(size: int = 32) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    data, noise = (torch.randn(size, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    u, v = (torch.rand(size, generator=generator, dtype=torch.float64) for _ in range(2))
    return 0.5 * data, noise, u, v


def levels(u: Tensor) -> tuple[Tensor, Tensor]:
    """Each sample's t and the next lower level r; the grid ends at clean."""
    rising = torch.from_numpy(karras(N).ratio.copy()).flip(0)
    i = torch.floor(u * N).long()
    return rising[i + 1], rising[i]


def euler(denoiser: Any, x: Tensor, t: Tensor, r: Tensor) -> Tensor:
    """One step of dx/dσ = (x − D)/σ."""
    d = (x - denoiser(x, t)) / t[:, None]
    return x + (r - t)[:, None] * d


def heun(denoiser: Any, x: Tensor, t: Tensor, r: Tensor) -> Tensor:
    """Heun's method for dy/dθ = (cos θ·y − D)/sin θ on the trig path's scale; Euler's where r = 0."""
    first = denoiser(x, t)
    at, to = torch.atan(t / SD)[:, None], torch.atan(r / SD)[:, None]

    def slope(y: Tensor, theta: Tensor, d: Tensor) -> Tensor:
        return (theta.cos() * y - d) / theta.sin()

    y = x * at.cos()  # x = y/cos θ on the VE path
    k1 = slope(y, at, first)
    guess = y + (to - at) * k1
    safe = torch.where(to == 0, torch.ones_like(to), to)
    k2 = slope(guess, safe, denoiser(guess / to.cos(), r))
    stepped = (y + (to - at) * (k1 + k2) / 2) / to.cos()
    return torch.where(to == 0, first, stepped)


@pytest.mark.parametrize("weight", [None, inverse_gap, lambda at, to: 1 + at + 2 * to])
@pytest.mark.parametrize("solver", ["heun", "euler"])
def test_the_loss_is_algorithm_2(solver: Any, weight: Any) -> None:
    data, noise, u, _ = draws()
    t, r = levels(u)
    x_t = data + t[:, None] * noise
    step = heun if solver == "heun" else euler
    x_r = step(lambda x, at: estimate(1.1, x, at), x_t, t, r)
    expected = (estimate(0.0, x_t, t) - estimate(0.4, x_r, r)).square().sum(dim=1)
    objective = ConsistencyDistillation(
        network(1.1, Targets.SAME), N, solver, Squared(), weight, decay=0.95, jitter=False
    )
    loss = objective(
        network(0.0, Targets.CLEAN), network(0.4, Targets.CLEAN), Batch(data), CLOCK, Dictated([noise], [u])
    )
    assert bool((r == 0).any())
    scale = {None: 1.0, inverse_gap: 1 / (t - r)}.get(weight, 1 + t + 2 * r)
    torch.testing.assert_close(loss.per_sample, expected * scale)
    torch.testing.assert_close(loss.at.ratio, t)
    assert objective.target_decay(CLOCK) == 0.95


@pytest.mark.parametrize("epsilon", [0.0, 0.002, 0.05])
def test_pairs_lie_one_level_apart_anywhere_on_the_grid(epsilon: float) -> None:
    objective, u = (
        ConsistencyDistillation(network(1.1, Targets.SAME), N),
        torch.linspace(0, 1, 4001, dtype=torch.float64)[:-1],
    )
    grid = objective.ratios(epsilon)
    t, r = objective.pairs(grid, Dictated([], [u]), len(u))
    assert bool((t > r).all() and (t.diff() >= 0).all() and (r.diff() >= 0).all())
    top, bottom = t == grid[-1], t == grid[1]
    assert float(top.double().mean()) == pytest.approx(0.5 / (len(grid) - 1), abs=0.001)
    assert float(bottom.double().mean()) == pytest.approx(0.5 / (len(grid) - 1), abs=0.001)
    torch.testing.assert_close(r[top], grid[-2].expand_as(r[top]))
    torch.testing.assert_close(r[bottom], grid[0].expand_as(r[bottom]))

    def place(ratio: Tensor) -> Tensor:  # above the lowest level, where the grid is even in its own spacing
        warped = grid ** (1 / 7)
        return 1 + (ratio ** (1 / 7) - warped[1]) / (warped[2] - warped[1])

    high = r >= grid[1]
    torch.testing.assert_close(place(t[high]) - place(r[high]), torch.ones(int(high.sum()), dtype=torch.float64))
    torch.testing.assert_close(
        place(t).diff()[~top[1:] & ~bottom[:-1]].std(), torch.tensor(0.0).double(), atol=1e-9, rtol=0
    )
    low = r < grid[1]
    torch.testing.assert_close((r[low] - grid[0]) / (grid[1] - grid[0]), place(t[low]) - 1)


def test_a_place_on_the_grid_is_its_level() -> None:
    data, noise, u, _ = draws()
    u = (torch.floor(u * N) + 0.5) / N
    teacher, student = network(1.1, Targets.SAME), network(0.0, Targets.CLEAN)
    jittered, plain = (
        ConsistencyDistillation(teacher, N, jitter=jitter)(
            student, student, Batch(data), CLOCK, Dictated([noise], [u])
        )
        for jitter in (True, False)
    )
    torch.testing.assert_close(jittered.per_sample, plain.per_sample)


def test_where_a_step_is_small_heun_and_euler_agree_and_heun_is_not_euler() -> None:
    data, noise, _, _ = draws()
    t = torch.full((32,), 1.0, dtype=torch.float64)
    x = data + noise

    def gap(width: float) -> float:
        r = t - width
        teacher = [step(lambda x, at: estimate(1.1, x, at), x, t, r) for step in (heun, euler)]
        return float((teacher[0] - teacher[1]).abs().max())

    assert 3.5 < gap(0.02) / gap(0.01) < 4.5


def test_the_default_distance_is_pseudo_huber() -> None:
    data, noise, u, _ = draws()
    teacher, student = network(1.1, Targets.SAME), network(0.0, Targets.CLEAN)
    squared, huber = (
        ConsistencyDistillation(teacher, N, jitter=False, **kind)(
            student, student, Batch(data), CLOCK, Dictated([noise], [u])
        )
        for kind in ({"distance": Squared(), "weight": None}, {"weight": None})
    )
    c = 0.00054 * math.sqrt(6)
    torch.testing.assert_close(huber.per_sample, torch.sqrt(squared.per_sample + c**2) - c)
    assert ConsistencyDistillation(teacher).distance == PseudoHuber()


def test_guidance_folds_into_the_teacher_and_its_scale_becomes_an_input_of_the_student() -> None:
    data, noise, u, v = draws()
    given: dict[str, list[Any]] = {"teacher": [], "student": [], "target": []}

    def labelled(role: str, targets: Targets) -> Any:
        def raw(x: Tensor, at: Tensor, to: Tensor, cond: Any) -> Tensor:
            given[role].append({name: values.clone() for name, values in cond.items()})
            extra = cond["guidance"][:, None] if "guidance" in cond else 0.0
            return torch.sin(2 * x + cond["label"][:, None]) + at[:, None] + 0.1 * extra

        return student_of(raw, targets)

    label = torch.arange(32, dtype=torch.float64) % 3
    null = {"label": torch.full((1,), 5.0, dtype=torch.float64)}
    objective = ConsistencyDistillation(
        labelled("teacher", Targets.SAME), N, "euler", Squared(), None, LearnedGuidance(1.5, 4.0, null), jitter=False
    )
    student, target = labelled("student", Targets.CLEAN), labelled("target", Targets.CLEAN)
    loss = objective(student, target, Batch(data, {"label": label}), CLOCK, Dictated([noise], [u, v]))

    w = 1.5 + 2.5 * v
    t, r = levels(u)
    x_t = data + t[:, None] * noise

    def guided(x: Tensor, at: Tensor) -> Tensor:
        without, with_label = estimate(5.0, x, at), _estimate(label[:, None], 0.0, x, at)
        return without + w[:, None] * (with_label - without)

    x_r = euler(guided, x_t, t, r)
    ours = _estimate(label[:, None], 0.1 * w[:, None], x_t, t)
    answer = _estimate(label[:, None], 0.1 * w[:, None], x_r, r)
    torch.testing.assert_close(loss.per_sample, (ours - answer).square().sum(dim=1))
    for role in ("student", "target"):
        torch.testing.assert_close(given[role][0]["guidance"], w)
        torch.testing.assert_close(given[role][0]["label"], label)
    assert all("guidance" not in cond for cond in given["teacher"])


def _estimate(shift: Tensor, extra: Any, x: Tensor, t: Tensor) -> Tensor:
    """`estimate` with a shift for each sample and something added to the network's output."""
    t = t[:, None]
    c_skip, c_out = SD**2 / (t**2 + SD**2), t * SD / torch.sqrt(t**2 + SD**2)
    c_in = 1 / torch.sqrt(t**2 + SD**2)
    return c_skip * x + c_out * (torch.sin(2 * c_in * x + shift) + torch.atan(t / SD) + extra)


def test_a_teacher_of_another_path_can_be_distilled() -> None:
    """The student's states are on one path, the teacher's network is asked on its own."""
    from fewstep.core.levels import VP, Trig
    from fewstep.core.parameterisations import Epsilon, Parameterised

    data, noise, u, _ = draws()
    teacher = Parameterised(lambda x, at, to, cond: torch.tanh(x), Epsilon(VP.ddpm()))
    student = network(0.0, Targets.CLEAN)
    losses = [
        ConsistencyDistillation(teacher, N, path=path, sigma_min=0.02, sigma_max=100.0)(
            student, student, Batch(data), CLOCK, Dictated([noise], [u])
        ).per_sample
        for path in (None, Trig(), VP.ddpm())
    ]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(losses[2], losses[0], rtol=1e-6, atol=1e-9)
