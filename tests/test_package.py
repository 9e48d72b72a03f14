"""The wheel, installed alone into an empty environment, draws an image without torch."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from fewstep import pictures
from once import Once

ROOT = Path(__file__).parent.parent
LARGEST = 30e6  # bytes of all shipped models, recogniser and text table together, as they lie in the package


@pytest.fixture(scope="module")
def wheel(once: Once) -> Path:
    def build(folder: Path) -> None:
        command = [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--wheel-dir",
            str(folder),
            str(ROOT),
        ]
        subprocess.run(command, check=True, capture_output=True)

    (built,) = once("wheel", build).glob("*.whl")
    return built


def test_the_wheel_holds_the_models_and_nothing_large_beside(wheel: Path) -> None:
    files = {info.filename: info.file_size for info in zipfile.ZipFile(wheel).infolist()}
    assert {f"fewstep/models/built_in/{name}/model.json" for name in ("emoji", "emoji-teacher")} <= set(files)
    assert "fewstep/py.typed" in files
    assert not [name for name in files if name.startswith(("tests/", "docs/"))]
    models = {name: size for name, size in files.items() if name.startswith("fewstep/models/") and ".py" not in name}
    assert sum(models.values()) <= LARGEST


def test_the_core_install_draws_without_torch(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    bin_ = tmp_path / "venv" / "bin"
    install = [str(bin_ / "pip"), "install", "--quiet", "-c", str(ROOT / "constraints.txt"), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    torch = subprocess.run([str(bin_ / "python"), "-c", "import torch"], capture_output=True, check=False)
    assert torch.returncode != 0
    out = tmp_path / "apple.png"
    subprocess.run(
        [str(bin_ / "fewstep"), "generate", "a red apple", "--seed", "7", "--out", str(out)], check=True, cwd=tmp_path
    )
    assert Image.open(out).mode == "RGBA"
    record = pictures.read_record(out)
    assert record is not None
    assert (record.prompt, record.seed, record.steps) == ("a red apple", 7, 1)
