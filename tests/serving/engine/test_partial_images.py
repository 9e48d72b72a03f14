"""Partial images are spread evenly over the jumps of a request."""

from __future__ import annotations

import pytest

from fewstep.serving.engine.desk import partial_steps


@pytest.mark.parametrize(
    ("steps", "partial_images", "after"),
    [
        (1, 3, []),  # the only jump gives the picture itself
        (2, 3, [0]),
        (4, 0, []),
        (4, 1, [1]),
        (4, 2, [1, 2]),
        (4, 3, [0, 1, 2]),
        (8, 1, [3]),
        (8, 3, [1, 3, 5]),
        (10, 3, [2, 4, 7]),
        (64, 3, [15, 31, 47]),
    ],
)
def test_partial_images_come_after_jumps_that_divide_the_way_evenly(
    steps: int, partial_images: int, after: list[int]
) -> None:
    assert sorted(partial_steps(steps, partial_images)) == after
