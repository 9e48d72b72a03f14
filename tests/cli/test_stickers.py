"""`fewstep data stickers`: counts, pictures as files, and one plain line for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewstep.cli.main import main, run
from fewstep.data.emoji import ANNOTATIONS, EMOJI_TEST
from sticker_packages import packages, pin

MISSING = [file for file in (EMOJI_TEST, ANNOTATIONS) if not Path(file).is_file()]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}")
pytest.importorskip("resvg_py")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pin(monkeypatch, packages(tmp_path / "packages"), tmp_path / "cache")
    return tmp_path / "packages"


def test_it_counts_by_artist_and_writes_transparent_pictures(folder: Path, tmp_path: Path) -> None:
    told, out = tmp_path / "told.json", tmp_path / "out"
    assert (
        run(["data", "stickers", "--from", str(folder), "--size", "32", "--out", str(out), "--json", str(told)]) == 0
    )
    facts = json.loads(told.read_text(encoding="utf-8"))
    assert facts["pictures"] == 21
    assert [row["pictures"] for row in facts["artists"]] == [3] * 7
    assert all("https://" in row["attribution"] for row in facts["artists"])
    assert len(list(out.glob("*/*.png"))) == 21
    with Image.open(out / "flat" / "red-apple.png") as picture:
        assert picture.mode == "RGBA"
        pixels = np.asarray(picture)
    assert pixels.shape == (32, 32, 4)
    assert tuple(pixels[16, 16]) == pytest.approx((0x20, 0x40, 0xE0, 255), abs=1)
    assert not pixels[0, 0].any()


def test_a_preview_shows_what_training_would_see(folder: Path, tmp_path: Path) -> None:
    assert run(["data", "stickers", "--from", str(folder)]) == 0  # drawn once, found again without the packages
    out = tmp_path / "preview.png"
    assert run(["data", "preview", "stickers", "--size", "32", "--out", str(out), "--n", "6"]) == 0
    assert out.is_file()


@pytest.mark.parametrize(
    ("harm", "line"),
    [
        (lambda path: path.unlink(), "lacks iconify-json-noto-1.2.9.tgz"),
        (lambda path: path.write_bytes(b"something else"), "is not @iconify-json/noto@1.2.9: its sha512 is"),
    ],
)
def test_what_is_wrong_is_one_line(folder: Path, harm: object, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    harm(folder / "iconify-json-noto-1.2.9.tgz")  # type: ignore[operator]
    with pytest.raises(SystemExit) as stopped:
        main(["data", "stickers", "--from", str(folder)])
    assert stopped.value.code == 2
    (told,) = capsys.readouterr().err.strip().splitlines()
    assert told.startswith("fewstep: ")
    assert line in told
