"""How a raw network's output becomes an estimate of the data: the only place that knows what a network
predicts, which scale of x it wants and which time.

Every parameterisation rescales x to the network's own path, so a network serves levels of any path.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, Protocol

from fewstep.core.arrays import Array, ArrayT, Condition, batch_of, divide, namespace, per_sample, reciprocal
from fewstep.core.checks import check_above_0
from fewstep.core.levels import VP, Level, Linear, place


class Network(Protocol):
    """The raw network, which an engine runs: times are per sample, conditions are named arrays."""

    def __call__(self, x: ArrayT, time_at: ArrayT, time_to: ArrayT, cond: Condition) -> ArrayT:
        """Map x [b, c, ...] and times [b] to an output of x's shape."""
        ...


class Targets(Enum):
    """To which level an estimator can jump."""

    SAME = "same"
    """to = at: a denoiser."""
    CLEAN = "clean"
    """to = clean: a consistency function."""
    ANY = "any"
    """Any cleaner level: a flow map."""


class Estimator(Protocol):
    """What samplers, editing and teachers speak: the average data estimate on the way from `at` to `to`."""

    @property
    def targets(self) -> Targets: ...

    @property
    def epsilon(self) -> float:
        """The σ/α at which the estimate is pinned to x/α; 0 where nothing is pinned."""
        ...

    def __call__(self, x: ArrayT, at: Level, to: Level, cond: Condition) -> ArrayT:
        """Estimate the data, of x's shape [b, c, ...], from x at levels `at` [b] with the jump's end `to`."""
        ...


@dataclass(frozen=True)
class EstimatorWrapper:
    """What guidance, constraints and fits are made of: an estimator around another one, of its targets and epsilon.

    Args:
        estimator: the one inside.
    """

    estimator: Estimator

    @property
    def targets(self) -> Targets:
        return self.estimator.targets

    @property
    def epsilon(self) -> float:
        return self.estimator.epsilon


class UnsupportedTarget(ValueError):
    """A sampler asked for a jump that the model was not trained for."""


def require_targets(estimator: Estimator, needed: Targets, sampler: str) -> None:
    """Raise `UnsupportedTarget` unless `estimator` can make the jumps that `sampler` needs."""
    have = estimator.targets
    if have is not needed and have is not Targets.ANY:
        raise UnsupportedTarget(
            f"the sampler '{sampler}' needs a model whose targets are '{needed.value}', "
            f"this model's targets are '{have.value}'"
        )


class Parameterisation(Protocol):
    """From levels to a network's inputs, and from its output to a data estimate, and back."""

    @property
    def epsilon(self) -> float: ...

    def inputs(self, x: ArrayT, at: Level, to: Level) -> tuple[ArrayT, ArrayT, ArrayT]:
        """The rescaled x and the times [b] of both levels, as the network wants them."""
        ...

    def estimate(self, x: ArrayT, output: ArrayT, at: Level) -> ArrayT:
        """The data estimate that this output stands for."""
        ...

    def output(self, x: ArrayT, data: ArrayT, at: Level) -> ArrayT:
        """The output that stands for this data estimate: the inverse of `estimate` where σ > 0."""
        ...


@dataclass(frozen=True)
class Parameterised:
    """An `Estimator`: a parameterisation around a raw network."""

    network: Network
    parameterisation: Parameterisation
    targets: Targets = Targets.SAME

    @property
    def epsilon(self) -> float:
        return self.parameterisation.epsilon

    def __call__(self, x: ArrayT, at: Level, to: Level, cond: Condition) -> ArrayT:
        scaled, time_at, time_to = self.parameterisation.inputs(x, at, to)
        return self.parameterisation.estimate(x, self.network(scaled, time_at, time_to, cond), at)


EdmTime = Literal["angle", "quarter_log", "thousand_quarter_log"]


@dataclass(frozen=True)
class Edm:
    """EDM's preconditioning (2206.00364 table 1) on every path, with s² = α²σd² + σ²:

        D = c_skip·x + c_out·F(x/s, time)    c_skip = α·σd²/s²    c_out = σ·σd/s

    On trig it is TrigFlow with F → −F. With `epsilon` > 0 the consistency boundary (2303.01469 app. C),
    c_skip = α·σd²/((σ − αε)² + α²σd²) and c_out = (σ − αε)·σd/s, so that D = x/α at σ/α = ε.

    Args:
        sigma_data: the data's standard deviation σd.
        epsilon: the boundary's σ/α, or 0 for none.
        time: `angle` is atan2(σ, σd·α), finite everywhere; `quarter_log` ¼·ln(σ/α) (EDM) and
            `thousand_quarter_log` 250·ln(σ/α + 1e-44) (OpenAI's consistency models) are for imported
            networks, clamped to the finite range of float32.
    """

    sigma_data: float = 0.5
    epsilon: float = 0.0
    time: EdmTime = "angle"

    def __post_init__(self) -> None:
        if not 0 < self.sigma_data < float("inf"):
            raise ValueError(f"sigma_data must be above 0 and finite, got {self.sigma_data}")
        if not 0 <= self.epsilon < float("inf"):
            raise ValueError(f"epsilon must be at least 0 and finite, got {self.epsilon}")

    def inputs(self, x: ArrayT, at: Level, to: Level) -> tuple[ArrayT, ArrayT, ArrayT]:
        scaled = x * per_sample(1 / at.magnitude(self.sigma_data), x)
        return scaled, batch_of(self._time(at), x), batch_of(self._time(to), x)

    def _time(self, level: Level) -> Array:
        if self.time == "angle":
            return level.angle(self.sigma_data)
        xp = namespace(level.sigma)
        factor = 0.25 if self.time == "quarter_log" else 250.0
        return factor * xp.log(xp.clip(level.ratio, 1e-44, 1e38))

    def _coefficients(self, at: Level) -> tuple[Array, Array]:
        xp = namespace(at.sigma)
        above = at.sigma - at.alpha * self.epsilon
        above = xp.clip(above, 0.0, float("inf")) if self.epsilon else above
        skip = at.alpha * self.sigma_data**2 / (above**2 + at.alpha**2 * self.sigma_data**2)
        return skip, above * self.sigma_data / at.magnitude(self.sigma_data)

    def estimate(self, x: ArrayT, output: ArrayT, at: Level) -> ArrayT:
        skip, out = self._coefficients(at)
        return per_sample(skip, x) * x + per_sample(out, x) * output

    def output(self, x: ArrayT, data: ArrayT, at: Level) -> ArrayT:
        skip, out = self._coefficients(at)
        return per_sample(reciprocal(out), x) * (data - per_sample(skip, x) * x)


@dataclass(frozen=True)
class Epsilon:
    """A network that predicts the noise on a VP path (2006.11239): D = (x − σ·F)/α at its own scale.

    A level noisier than the table's last is taken as the table's last, so α never reaches 0.
    """

    path: VP = field(default_factory=VP.scaled_linear)
    epsilon: float = 0.0

    def inputs(self, x: ArrayT, at: Level, to: Level) -> tuple[ArrayT, ArrayT, ArrayT]:
        return _vp_inputs(self.path, x, at, to)

    def estimate(self, x: ArrayT, output: ArrayT, at: Level) -> ArrayT:
        native, scale = _native(self.path, at)
        scaled = per_sample(scale, x) * x
        return (scaled - per_sample(native.sigma, x) * output) / per_sample(native.alpha, x)

    def output(self, x: ArrayT, data: ArrayT, at: Level) -> ArrayT:
        native, scale = _native(self.path, at)
        residual = per_sample(scale, x) * x - per_sample(native.alpha, x) * data
        return residual * per_sample(reciprocal(native.sigma), x)


@dataclass(frozen=True)
class V:
    """A network that predicts v = α·noise − σ·data on a VP path (2202.00512): D = α·x − σ·F."""

    path: VP = field(default_factory=VP.scaled_linear)
    epsilon: float = 0.0

    def inputs(self, x: ArrayT, at: Level, to: Level) -> tuple[ArrayT, ArrayT, ArrayT]:
        return _vp_inputs(self.path, x, at, to)

    def estimate(self, x: ArrayT, output: ArrayT, at: Level) -> ArrayT:
        native, scale = _native(self.path, at)
        return per_sample(native.alpha * scale, x) * x - per_sample(native.sigma, x) * output

    def output(self, x: ArrayT, data: ArrayT, at: Level) -> ArrayT:
        native, scale = _native(self.path, at)
        residual = per_sample(native.alpha * scale, x) * x - data
        return residual * per_sample(reciprocal(native.sigma), x)


@dataclass(frozen=True)
class Data:
    """A network that predicts the data on a VP path (x0, `sample` in diffusers): D = F where there is noise."""

    path: VP = field(default_factory=VP.scaled_linear)
    epsilon: float = 0.0

    def inputs(self, x: ArrayT, at: Level, to: Level) -> tuple[ArrayT, ArrayT, ArrayT]:
        return _vp_inputs(self.path, x, at, to)

    def estimate(self, x: ArrayT, output: ArrayT, at: Level) -> ArrayT:
        noisy = per_sample(at.sigma, x) > 0
        return namespace(x).where(noisy, output, per_sample(reciprocal(at.alpha), x) * x)

    def output(self, x: ArrayT, data: ArrayT, at: Level) -> ArrayT:
        return data


@dataclass(frozen=True)
class Velocity:
    """A network that predicts v = noise − data on the linear path (2210.02747): D = x − t·F.

    Args:
        time_scale: what the network multiplies t with (1 000 in many flow models).
    """

    time_scale: float = 1.0
    epsilon: float = 0.0

    def inputs(self, x: ArrayT, at: Level, to: Level) -> tuple[ArrayT, ArrayT, ArrayT]:
        linear = Linear()
        scaled = x * per_sample(1 / (at.alpha + at.sigma), x)
        time_at, time_to = (batch_of(self.time_scale * linear.time(level), x) for level in (at, to))
        return scaled, time_at, time_to

    def estimate(self, x: ArrayT, output: ArrayT, at: Level) -> ArrayT:
        total = at.alpha + at.sigma
        return x * per_sample(1 / total, x) - per_sample(at.sigma / total, x) * output

    def output(self, x: ArrayT, data: ArrayT, at: Level) -> ArrayT:
        total = at.alpha + at.sigma
        residual = x * per_sample(1 / total, x) - data
        return residual * per_sample(divide(total, at.sigma), x)


@dataclass(frozen=True)
class Clipped:
    """Another parameterisation whose estimates are clipped to [−bound, bound], as samplers of pixels often do.

    `output` inverts `estimate` for data within the bound.

    Args:
        parameterisation: of the network.
        bound: of each number of the data.
    """

    parameterisation: Parameterisation
    bound: float = 1.0

    def __post_init__(self) -> None:
        if not hasattr(self.parameterisation, "estimate"):
            raise ValueError(f"parameterisation must be a part of that kind, got {self.parameterisation!r}")
        if not 0 < self.bound < float("inf"):
            raise ValueError(f"bound must be above 0 and finite, got {self.bound}")

    @property
    def epsilon(self) -> float:
        return self.parameterisation.epsilon

    def inputs(self, x: ArrayT, at: Level, to: Level) -> tuple[ArrayT, ArrayT, ArrayT]:
        return self.parameterisation.inputs(x, at, to)

    def estimate(self, x: ArrayT, output: ArrayT, at: Level) -> ArrayT:
        estimate = self.parameterisation.estimate(x, output, at)
        return namespace(estimate).clip(estimate, -self.bound, self.bound)

    def output(self, x: ArrayT, data: ArrayT, at: Level) -> ArrayT:
        return self.parameterisation.output(x, data, at)


@dataclass(frozen=True)
class Lcm:
    """Another parameterisation with the boundary of latent consistency models (2310.04378 §4.1), t its own timestep:

        D = c_skip·x + c_out·D'    c_skip = σd²/((s·t)² + σd²)    c_out = s·t/√((s·t)² + σd²)

    c_out has no factor σd, as the released weights were trained. At t = 0 the estimate is x on the network's path,
    noise and all, so no σ/α is pinned.

    Args:
        parameterisation: of the network, on a VP path.
        sigma_data: σd.
        timestep_scaling: s.
    """

    parameterisation: Parameterisation
    sigma_data: float = 0.5
    timestep_scaling: float = 10.0

    def __post_init__(self) -> None:
        if not hasattr(self.parameterisation, "estimate"):
            raise ValueError(f"parameterisation must be a part of that kind, got {self.parameterisation!r}")
        check_above_0(sigma_data=self.sigma_data, timestep_scaling=self.timestep_scaling)

    @property
    def epsilon(self) -> float:
        return 0.0

    def inputs(self, x: ArrayT, at: Level, to: Level) -> tuple[ArrayT, ArrayT, ArrayT]:
        return self.parameterisation.inputs(x, at, to)

    def estimate(self, x: ArrayT, output: ArrayT, at: Level) -> ArrayT:
        skipped, out = self._boundary(x, at)
        return skipped + per_sample(out, x) * self.parameterisation.estimate(x, output, at)

    def output(self, x: ArrayT, data: ArrayT, at: Level) -> ArrayT:
        skipped, out = self._boundary(x, at)
        return self.parameterisation.output(x, per_sample(reciprocal(out), x) * (data - skipped), at)

    def _boundary(self, x: ArrayT, at: Level) -> tuple[ArrayT, ArrayT]:
        """c_skip·x on the network's path [b, ...], and c_out [b]."""
        native, time, _ = self.parameterisation.inputs(x, at, at)
        scaled = self.timestep_scaling * time
        square = scaled**2 + self.sigma_data**2
        return per_sample(self.sigma_data**2 / square, x) * native, scaled / namespace(square).sqrt(square)


def _native(path: VP, level: Level) -> tuple[Level, Array]:
    """The level on the network's own path and the factor that brings x there.

    Between the path's ends the factor is the ratio of scales; beyond the noisy end, where x holds less data
    than the table's last level, the noise is matched.
    """
    xp = namespace(level.sigma)
    native = place(level, path)
    exact = native.magnitude() / level.magnitude()
    matched = divide(native.sigma, level.sigma)
    beyond = level.sigma * native.alpha > native.sigma * level.alpha * (1 + 1e-9)
    return native, xp.where(beyond, matched, exact)


def _vp_inputs(path: VP, x: ArrayT, at: Level, to: Level) -> tuple[ArrayT, ArrayT, ArrayT]:
    _, scale = _native(path, at)
    return x * per_sample(scale, x), batch_of(path.time(at), x), batch_of(path.time(to), x)
