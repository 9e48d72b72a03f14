from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from fewstep.cli.main import main


@dataclass(frozen=True)
class Ran:
    """How a command ended: its exit code and what it said."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test asks the hub: where names resolve to nothing it would be asked again for half a minute."""
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line, in this process."""

    def call(*arguments: object) -> Ran:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Ran(int(stop.value.code or 0), said.out, said.err)

    return call
