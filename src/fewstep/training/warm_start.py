"""Initial weights: a student's from its parent, a teacher's from an earlier teacher."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from fewstep.core.parameterisations import Parameterisation, Parameterised, Targets
from fewstep.models.finding import find
from fewstep.models.parts import to_plain
from fewstep.models.saved import SavedModel
from fewstep.networks.layout import laid_out
from fewstep.networks.registry import build, describe, load_weights
from fewstep.training.calling import AtPrecision
from fewstep.training.loop import TrainingConfig
from fewstep.training.strategy import accelerator

GUIDANCE = "embedding.guidance."
"""Prefix of the parameters that only a student with a guidance scale as input has."""


def initialise(student: nn.Module, parent: nn.Module, new: Sequence[str] = (GUIDANCE,)) -> None:
    """Initialise a student with its parent's weights.

    Args:
        student: the student, which keeps its own values only for parameters under the prefixes in `new`.
        parent: the network to copy the other parameters from.
        new: prefixes of parameters that only the student may have.

    Raises:
        ValueError: another parameter is missing on either side, or has another shape.
    """
    try:
        missing, unexpected = student.load_state_dict(parent.state_dict(), strict=False)
    except RuntimeError as error:
        raise ValueError(f"parent and student have different shapes: {error}") from None
    strangers = [name for name in missing if not name.startswith(tuple(new))] + list(unexpected)
    if strangers:
        raise ValueError(f"parent and student differ in {', '.join(strangers[:5])}")


def start_from(network: nn.Module, name: Path) -> SavedModel:
    """Load the weights of a saved teacher into a network, to train it further.

    Args:
        network: the network, all of whose weights are replaced.
        name: the teacher: built in, a directory, or on the hub.

    Returns:
        The teacher.

    Raises:
        ModelError: there is no such model, or its weights do not fit its description.
        ValueError: it is a student, or its network has another shape.
    """
    saved = find(name)
    if saved.spec.targets is not Targets.SAME:
        raise ValueError(f"start must be a teacher, but '{saved.spec.name}' is a student")
    check_shape("start", network, saved)
    load_weights(network, saved.weights)
    return saved


def check_shape(setting: str, network: nn.Module, saved: SavedModel, besides: Sequence[str] = ()) -> None:
    """Raise ValueError unless a saved model's network has the shape of this one.

    Args:
        setting: name of the setting that gave the model, for the message.
        network: the network with the expected shape.
        saved: the saved model.
        besides: settings of the network that may differ.
    """
    ours, theirs = (to_plain(description["config"]) for description in (describe(network), saved.spec.network))
    other = [
        f"{name} {theirs.get(name)} for {value}"
        for name, value in ours.items()
        if name not in besides and theirs.get(name) != value
    ]
    if other:
        raise ValueError(f"{setting} must have this recipe's network; '{saved.spec.name}' has {', '.join(other)}")


def network_of(saved: SavedModel) -> nn.Module:
    """A saved model's network with its weights, float32."""
    network = build(saved.spec.network)
    load_weights(network, saved.weights)
    return network


def frozen(
    network: nn.Module,
    parameterisation: Parameterisation,
    config: TrainingConfig,
    targets: Targets = Targets.SAME,
) -> Parameterised:
    """A trained network, frozen, on the training device.

    Args:
        network: the trained network.
        parameterisation: how its output is interpreted.
        config: settings of the training that it is used in, whose precision, graphs and memory layout it shares.
        targets: the jumps that it can make.
    """
    still = _placed(network, config).eval().requires_grad_(False)
    return _called(still, parameterisation, config, targets)


def trainable_copy(network: nn.Module, parameterisation: Parameterisation, config: TrainingConfig) -> Parameterised:
    """A trainable denoiser that starts from a network's weights; otherwise as for `frozen`."""
    second = _placed(copy.deepcopy(network), config).train().requires_grad_(True)
    return _called(second, parameterisation, config, Targets.SAME)


def _placed(network: nn.Module, config: TrainingConfig) -> nn.Module:
    return laid_out(network, config.channels_last, accelerator().device)


def _called(
    network: nn.Module, parameterisation: Parameterisation, config: TrainingConfig, targets: Targets
) -> Parameterised:
    called = AtPrecision(network, accelerator().device, config.precision, config.graphs)
    return Parameterised(called, parameterisation, targets)
