"""The documentation's Python does what it says: blocks marked ```python run are run, page by page and in order, and
what they print is the ```text block that follows. Those marked ```python run emoji need the built-in models."""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest

from fewstep.cli import main as command_line
from fewstep.models.components import KINDS
from fewstep.models.finding import built_in

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"^```python run(?P<needs>[^\n]*)\n(?P<code>.*?)^```$(?:\n+```text\n(?P<printed>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A runnable block: its code, what must be printed (None: anything), the built-in models it needs."""

    code: str
    printed: str | None
    needs: tuple[str, ...]


def blocks(page: Path) -> list[Block]:
    found = BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [Block(block["code"], block["printed"], tuple(block["needs"].split())) for block in found]


BY_ITSELF = ROOT / "docs" / "python.md"
"""Whose blocks are run one by one."""

RUNNABLE = [page for page in PAGES if blocks(page) and page != BY_ITSELF]


def run(chosen: list[Block], name: str) -> None:
    names: dict[str, object] = {"__name__": "docs"}
    for block in chosen:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), patch.dict(KINDS):  # a page's own kinds stay on the page
            exec(compile(block.code, name, "exec", dont_inherit=True), names)
        if block.printed is not None:
            assert printed.getvalue() == block.printed, f"after:\n{block.code}"


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.name)
def test_the_snippets_of_a_page_print_what_it_says(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run([block for block in blocks(page) if set(block.needs) <= set(built_in())], page.name)


@pytest.mark.parametrize("number", range(6))
def test_each_snippet_of_the_python_page_runs_by_itself(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = blocks(BY_ITSELF)
    assert len(page) == 6, "the page says that each block runs by itself: test them all"
    run([page[number]], "python.md")


def test_the_concepts_have_snippets() -> None:
    assert len(blocks(ROOT / "docs" / "concepts.md")) >= 5


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_a_page_links_is_there(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    local = [link for link in links if not link.startswith(("http:", "https:"))]
    waiting = set() if built_in() else {"pictures/same-seed.png", "pictures/teacher-steps.png"}  # drawn by the models
    assert [link for link in local if not (page.parent / link).exists() and link not in waiting] == []


SHOWN = re.compile(
    r"^    fewstep bench methods --read (?P<rows>\S+)[^\n]*\n\n```text\n(?P<table>.*?)^```$", re.MULTILINE | re.DOTALL
)


def test_the_tables_of_methods_are_what_the_command_prints_of_the_rows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    shown = list(SHOWN.finditer((ROOT / "docs" / "methods.md").read_text(encoding="utf-8")))
    assert {found["rows"] for found in shown} == {
        str(file.relative_to(ROOT)) for file in ROOT.glob("docs/methods/*.json")
    }
    for found in shown:
        assert command_line.run(["bench", "methods", "--read", found["rows"]]) == 0
        assert capsys.readouterr().out == found["table"], found["rows"]


@pytest.mark.parametrize("options", ["", " --edit colorize", " --edit super-resolve"])
def test_the_tables_of_edits_are_what_the_command_prints(options: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Up to the last digits, which differ between machines."""
    page = (ROOT / "docs" / "edit.md").read_text(encoding="utf-8")
    shown = page.split(f"    fewstep bench edits{options}\n")[1].split("```text\n")[1].split("```")[0].splitlines()
    assert command_line.run(["bench", "edits", *options.split()]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert shown[0] == printed[0]
    rows = [[[float(cell) for cell in line.split()] for line in lines[1:]] for lines in (shown, printed)]
    assert [len(row) for row in rows[0]] == [len(row) for row in rows[1]]
    assert all(a == pytest.approx(b, abs=0.003) for a, b in zip(*rows, strict=True))
