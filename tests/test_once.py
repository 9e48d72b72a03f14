"""What the workers of a run share is built by one of them."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from once import build_once, shared_root


def _count(folder: Path) -> None:
    with (folder / "builds").open("a", encoding="utf-8") as file:
        file.write("built\n")


def _build(root: Path) -> str:
    return (build_once(root, "thing", _count) / "builds").read_text(encoding="utf-8")


def test_processes_that_ask_at_once_get_one_folder(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(_build, [tmp_path] * 4) == ["built\n"] * 4


def test_threads_wait_for_the_one_that_builds(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(_build, [tmp_path] * 8)) == ["built\n"] * 8


def test_a_build_that_failed_is_begun_anew(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        build_once(tmp_path, "thing", fail)
    assert [file.name for file in build_once(tmp_path, "thing", _count).iterdir()] == ["builds"]


def test_workers_share_the_folder_above_their_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    own = tmp_path_factory.getbasetemp()
    assert shared_root(tmp_path_factory, "gw0") == shared_root(tmp_path_factory, "gw1") == own.parent
    assert shared_root(tmp_path_factory, "master") == own
