"""The log of experiments: a file a month, each entry with its conclusion first."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

LOG = Path(__file__).parent.parent / "docs" / "log"
MONTHS = sorted(LOG.glob("[0-9]*.md"))
ENTRY = re.compile(r"^## (?P<date>\S+) · (?P<title>.+)\n\n(?P<first>.*)$", re.MULTILINE)


@pytest.mark.parametrize("month", MONTHS, ids=lambda month: month.stem)
def test_each_entry_is_of_its_month_and_begins_with_its_conclusion(month: Path) -> None:
    text = month.read_text(encoding="utf-8")
    entries = list(ENTRY.finditer(text))
    assert len(entries) == text.count("\n## ")
    dates = [entry["date"] for entry in entries]
    assert all(re.fullmatch(rf"{month.stem}-\d\d", date) for date in dates)
    assert dates == sorted(dates, reverse=True)
    assert [entry["title"] for entry in entries if not re.fullmatch(r"\*\*.{30,170}\*\*", entry["first"])] == []


def test_the_index_names_every_month() -> None:
    index = (LOG / "README.md").read_text(encoding="utf-8")
    assert MONTHS
    assert re.findall(r"\((\d{4}-\d\d\.md)\)", index) == [month.name for month in reversed(MONTHS)]
