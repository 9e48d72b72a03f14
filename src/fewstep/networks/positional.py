"""A network whose conditions are positional arguments, as CUDA graphs and exported graphs need."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from fewstep.core.parameterisations import Network


class Positional(nn.Module):
    """A network that is called with tensors only.

    Args:
        network: the network, which is called with a dictionary of conditions.
        names: names of the conditions, in the order of the arguments.
    """

    def __init__(self, network: Network, names: Sequence[str]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, x: Tensor, time_at: Tensor, time_to: Tensor, *conditions: Tensor) -> Tensor:
        """The output of the network for x [b, …], with the conditions named by `names`."""
        output: Tensor = self.network(x, time_at, time_to, dict(zip(self.names, conditions, strict=True)))
        return output
