from __future__ import annotations

from pathlib import Path

import pytest

from pictures import gradient


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six good images, 0.png … 5.png, each of its own colour."""
    root = tmp_path / "pictures"
    root.mkdir()
    for number in range(6):
        gradient(turn=number).save(root / f"{number}.png")
    return root
