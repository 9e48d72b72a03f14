"""`fewstep data preview`: one look at what training would see."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("red", "green", "blue"):
        Image.new("RGB", (20, 20), name).save(pictures / f"{name}.png")
    return pictures


def colours(sheet: Path) -> set[tuple[int, ...]]:
    pixels = np.asarray(Image.open(sheet).convert("RGB")).reshape(-1, 3)
    return {tuple(int(v) for v in colour) for colour in np.unique(pixels, axis=0)}


def test_a_folder_of_images_is_shown_and_a_broken_one_named(run: Any, folder: Path) -> None:
    (folder / "broken.png").write_bytes(b"\x89PNG nothing more")
    ran = run("data", "preview", folder, "--size", 16, "--n", 9, "--out", "sheet.png")
    assert ran.code == 0
    assert ran.out.startswith("sheet.png: ")
    assert "1 could not be read: " in ran.out
    assert "broken.png" in ran.out
    assert {(255, 0, 0), (0, 128, 0), (0, 0, 255)} <= colours(Path("sheet.png"))


def test_a_folder_without_images_says_so_and_draws_nothing(run: Any, folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    ran = run("data", "preview", folder, "--out", "sheet.png")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.count("\n") == 1
    assert "no image" in ran.err
    assert not Path("sheet.png").exists()


def test_a_report_counts_the_bad_files_and_says_why(run: Any, folder: Path) -> None:
    (folder / "broken.png").write_bytes(b"")
    ran = run("data", "preview", folder, "--size", 16, "--out", "sheet.png", "--json", "-")
    assert json.loads(ran.out) == {
        "source": str(folder),
        "file": "sheet.png",
        "examples": 4,
        "skipped": {"broken.png": "the file is empty"},
    }
    assert "sheet.png: 4 of 4" in ran.err
    assert run("data", "preview", "ring", "--out", "ring.png", "--json", "ring.json").code == 0
    assert json.loads(Path("ring.json").read_text())["skipped"] == {}


def test_a_report_that_cannot_be_written_is_known_before_the_work(run: Any, folder: Path) -> None:
    ran = run("data", "preview", folder, "--out", "sheet.png", "--json", "nowhere/report.json")
    assert (ran.code, ran.out) == (2, "")
    assert not Path("sheet.png").exists()


def test_captions_of_another_column_are_shown(run: Any, folder: Path) -> None:
    (folder / "metadata.csv").write_text("file_name,titre\nred.png,rouge\n")
    ran = run("data", "preview", folder, "--caption-column", "title")
    assert ran.code == 2
    assert "no column 'title'" in ran.err
    assert run("data", "preview", folder, "--caption-column", "titre").code == 0


@pytest.mark.parametrize("option", ["--config", "--caption-column"])
def test_a_built_in_source_has_no_columns_and_configurations(run: Any, folder: Path, option: str) -> None:
    ran = run("data", "preview", "ring", option, "x")
    assert (ran.code, ran.out) == (2, "")
    assert "'ring' is a built-in data set" in ran.err


def test_points_are_drawn_as_points(run: Any, folder: Path) -> None:
    assert run("data", "preview", "ring", "--n", 50, "--out", "sheet.webp").code == 0
    assert Image.open("sheet.webp").size == (512, 512)
    assert len(colours(Path("sheet.webp"))) >= 9  # eight components and the paper


def test_a_sheet_replaces_an_old_one_whole_or_not_at_all(
    run: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("sheet.png").write_bytes(b"the old one")

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    ran = run("data", "preview", folder, "--out", "sheet.png")
    assert ran.code == 2
    assert "No space left on device" in ran.err
    assert Path("sheet.png").read_bytes() == b"the old one"
    assert sorted(file.name for file in folder.parent.iterdir()) == ["pictures", "sheet.png"]
