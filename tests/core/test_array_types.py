"""The array type is one that the type checker looks into: mistakes with arrays are found before anything runs.

That torch's tensors are arrays too is checked by `make check`, where training hands them to the same functions.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"

CONFIG = """
[mypy]
strict = True

[mypy-array_api_compat.*]
follow_imports = skip
"""  # array_api_compat would have mypy read all of torch

SNIPPET = """
import numpy as np
from numpy.typing import NDArray

from fewstep.core.arrays import namespace, per_sample
from fewstep.core.guidance import Guided
from fewstep.core.jump import Jump, jump
from fewstep.core.levels import CLEAN, Level, from_ratio
from fewstep.core.parameterisations import Estimator
from fewstep.editing import Constrained, Known
from fewstep.samplers import euler

numbers: NDArray[np.float32] = np.zeros((2, 3), dtype=np.float32)
level = from_ratio(np.ones(2))


def right(estimator: Estimator, last: Jump) -> NDArray[np.float32]:
    scaled = (2 - level.sigma[:1] * 3) / level.alpha
    where = namespace(scaled).where(scaled > 0, scaled, -scaled)
    guided = Guided(estimator, {"label": np.zeros(1)}, 2.0)
    edited = Constrained(guided, Known(numbers, numbers))
    for step in euler(edited, numbers, level, {}):
        last = step
    assert bool((where == 1).shape) and float(last.x[0]) and level.angle().ndim
    return jump(numbers, level, CLEAN, edited(numbers, level, CLEAN, {}))


def wrong(estimator: Estimator, last: Jump) -> None:
    level.sigma.foo  # attr-defined
    level.angle.shape  # attr-defined
    last.x.astype(np.float64)  # attr-defined
    namespace(numbers).cosh(numbers)  # attr-defined
    jump("noise", level, CLEAN, numbers)  # type-var
    estimator(numbers, level, level, {"label": "cat"})  # dict-item
    estimator(numbers, numbers, level, {})  # arg-type
    per_sample("2", numbers)  # arg-type
    Level("clean", 0.0)  # arg-type
    word: str = level.ratio  # assignment
    scale: int = estimator(numbers, level, level, {})  # assignment
    if level.angle:  # truthy-function
        pass
    Known(numbers, None)  # arg-type
"""


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> dict[int, str]:
    """What mypy says of the snippet: the code of the error by line."""
    file = tmp_path_factory.mktemp("typed") / "snippet.py"
    file.write_text(SNIPPET, encoding="utf-8")
    cache = pytestconfig.cache.mkdir("mypy") if pytestconfig.cache else file.parent
    config = file.with_name("mypy.ini")
    config.write_text(CONFIG, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(config), "--cache-dir", str(cache), str(file)],
        env={**os.environ, "MYPYPATH": str(SOURCE)},
        capture_output=True,
        text=True,
    )
    found = re.findall(rf"{re.escape(file.name)}:(\d+): error: .*\[([a-z-]+)\]$", done.stdout, re.MULTILINE)
    assert found, done.stdout + done.stderr
    return {int(line): code for line, code in found}


def test_each_mistake_is_found_and_nothing_else(checked: dict[int, str]) -> None:
    lines = SNIPPET.splitlines()
    expected = {n: line.partition("  # ")[2] for n, line in enumerate(lines, start=1) if "  # " in line}
    assert checked == expected
