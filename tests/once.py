"""Expensive folders that a run of the tests builds once, however many worker processes it has."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

Once = Callable[[str, Callable[[Path], object]], Path]
"""The folder of this name, filled by a function if no worker has filled it yet. Tests must not change it."""


def shared_root(factory: pytest.TempPathFactory, worker: str) -> Path:
    """The temporary folder that all workers of a run see: each worker's own one lies in it."""
    own = factory.getbasetemp()
    return own if worker == "master" else own.parent


def build_once(root: Path, name: str, build: Callable[[Path], object]) -> Path:
    """The first caller builds, under a lock; the others wait for it. A build that failed is begun anew."""
    folder, finished = root / name, root / f"{name}.finished"
    with FileLock(root / f"{name}.lock"):
        if not finished.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            build(folder)
            finished.touch()
    return folder
