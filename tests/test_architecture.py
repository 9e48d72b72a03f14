"""The house keeps its rules: what a torch-free install loads, and where files grow too long."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "fewstep"


def loaded_after(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter holds after a statement."""
    code = f"{statement}\nimport sys; print(*sorted({{m.partition('.')[0] for m in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module",
    [
        "core.levels",
        "core.jump",
        "core.guidance",
        "samplers",
        "models.saved",
        "engines.onnx",
        "generation",
        "cli.main",
    ],
)
def test_the_half_that_serves_loads_without_torch(module: str) -> None:
    assert "torch" not in loaded_after(f"import fewstep.{module}")


def test_provenance_needs_only_pillow() -> None:
    assert not {"numpy", "torch", "onnxruntime"} & loaded_after("import fewstep.provenance")


def test_importing_the_package_costs_nothing() -> None:
    assert not {"numpy", "PIL", "onnxruntime", "torch"} & loaded_after("import fewstep")


def test_every_folder_of_the_house_is_a_package() -> None:
    folders = {file.parent for file in SOURCE.rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


@pytest.mark.parametrize("file", sorted((SOURCE / "objectives").glob("*.py")), ids=lambda file: file.stem)
def test_an_objective_stays_one_short_file(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 150


def test_no_file_grows_past_four_hundred_lines() -> None:
    long = {f.name: n for f in SOURCE.rglob("*.py") if (n := len(f.read_text(encoding="utf-8").splitlines())) > 400}
    assert long == {}
