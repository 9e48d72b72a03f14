from __future__ import annotations

from pathlib import Path

import pytest

from picture_cases import six_in


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six good images, 0.png … 5.png, each of its own colour."""
    return six_in(tmp_path / "pictures")
