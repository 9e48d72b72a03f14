"""Training's random numbers: functions of (seed, step), divided among processes."""

from __future__ import annotations

import pytest
import torch

from fewstep.training.step_rng import StepRng
from students import CPU


@pytest.mark.parametrize("draw", ["normal", "uniform"])
@pytest.mark.parametrize("world", [1, 2, 4])
def test_processes_share_out_the_numbers_of_the_whole_batch(draw: str, world: int) -> None:
    whole = getattr(StepRng(5, 9, CPU), draw)((8, 3))
    parts = [getattr(StepRng(5, 9, CPU, rank, world), draw)((8 // world, 3)) for rank in range(world)]
    assert torch.equal(torch.cat(parts), whole)


def test_processes_stay_in_step_over_several_draws() -> None:
    whole, parts = StepRng(5, 9, CPU), [StepRng(5, 9, CPU, rank, 2) for rank in range(2)]
    for shape in ((4,), (4, 2, 2), (4,)):
        expected = whole.normal(shape), whole.uniform(shape)
        half = (shape[0] // 2, *shape[1:])
        drawn = [(part.normal(half), part.uniform(half)) for part in parts]
        for k in range(2):
            assert torch.equal(torch.cat([numbers[k] for numbers in drawn]), expected[k])


def test_numbers_depend_on_seed_and_step_and_on_nothing_else() -> None:
    torch.manual_seed(1)
    first = StepRng(5, 9, CPU).normal((4,))
    torch.manual_seed(2)
    assert torch.equal(StepRng(5, 9, CPU).normal((4,)), first)
    assert not torch.equal(StepRng(6, 9, CPU).normal((4,)), first)
    assert not torch.equal(StepRng(5, 10, CPU).normal((4,)), first)
    rng = StepRng(5, 9, CPU)
    assert not torch.equal(rng.normal((4,)), rng.normal((4,)))


def test_the_numbers_have_their_distributions() -> None:
    rng = StepRng(0, 0, CPU)
    normal, uniform = rng.normal((20_000,)), rng.uniform((20_000,))
    assert normal.dtype == uniform.dtype == torch.float32
    assert abs(float(normal.mean())) < 0.03
    assert abs(float(normal.std()) - 1) < 0.03
    assert 0 <= float(uniform.min()) < 0.001
    assert 0.999 < float(uniform.max()) < 1
    assert abs(float(uniform.mean()) - 0.5) < 0.01
