"""A network whose conditions are positional arguments, as recorded CUDA graphs and exported graphs are called."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from fewstep.core.parameterisations import Network


class Positional(nn.Module):
    """A network called with tensors alone.

    Args:
        network: called with a dictionary of conditions.
        names: of the conditions, in the order in which they are given here.
    """

    def __init__(self, network: Network, names: Sequence[str]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, x: Tensor, time_at: Tensor, time_to: Tensor, *conditions: Tensor) -> Tensor:
        """What the network says of x [b, …], with `conditions` under `names`."""
        output: Tensor = self.network(x, time_at, time_to, dict(zip(self.names, conditions, strict=True)))
        return output
