"""Processes that take turns, for comparing speeds side by side.

Each contestant has its own process: in a shared one, the idle threads of one contestant would keep spinning for a
while and take cores from the next.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import IO, Any

REST = 0.3  # seconds in which spinning threads go to sleep

_LOOP = """
import json as _json, sys as _sys
for _line in _sys.stdin:
    print(_json.dumps(answer(**_json.loads(_line))), flush=True)
"""


class Turns:
    """One contestant's process, as a context manager.

    Args:
        name: name for error messages.
        code: Python code that defines `answer(**question)`; questions and answers are JSON values.
        arguments: its `sys.argv[1:]`.
    """

    def __init__(self, name: str, code: str, *arguments: str) -> None:
        self._name = name
        # not a pipe, which would block the process once it is full and nobody reads
        self._said = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-c", code + _LOOP, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )

    def __enter__(self) -> Turns:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.communicate()
        self._said.close()

    def ask(self, **question: Any) -> Any:
        """The answer to a question; blocks until it arrives.

        Raises:
            TurnError: the process stopped; the message ends with its last line of output.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(f"{json.dumps(question)}\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._process.wait()
            raise TurnError(f"{self._name}: {last_line(self._said) or 'the process stopped'}")
        return json.loads(line)


def last_line(said: IO[str]) -> str:
    """The last line of what a process wrote into a file."""
    said.seek(0)
    return "".join(said.read().strip().splitlines()[-1:])


class TurnError(RuntimeError):
    """A contestant's process stopped."""


def in_turn(contestants: Mapping[str, Turns], rounds: int, **question: Any) -> dict[str, list[float]]:
    """All seconds that each contestant reported, by name; the contestants take turns."""
    spent: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, turns in contestants.items():
            spent[name] += [float(value) for value in turns.ask(**question)]
            time.sleep(REST)
    return spent
