"""What flow-map objectives share. All use the linear path, x = (1 − t)·data + t·noise, where the average
velocity from t to r is u = (x − D(x, t, r))/t and the jump x_r = x − (t − r)·u."""

from __future__ import annotations

from torch import Tensor

from fewstep.core.arrays import Condition, per_sample, reciprocal
from fewstep.core.levels import Linear
from fewstep.core.parameterisations import Estimator
from fewstep.objectives.derivatives import Derivative, Direction

LINEAR = Linear()


def velocity(x: Tensor, t: Tensor, estimate: Tensor) -> Tensor:
    """(x − D)/t: at r = t the velocity of the flow, else its average from t to r; 0 where t = 0."""
    return per_sample(reciprocal(t), x) * (x - estimate)


def velocity_along(
    derivative: Derivative, target: Estimator, x: Tensor, t: Tensor, r: Tensor, cond: Condition, along: Direction
) -> tuple[Tensor, Tensor]:
    """The target's average velocity u from t to r, and its derivative in a direction: du = (dx − dD − u·dt)/t."""
    estimate, rate = derivative(target, LINEAR, x, t, r, cond, along)
    u = velocity(x, t, estimate)
    return u, velocity(along.x - along.at * u, t, rate)


def adaptive(per_sample_loss: Tensor, power: float, floor: float) -> Tensor:
    """ℓ/sg(ℓ + floor)^power (2505.13447 §4.3): between the squared distance (power 0) and its logarithm (power 1)."""
    return per_sample_loss / (per_sample_loss.detach() + floor) ** power


def normalised(tangent: Tensor, floor: float | None) -> Tensor:
    """g/(‖g‖ + floor), the norm being a sample's root mean square (2410.11081 §4.1); g itself if floor is None."""
    if floor is None:
        return tangent
    norm = tangent.flatten(1).square().mean(dim=1).sqrt()
    return tangent * per_sample(1 / (norm + floor), tangent)
