"""Optimisers: AdamW for all, or Muon (Jordan et al. 2024) for the weight matrices and AdamW for the rest.

Muon replaces each matrix's momentum by its nearest orthogonal matrix, found by a Newton–Schulz iteration.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fewstep.training.calling import fast_dtype
from fewstep.training.trainable import trainable

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # the quintic's coefficients, from Jordan's post


@torch.no_grad()
def orthogonalise(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Bring the singular values of matrices [n, rows, columns] near 1, in bfloat16 arithmetic where that is fast."""
    a, b, c = _NEWTON_SCHULZ
    x = matrices.to(fast_dtype(matrices.device.type))
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    near: Tensor = (x.mT if tall else x).to(matrices.dtype)
    return near


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum, for parameters with two or more axes (a convolution is [out, in·h·w]).

    torch.optim.Muon takes only two axes and one matrix at a time; here matrices of equal shape are batched.

    Args:
        params: the matrices.
        lr: learning rate, scaled by √max(1, rows/columns) for each shape.
        momentum: Nesterov momentum.
        weight_decay: decoupled weight decay.
        graphs: whether to run the iteration as a CUDA graph on a GPU.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        graphs: bool = False,
    ) -> None:
        super().__init__(list(params), {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self._graphs = graphs
        self._recorded: dict[Any, Any] = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    by_shape.setdefault((p.shape[0], math.prod(p.shape[1:])), []).append(p)
            directions = [self._directions(parameters, shape, group) for shape, parameters in by_shape.items()]
            for ((rows, columns), parameters), updates in zip(
                by_shape.items(), self._orthogonal(directions), strict=True
            ):
                if group["weight_decay"]:
                    torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                steps = [update.reshape(p.shape) for p, update in zip(parameters, updates, strict=True)]
                torch._foreach_add_(parameters, steps, alpha=-group["lr"] * math.sqrt(max(1.0, rows / columns)))

    def _directions(self, parameters: list[Tensor], shape: tuple[int, int], group: dict[str, Any]) -> Tensor:
        """The Nesterov directions [n, rows, columns] of parameters with the same shape."""
        # one call for all: on a GPU, the optimiser of a small network is bound by kernel launches
        momenta = [self.state[p].setdefault("momentum", torch.zeros_like(p)) for p in parameters]
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        directions = torch._foreach_lerp(gradients, momenta, group["momentum"])
        return torch.stack([direction.reshape(shape) for direction in directions])

    def _orthogonal(self, directions: list[Tensor]) -> Sequence[Tensor]:
        if not self._graphs or directions[0].device.type != "cuda":
            return _each_orthogonal(*directions)
        shapes = tuple(tuple(stack.shape) for stack in directions)
        if shapes not in self._recorded:
            samples = tuple(stack.clone() for stack in directions)
            self._recorded[shapes] = torch.cuda.make_graphed_callables(_each_orthogonal, samples)
        updates: Sequence[Tensor] = self._recorded[shapes](*directions)
        return updates


def _each_orthogonal(*stacks: Tensor) -> tuple[Tensor, ...]:
    return tuple(orthogonalise(stack) for stack in stacks)


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimiser and its learning rates.

    Args:
        kind: `muon` for matrices with `adamw` for the rest, or `adamw` or `radam` for all parameters.
        lr: Learning rate of AdamW or RAdam.
        muon_lr: Learning rate of Muon.
        betas: Decay rates of the two moment estimates of AdamW or RAdam.
        weight_decay: Decoupled weight decay of all parameters.
        warmup: Steps of linear learning rate warm-up.
        decay_from: Share of training after which the learning rates fall to 0 along a half cosine; 1 for never.
    """

    kind: Literal["muon", "adamw", "radam"] = "adamw"
    lr: float = 1e-3
    muon_lr: float = 0.02
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    warmup: int = 100
    decay_from: float = 1.0

    def __post_init__(self) -> None:
        for name in ("lr", "muon_lr"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.warmup < 0 or self.weight_decay < 0 or not 0 <= self.decay_from <= 1:
            raise ValueError(
                "warmup and weight_decay must be at least 0 and decay_from between 0 and 1, "
                f"got {self.warmup}, {self.weight_decay} and {self.decay_from}"
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be at least 0 and below 1, got {self.betas[0]:g} and {self.betas[1]:g}")


def build(module: nn.Module, config: OptimizerConfig, graphs: bool = False) -> list[torch.optim.Optimizer]:
    """The optimisers for a module; each trainable parameter is in exactly one."""
    parameters = trainable(module)
    matrices = [p for name, p in parameters.items() if config.kind == "muon" and _is_hidden_matrix(name, p, module)]
    taken = {id(p) for p in matrices}
    rest = [p for p in parameters.values() if id(p) not in taken]
    optimizers: list[torch.optim.Optimizer] = []
    if matrices:
        optimizers.append(Muon(matrices, config.muon_lr, weight_decay=config.weight_decay, graphs=graphs))
    if rest:
        settings: dict[str, Any] = {"lr": config.lr, "betas": config.betas, "weight_decay": config.weight_decay}
        optimizers.append(
            torch.optim.RAdam(rest, decoupled_weight_decay=True, **settings)
            if config.kind == "radam"
            else torch.optim.AdamW(rest, **settings)
        )
    return optimizers


def _is_hidden_matrix(name: str, parameter: Tensor, module: nn.Module) -> bool:
    """Whether this is a weight matrix between hidden layers: not an embedding, nor the first or last layer, as Jordan
    advises."""
    if parameter.ndim < 2 or {"stem", "head"} & set(name.split(".")):
        return False
    owner = module.get_submodule(name.rpartition(".")[0])
    return not isinstance(owner, nn.Embedding) and name.endswith("weight")
