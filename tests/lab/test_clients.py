"""The command that runs other people's clients, without them: what it installs, runs and says."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from fewstep.lab import clients
from fewstep.lab.clients import CLIENTS, SCRIPTS, Client, outcome, run_clients


def test_every_client_has_its_script_and_pinned_packages() -> None:
    assert {client.script for client in CLIENTS} == {file.name for file in SCRIPTS.iterdir() if file.is_file()}
    for client in CLIENTS:
        assert client.version[0].isdigit()
        assert client.name
        for package in client.others:
            assert ("==" if client.is_python else "@") in package[1:]
        if client.is_python:
            ast.parse((SCRIPTS / client.script).read_text(encoding="utf-8"))


def test_names_and_versions_of_both_kinds() -> None:
    assert (Client("a.py", "openai==2.0").name, Client("a.py", "openai==2.0").version) == ("openai", "2.0")
    scoped = Client("a.mjs", "@some/thing@1.2")
    assert (scoped.name, scoped.version, scoped.is_python) == ("@some/thing", "1.2", False)


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "scripts"
    folder.mkdir()
    monkeypatch.setattr(clients, "SCRIPTS", folder)
    return folder


def ran(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that are run, the installing ones without effect."""
    commands: list[list[str]] = []
    real = clients._run

    def run(command: Any, folder: Path) -> str:
        commands.append([str(part) for part in command])
        return "" if "install" in commands[-1] else real(command, folder)

    monkeypatch.setattr(clients, "_run", run)
    monkeypatch.setattr("venv.EnvBuilder._setup_pip", lambda *given: None)
    return commands


def test_a_client_is_installed_once_and_says_what_it_got(
    scripts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "import json, sys; print('noise'); print(json.dumps({'sent': sys.argv[1], 'got': 3}))"
    (scripts / "own.py").write_text(script, encoding="utf-8")
    commands = ran(monkeypatch)
    own = Client("own.py", "own==1.0", ("other==2.0",))
    for _ in range(2):
        assert outcome(own, "http://here", tmp_path / "own-1.0") == {"sent": "http://here", "got": "3"}
    installing = [command for command in commands if "install" in command]
    assert len(installing) == 1
    assert installing[0][-2:] == ["own==1.0", "other==2.0"]


def test_a_client_that_fails_says_why(scripts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (scripts / "own.py").write_text("raise ValueError('no image')", encoding="utf-8")
    ran(monkeypatch)
    monkeypatch.setattr(clients, "CLIENTS", (Client("own.py", "own==1.0"),))
    told: list[str] = []
    (row,) = run_clients("http://here", tmp_path, tell=told.append)
    assert row == {"client": "own (Python)", "version": "1.0", "sent": "", "got": "failed: ValueError: no image"}
    assert told == ["own 1.0"]
    with pytest.raises(ValueError, match="there is no client 'another': choose of own"):
        list(run_clients("http://here", tmp_path, ["another"]))
