"""How long a whole command takes, compared with merely importing PyTorch."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GENERATE = "from fewstep.cli.main import main; main()"


def start_times(model: str, rounds: int) -> dict[str, float]:
    """Median seconds of `fewstep generate` and of `import torch`, each in a fresh process, taking turns.

    Args:
        model: the model to load.
        rounds: measured runs of each, after one warm-up run.

    Raises:
        RuntimeError: a process failed; the message ends with its last line.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "apple.png")
        commands = {
            "generate": [sys.executable, "-c", GENERATE, "generate", "a red apple", "--model", model, "--out", out],
            "import_torch": [sys.executable, "-c", "import torch"],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for is_measured in [False] + [True] * rounds:
            for name, command in commands.items():
                spent = _seconds(name, command)
                if is_measured:
                    seconds[name].append(spent)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        **{f"{name}_s": round(value, 3) for name, value in medians.items()},
        "ratio": round(medians["generate"] / medians["import_torch"], 3),
        "rounds": rounds,
    }


def _seconds(name: str, command: list[str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} failed: {done.stderr.strip().splitlines()[-1:]}")
    return time.perf_counter() - began
