"""How training calls a network: the same numbers as one CUDA graph, and no gradient written over another."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fewstep.training.calling import AtPrecision, Graphed, Precision
from fewstep.training.loop import TrainingConfig
from fewstep.training.optimizers import Muon

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 32), nn.Linear(32, 4)

    def forward(
        self, x: torch.Tensor, time_at: torch.Tensor, time_to: torch.Tensor, cond: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        inputs = torch.cat([x, time_at[:, None], cond["scale"][:, None]], dim=1)
        out: torch.Tensor = self.last(torch.tanh(self.first(inputs)))
        return out


def inputs(device: str, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    x, at, to, scale = (torch.randn(8, *shape, generator=generator).to(device) for shape in ((4,), (), (), ()))
    return x, at, to, {"scale": scale}


def test_a_graph_and_micro_batches_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="graphs and accumulate exclude each other"):
        TrainingConfig(images=10, accumulate=2, graphs=True)
    with pytest.raises(ValueError, match="workers must be at least 0, got -1"):
        TrainingConfig(images=10, workers=-1)


def test_without_a_gpu_a_network_is_called_as_it_is() -> None:
    torch.manual_seed(0)
    network = Small()
    plain, asked = (AtPrecision(network, torch.device("cpu"), "bf16", graphs) for graphs in (False, True))
    assert torch.equal(plain(*inputs("cpu")), asked(*inputs("cpu")))


@GPU
@pytest.mark.parametrize("precision", ["bf16", "float32"])
def test_a_graph_gives_the_same_answers_and_gradients(precision: Precision) -> None:
    torch.manual_seed(0)
    network = Small().cuda()
    device = torch.device("cuda")
    plain, graphed = (AtPrecision(network, device, precision, graphs) for graphs in (False, True))
    for seed in range(3):
        answers, gradients = [], []
        for called in (plain, graphed):
            network.zero_grad(set_to_none=True)
            answer = called(*inputs("cuda", seed))
            answer.square().sum().backward()
            answers.append(answer.detach().clone())
            gradients.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
        assert torch.equal(*answers)
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(*gradients, strict=True))


@GPU
def test_a_graph_sees_changed_weights_and_keeps_earlier_answers() -> None:
    network = Small().cuda()
    called = AtPrecision(network, torch.device("cuda"), "float32", graphs=True)
    with torch.no_grad():
        before = called(*inputs("cuda"))
        kept = before.clone()
        for p in network.parameters():
            p.add_(0.1)
        after = called(*inputs("cuda"))
    assert torch.equal(before, kept)
    assert not torch.equal(before, after)
    assert torch.equal(after, network(*inputs("cuda")))
    assert isinstance(called.network, Graphed)


@GPU
def test_muon_as_a_graph_takes_the_same_steps() -> None:
    torch.manual_seed(0)
    shapes = ((8, 4), (8, 4), (16, 8), (4, 8, 3, 3))
    starts = [torch.randn(shape, device="cuda") for shape in shapes]
    ends = []
    for graphs in (False, True):
        parameters = [nn.Parameter(start.clone()) for start in starts]
        optimizer = Muon(parameters, graphs=graphs)
        for step in range(3):
            torch.manual_seed(step)
            for p in parameters:
                p.grad = torch.randn_like(p)
            optimizer.step()
        ends.append([p.detach() for p in parameters])
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(*ends, strict=True))
