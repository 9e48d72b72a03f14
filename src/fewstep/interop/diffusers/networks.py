"""A diffusers network as fewstep's `Network`, and with its scheduler's table as an `Estimator`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fewstep.core.arrays import Array, Condition
from fewstep.core.parameterisations import Parameterised, Targets
from fewstep.interop.diffusers.families import FAMILIES, Family
from fewstep.interop.diffusers.timesteps import Timetable
from fewstep.models.parts import ModelError


def estimator(
    network: nn.Module, timetable: Timetable, targets: Targets | None = None, clip: bool = True
) -> Parameterised:
    """A diffusers network as an estimator, for every sampler, objective and edit.

    Its conditions are named arrays with the batch first (`fewstep.interop.diffusers.families` lists them), its data
    what the network was trained on: latents scaled and shifted, or pixels in [-1, 1].

    Args:
        network: of a class in `FAMILIES`; its mode and parameters are left as they are.
        timetable: of the scheduler that the network was trained with.
        targets: to which level the network was trained to jump. By default any for networks with a second time, else
            what the scheduler is for: clean for LCM and SCM, any for TCD, the same level for all others.
        clip: whether to clip estimates where the scheduler clips them. Turn it off to train.

    Raises:
        ModelError: the network's class or kind is not supported.
    """
    wrapped = DiffusersNetwork(network)
    config: Any = network.config
    if targets is None:
        targets = Targets.ANY if wrapped.family.flow_map(config) else timetable.targets
    scale = wrapped.family.time_scale(config, timetable)
    return Parameterised(wrapped, timetable.parameterisation(scale, clip), targets)


def family_of(network: nn.Module) -> Family:
    """The family of a diffusers network.

    Raises:
        ModelError: its class is not supported, or it takes more channels than its data have.
    """
    name = type(network).__name__
    if name not in FAMILIES:
        raise ModelError(f"the network {name} is not supported: use one of {', '.join(sorted(FAMILIES))}")
    config: Any = network.config
    taken, given = config.in_channels, config.get("out_channels") or config.in_channels
    if taken > given:
        raise ModelError(
            f"this {name} takes {taken} channels and gives {given}: it wants an image beside the noise (inpainting, "
            "editing), which is not supported"
        )
    FAMILIES[name].needs(config)  # which refuses what it does not know
    return FAMILIES[name]


class DiffusersNetwork(nn.Module):
    """A diffusers network as fewstep's `Network`: called with x [b, c, h, w], times [b] and named conditions.

    Tensors stay in their graph; NumPy arrays are taken and given too, without a graph. x and conditions are cast to
    the network's own precision and the output back to x's.

    Args:
        network: the diffusers module, whose mode and parameters are left as they are.

    Raises:
        ModelError: its class or kind is not supported.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.family = family_of(network)
        self.training = network.training

    def forward(self, x: Array, time_at: Array, time_to: Array, cond: Condition) -> Any:
        """The network's prediction, of x's shape.

        Raises:
            ValueError: a condition is missing, or one is given that this network does not take.
        """
        if not isinstance(x, np.ndarray):
            return self._call(x, (time_at, time_to), cond)
        with torch.no_grad():
            tensors = [torch.from_numpy(np.array(values)) for values in (x, time_at, time_to)]
            output = self._call(tensors[0], (tensors[1], tensors[2]), cond)
        return output.cpu().numpy().astype(x.dtype)

    def _call(self, x: Any, times: Any, cond: Condition) -> Tensor:
        self._check(cond)
        parameter = next(self.network.parameters())
        named = {name: self._tensor(values, parameter) for name, values in cond.items() if name != "dropout"}
        at, to = (time.to(parameter.device, torch.float32) for time in times)
        inner = x.to(parameter.device, parameter.dtype)
        output = self.family.call(self.network, inner, (at, to), named)
        kept: Tensor = output[:, : x.shape[1]].to(x.device, x.dtype)  # a learned variance comes after the prediction
        return kept

    def _tensor(self, values: Any, parameter: Tensor) -> Tensor:
        tensor = torch.from_numpy(np.array(values)) if isinstance(values, np.ndarray) else values
        dtype = parameter.dtype if tensor.is_floating_point() else tensor.dtype
        moved: Tensor = tensor.to(parameter.device, dtype)
        return moved

    def _check(self, cond: Condition) -> None:
        config: Any = self.network.config
        name, needs = type(self.network).__name__, self.family.needs(config)
        if missing := [condition for condition in needs if condition not in cond]:
            raise ValueError(f"a {name} needs the condition {', '.join(missing)}, got {', '.join(cond) or 'none'}")
        if extra := sorted(set(cond) - {*needs, *self.family.takes, "dropout"}):
            takes = ", ".join((*needs, *self.family.takes)) or "none"
            raise ValueError(f"this {name} does not take the condition {', '.join(extra)}: it takes {takes}")
        if "dropout" in cond and self.network.training and any(_drops(part) for part in self.network.modules()):
            raise ValueError(
                f"this {name} drops activations by torch's own masks, which branches cannot share: eval()"
            )


def _drops(module: nn.Module) -> bool:
    return isinstance(module, nn.Dropout) and module.p > 0
