"""The gap between few-step inpainting and the true conditional, which `fewstep bench edits` prints."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from fewstep.lab.inpainting import LinearConsistency, gaps
from fewstep.lab.restoration import Restoration


def test_the_loop_is_its_closed_form_and_more_steps_come_nearer() -> None:
    rows = [row for row in gaps(size=8, draws=20_000) if not row["fit"]]
    assert [row["steps"] for row in rows] == [1, 2, 3, 4, 8, 40]
    for row in rows:
        assert row["measured"] == pytest.approx(row["mean_gap"], abs=0.02)
    assert all(later["distance"] < earlier["distance"] for earlier, later in pairwise(rows))


def test_corrections_of_the_noise_come_nearer_than_forty_steps_and_then_all_the_way() -> None:
    distances = {(row["steps"], row["fit"]): row["distance"] for row in gaps(size=8, draws=20_000)}
    assert distances[1, 2] < distances[40, 0]
    assert all(distances[1, more] < distances[1, fewer] for fewer, more in ((0, 1), (1, 2), (2, 4)))
    assert distances[1, 8] < 0.05 * distances[1, 0]


@pytest.mark.parametrize("edit", ["colorize", "super-resolve"])
def test_other_edits_are_their_closed_form_and_come_all_the_way_by_corrections(edit: Restoration) -> None:
    rows = {(row["steps"], row["fit"]): row for row in gaps(size=8, draws=20_000, edit=edit)}
    for row in rows.values():
        if row["mean_gap"] is not None:
            assert row["measured"] == pytest.approx(row["mean_gap"], abs=0.02)
    assert rows[1, 0]["distance"] == pytest.approx(rows[1, 0]["unconditional"], rel=0.01)
    assert rows[1, 8]["distance"] < 0.05 * rows[1, 0]["distance"]
    assert rows[1, 8]["distance"] < rows[40, 0]["distance"]


def test_one_jump_from_pure_noise_knows_nothing_of_what_is_known() -> None:
    first = gaps(size=8, draws=100)[0]
    assert first["distance"] == pytest.approx(first["unconditional"], rel=0.01)


def test_the_linear_model_turns_noise_into_data_of_the_right_covariance() -> None:
    covariance = np.array([[1.0, 0.6], [0.6, 2.0]])
    jump = LinearConsistency(*np.linalg.eigh(covariance)).matrix(1000.0)
    np.testing.assert_allclose(jump @ (1000.0**2 * np.eye(2)) @ jump.T, covariance, rtol=1e-4)
