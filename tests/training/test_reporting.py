"""What a run tells while it trains: losses by noise level as numbers and as a picture, over resumes and at the end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fewstep.core.levels import from_ratio
from fewstep.core.parameterisations import Edm
from fewstep.objectives import Diffusion, Loss, Objective
from fewstep.training import reporting
from fewstep.training.charts import loss_chart
from fewstep.training.loop import TrainingDiverged, train
from fewstep.training.reporting import LEVELS, loss_by_level
from training_runs import CONFIG, Breaks, Rows, curve, small_mlp

STEPS = list(range(50, 1050, 50))


def test_losses_are_averaged_by_noise_level_over_the_steps_of_a_report() -> None:
    def loss(ratios: list[float], values: list[float]) -> Loss:
        return Loss(
            torch.tensor(values).mean(), torch.tensor(values), from_ratio(torch.tensor(ratios, dtype=torch.float64))
        )

    told = loss_by_level([loss([0.05, 2.0], [1.0, 4.0]), loss([0.06, 1e9, 0.0], [3.0, 7.0, 5.0])])
    assert told == {
        "loss_by_level/0-0.03": 5.0,
        "loss_by_level/0.03-0.1": 2.0,
        "loss_by_level/1-3": 4.0,
        "loss_by_level/30-inf": 7.0,
    }
    wrong = loss([0.05, 0.05, 2.0], [1.0, math.nan, 4.0])
    assert loss_by_level([wrong]) == {"loss_by_level/0.03-0.1": math.inf, "loss_by_level/1-3": 4.0}


def _train(out: Path, objective: Objective | None = None, **settings: Any) -> None:
    config = replace(CONFIG, **{"images": 40, "log_every": 1, "preview_every": 5, **settings})
    train(small_mlp(), Edm(), objective or Diffusion(), Rows((2,)), config, out)


@pytest.fixture
def charts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[int], np.ndarray]]:
    """What charts were drawn of: steps, and losses [steps, levels]."""
    drawn: list[tuple[list[int], np.ndarray]] = []

    def chart(edges: Sequence[float], steps: Sequence[int], losses: Any) -> Image.Image:
        drawn.append((list(steps), np.asarray(losses)))
        return Image.new("RGB", (4, 4))

    monkeypatch.setattr(reporting, "loss_chart", chart)
    return drawn


def test_losses_by_level_are_drawn_with_the_previews(tmp_path: Path) -> None:
    _train(tmp_path)
    names = sorted(file.name for file in (tmp_path / "previews").iterdir())
    assert names == ["loss_by_level-00000005.png", "loss_by_level-00000010.png"]
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Images("loss_by_level")] == [5, 10]


def test_a_run_that_goes_on_draws_what_came_before_too(tmp_path: Path, charts: list[Any]) -> None:
    with pytest.raises(TrainingDiverged):
        _train(tmp_path, Breaks(at=6), checkpoint_every=4)
    _train(tmp_path, Breaks(at=-1), checkpoint_every=4, log_every=3)
    steps, losses = charts[-1]
    assert steps == [1, 2, 3, 4, 6, 9, 10]  # those of 5 and 6 after the checkpoint were taken back
    by_hand = [curve(tmp_path, f"loss_by_level/{name}") for name in ("0.3-1", "1-3", "3-10")]
    np.testing.assert_allclose(losses[:, [3, 4, 5]].T, by_hand, rtol=1e-6)


def test_a_divergence_is_drawn_with_the_level_at_which_it_began(tmp_path: Path, charts: list[Any]) -> None:
    with pytest.raises(TrainingDiverged):
        _train(tmp_path, Breaks(at=6), log_every=4)  # steps 0 to 3 are reported, 4 to 6 are not
    steps, losses = charts[-1]
    assert steps == [4, 7]
    assert np.isfinite(losses[0, [3, 4, 5]]).all()
    assert [LEVELS[i] for i in np.flatnonzero(np.isinf(losses[1]))] == [3.0]  # the sample at 3.25
    assert (tmp_path / "previews" / "loss_by_level-00000007.png").is_file()


def test_the_same_command_again_after_the_end_takes_nothing_back(tmp_path: Path) -> None:
    _train(tmp_path)
    before = curve(tmp_path, "loss")
    _train(tmp_path)
    assert len(before) == 10
    assert curve(tmp_path, "loss") == before


def _pixels(losses: np.ndarray) -> np.ndarray:
    """The map's: the right half of the picture."""
    picture = np.asarray(loss_chart(LEVELS, STEPS, losses), dtype=int)
    return picture[:, picture.shape[1] // 2 :]


def _area(pixels: np.ndarray, red: tuple[int, int], green: tuple[int, int], blue: tuple[int, int]) -> int:
    within = [(pixels[..., i] >= low) & (pixels[..., i] <= high) for i, (low, high) in enumerate((red, green, blue))]
    return int(np.logical_and.reduce(within).sum())


FLAT = np.ones((len(STEPS), len(LEVELS) - 1))
CELL = 5 * 8 * 100 // 2
"""Of pixels, a lower bound: what five reports of one level take of the map."""


@pytest.mark.parametrize(
    ("loss", "colour"),
    [
        (8.0, ((90, 200), (0, 60), (0, 60))),
        (0.1, ((0, 60), (40, 120), (90, 190))),
        (np.inf, ((0, 8), (0, 8), (0, 8))),
    ],
    ids=["red where it runs away", "blue where it falls", "black where it is not finite"],
)
def test_a_level_stands_out_of_the_map(loss: float, colour: tuple[tuple[int, int], ...]) -> None:
    losses = FLAT.copy()
    losses[-5:, 4] = loss
    assert _area(_pixels(losses), *colour) > _area(_pixels(FLAT), *colour) + CELL


def test_losses_may_be_negative_as_under_a_learned_weight() -> None:
    losses = FLAT - 2
    losses[-5:, 4] = np.inf
    assert _area(_pixels(losses), (0, 8), (0, 8), (0, 8)) > _area(_pixels(FLAT - 2), (0, 8), (0, 8), (0, 8)) + CELL


@pytest.mark.parametrize(
    "losses", [[[math.nan] * 8], [[1.0] * 8], [[math.inf] * 8, [1.0] * 8], [[0.0] * 8], [[math.inf] * 8]]
)
def test_a_chart_can_be_drawn_of_little(losses: list[list[float]]) -> None:
    assert loss_chart(LEVELS, list(range(1, len(losses) + 1)), losses).size == (1140, 420)
