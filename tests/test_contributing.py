"""CONTRIBUTING.md says all that a new part needs: its steps are carried out in a copy of the repository, and the command
at their end is run there. Its picture of the layers is that of the contracts."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from layers import BLOCK, contracts, drawn

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
STEP = re.compile(
    r"^```\w+ (?P<kind>new|import|line) (?P<file>\S+)(?: (?P<name>\w+))?\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
COMMAND = re.compile(r"^    ((?:pytest|python) .*)$", re.MULTILINE)


@dataclass(frozen=True)
class Step:
    """What is written where: a new file, an import, or a line at the head of a table."""

    kind: str
    file: str
    name: str | None
    text: str

    def carry_out(self, tree: Path) -> None:
        file = tree / self.file
        if self.kind == "new":
            assert not file.exists()
            file.write_text(self.text, encoding="utf-8")
            return
        before = file.read_text(encoding="utf-8")
        first = r"^(?=from |import )(?!from __future__)" if self.kind == "import" else rf"^{self.name}\b.*[\[{{(]\n"
        place = re.search(first, before, re.MULTILINE)
        assert place, f"{self.file} has no {self.name or 'import'}"
        file.write_text(before[: place.end()] + self.text + before[place.end() :], encoding="utf-8")


@dataclass(frozen=True)
class Section:
    steps: tuple[Step, ...]
    commands: tuple[str, ...]


def _sections() -> dict[str, Section]:
    sections = {}
    for part in PAGE.split("\n### ")[1:]:
        title, _, body = part.partition("\n")
        steps = tuple(Step(m["kind"], m["file"], m["name"], m["text"]) for m in STEP.finditer(body))
        sections[title] = Section(steps, tuple(COMMAND.findall(STEP.sub("", body))))
    return sections


SECTIONS = _sections()


def copied(tree: Path) -> Path:
    """The repository's code and tests, the shipped models linked."""
    built_in = ROOT / "src" / "fewstep" / "models" / "built_in"
    ignored = shutil.ignore_patterns("__pycache__", "built_in", "*.npz")
    for folder in ("src", "tests"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=ignored)
    (tree / built_in.relative_to(ROOT)).symlink_to(built_in, target_is_directory=True)
    shutil.copy(ROOT / "pyproject.toml", tree)
    (tree / "docs" / "objectives").mkdir(parents=True)
    return tree


def test_it_says_what_each_kind_of_part_needs() -> None:
    assert {"Objective", "Sampler", "Codec", "Conditioner", "Data source", "Recipe", "Surface"} <= set(SECTIONS)
    assert all(section.steps and len(section.commands) == 1 for section in SECTIONS.values())


@pytest.mark.parametrize("title", SECTIONS)
def test_a_new_part_needs_these_steps_and_no_more(title: str, tmp_path: Path) -> None:
    tree = copied(tmp_path)
    for step in SECTIONS[title].steps:
        step.carry_out(tree)
    (command,) = SECTIONS[title].commands
    program, *arguments = shlex.split(command)
    module = ["-m", "pytest", "-x", "-p", "no:cacheprovider"] if program == "pytest" else []
    done = subprocess.run(
        [sys.executable, *module, *arguments],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree / "src")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert program == "python" or re.search(r"^\.+ ", done.stdout, re.MULTILINE), done.stdout


def test_the_picture_of_the_layers_is_that_of_the_contracts() -> None:
    picture = BLOCK.search(PAGE)
    assert picture, "no picture"
    assert picture[0] == drawn(contracts()), "python tests/layers.py draws it anew"


def test_a_contract_that_changes_changes_the_picture() -> None:
    first, *others = contracts()
    assert drawn([{**first, "layers": [*first["layers"], "new"]}, *others]) != drawn(contracts())
    assert drawn(contracts()[:-1]) != drawn(contracts())


def test_the_rules_of_commits_are_said() -> None:
    assert "imperative subject of at most 72 characters" in PAGE
