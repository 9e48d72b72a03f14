"""Consistency distillation from a diffusion model (2303.01469 alg. 2).

x_t = data + t·noise; x̂_r is one step of the teacher's solver to the next lower level r of a grid; the loss is
λ(t, r)·d(f_θ(x_t, t), sg f_θ⁻(x̂_r, r)). Guidance folds into the teacher, and its scale becomes an input of the
student (2210.03142 §3, 2310.04378 §4.2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from fewstep.core.arrays import Array, batch_of, like
from fewstep.core.checks import check_above_0, check_at_least, check_choice, check_decay
from fewstep.core.grids import check_range, karras
from fewstep.core.jump import StepVariable, euler_step, heun_step
from fewstep.core.levels import CLEAN, Path, from_ratio
from fewstep.core.parameterisations import Estimator, Targets
from fewstep.objectives.curricula import Clock
from fewstep.objectives.distances import Distance, PseudoHuber, inverse_gap
from fewstep.objectives.learned_guidance import LearnedGuidance, drawn, taught
from fewstep.objectives.objective import Batch, Loss, Objective, check_jumps, mean_loss, noised, on_path, with_dropout
from fewstep.objectives.times import Rng, choose, uniform_weights


@dataclass(frozen=True)
class ConsistencyDistillation(Objective):
    """The student learns to give the same estimate along each of the teacher's trajectories.

    Args:
        teacher: the frozen denoiser.
        levels: N, the grid's levels above clean: 18 at 32², 40 at 64² in the paper.
        solver: the teacher's step; `heun` costs two evaluations, `euler` one.
        distance: d.
        weight: λ of the levels t and r [b]. iCT's 1/(t − r) (2310.14189) gives more weight to low levels, where
            estimates differ little and from where errors propagate up the grid, but is 0 at pure noise; None is 1, as
            in the first paper.
        guidance: the teacher's guidance, whose scale becomes an input of the student; None for none.
        decay: decay of the moving average that is the target; None for the student itself (2310.14189).
        jitter: whether t falls anywhere on the grid, uniformly in the grid's spacing, with r one level below, so that
            the student also learns levels between those of the grid, which sampling may visit; else both are levels
            of the grid, as in the paper.
        grid: σ/α of another grid in rising order, its lowest first, which the student meets as it is (2310.04378's
            timesteps of the teacher); None for the Karras grid of the following three.
        sigma_min, sigma_max, rho: the Karras grid; below sigma_min the grid ends at the boundary ε of the student, or
            at clean if it has none.
        path: the noise path, which sets the scale of x; None is VE.
        dropout: whether to drop activations, with one mask for both branches.
        variable: what Heun's step integrates over: the paper's is `ratio`, σ/α; `angle` also starts at pure noise.
    """

    teacher: Estimator
    levels: int = 18
    solver: Literal["heun", "euler"] = "heun"
    distance: Distance = field(default_factory=PseudoHuber)
    weight: Callable[[Array, Array], Array] | None = inverse_gap
    guidance: LearnedGuidance | None = None
    decay: float | None = None
    jitter: bool = True
    grid: tuple[float, ...] | None = None
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    path: Path | None = None
    dropout: bool = False
    variable: StepVariable = "angle"
    targets: Targets = Targets.CLEAN

    def __post_init__(self) -> None:
        check_jumps("teacher", self.teacher, Targets.SAME)
        check_at_least(2, levels=self.levels)
        check_choice("solver", self.solver, "heun", "euler")
        check_choice("variable", self.variable, "angle", "ratio")
        check_decay(self.decay)
        check_range(self.sigma_min, self.sigma_max)
        check_above_0(rho=self.rho)
        if self.grid is not None and not (len(self.grid) > 1 and self.grid[0] >= 0 and _rises(self.grid)):
            raise ValueError(f"grid must have at least two σ/α in rising order, got {self.grid}")

    def target_decay(self, clock: Clock) -> float | None:
        return self.decay

    def ratios(self, epsilon: float) -> Tensor:
        """The grid's σ/α in ascending order: clean (or the boundary ε), then sigma_min … sigma_max; or `grid`."""
        if self.grid is not None:
            return torch.tensor(self.grid, dtype=torch.float64)
        grid = torch.tensor(karras(self.levels, self.sigma_min, self.sigma_max, self.rho).ratio).flip(0)
        return grid if epsilon == 0 else torch.cat([grid.new_tensor([epsilon]), grid[grid > epsilon * 1.0001]])

    def pairs(self, grid: Tensor, rng: Rng, size: int) -> tuple[Tensor, Tensor]:
        """σ/α of t and r [size], r one level of the grid below t."""
        u, above = rng.uniform((size,)), len(grid) - 1
        if not self.jitter:
            interval = choose(uniform_weights(grid), u)
            return grid[interval + 1], grid[interval]
        place = torch.clip(above * u.to(grid.dtype) + 0.5, 1, above)
        return self._at(grid, place), self._at(grid, place - 1)

    def _at(self, grid: Tensor, place: Tensor) -> Tensor:
        """The grid's values at fractional indices: interpolated in the grid's spacing, linearly below its lowest."""
        level = place.floor().clip(max=len(grid) - 2).long()
        warped, share = grid ** (1 / self.rho), place - level
        spaced = torch.lerp(warped[level], warped[level + 1], share) ** self.rho
        return torch.where(level == 0, torch.lerp(grid[0], grid[1], place), spaced)

    def __call__(self, student: Estimator, target: Estimator, batch: Batch, clock: Clock, rng: Rng) -> Loss:
        size = batch.data.shape[0]
        ratio_t, ratio_r = self.pairs(like(self.ratios(student.epsilon), batch.data), rng, size)
        x_t, t, _ = noised(batch.data, ratio_t, rng, self.path)
        r = on_path(from_ratio(ratio_r), self.path)
        cond = drawn(self.guidance, batch.cond, rng, size)
        student_cond = with_dropout(cond, rng, size) if self.dropout else cond
        with torch.no_grad():
            step = partial(heun_step, variable=self.variable) if self.solver == "heun" else euler_step
            x_r, _ = step(taught(self.guidance, self.teacher, cond), x_t, t, r, cond)
            answer = target(x_r, r, CLEAN.like(t.sigma).batch(size), student_cond)
        estimate = student(x_t, t, CLEAN.like(t.sigma).batch(size), student_cond)
        per_sample = self.distance(estimate, answer)
        if self.weight is not None:
            per_sample = per_sample * batch_of(self.weight(t.ratio, r.ratio), per_sample)
        return mean_loss(per_sample, t)


def _rises(values: Sequence[float]) -> bool:
    return all(low < high for low, high in pairwise(values))
