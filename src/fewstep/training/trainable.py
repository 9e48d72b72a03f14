"""The trainable parameters of a network. Optimiser, moving average, gradient norm and checkpoint cover only these, so
that an adapter on a large frozen network costs each of them no more than the adapter's own size."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def trainable(network: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of a network that require gradients, by name; shared ones occur once."""
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}


def frozen(network: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that do not require gradients, by each of their names."""
    named = network.named_parameters(remove_duplicate=False)
    return {name: parameter for name, parameter in named if not parameter.requires_grad}


def sharing_copy(network: nn.Module) -> nn.Module:
    """A copy of a network with its own trainable parameters and buffers and the same frozen parameters."""
    shared: dict[int, Any] = {id(parameter): parameter for parameter in frozen(network).values()}
    duplicate: nn.Module = copy.deepcopy(network, shared)
    return duplicate


def fingerprint(network: nn.Module) -> str | None:
    """The SHA-256 of a network's frozen parameters, with their names; None if there are none."""
    parameters = frozen(network)
    if not parameters:
        return None
    digest = hashlib.sha256()
    for name in sorted(parameters):
        values = parameters[name].detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


class LearnedState:
    """The state of a network in a checkpoint: its state dict without its frozen parameters.

    Args:
        network: the network whose state is saved and loaded.
        frozen: names of the parameters that are left out.
    """

    def __init__(self, network: nn.Module, frozen: Mapping[str, Any]) -> None:
        self._network, self._frozen = network, frozenset(frozen)

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors of the state by name; not copies."""
        return {name: values for name, values in self._network.state_dict().items() if name not in self._frozen}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load a state returned by `state_dict`.

        Raises:
            RuntimeError: it is the state of another network.
        """
        missing, unexpected = self._network.load_state_dict(state, strict=False)
        wrong = [*unexpected, *(set(missing) - self._frozen), *(self._frozen & set(state))]
        if wrong:
            raise RuntimeError(f"the state does not fit the network: {', '.join(sorted(wrong)[:5])}")
