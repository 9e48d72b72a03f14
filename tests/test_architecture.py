"""The house keeps its rules: what a torch-free install loads, and how long an objective is."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
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


def imported(file: Path) -> set[str]:
    """The top-level modules that a file imports anywhere in it."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    plain = {name.name.partition(".")[0] for node in nodes if isinstance(node, ast.Import) for name in node.names}
    return plain | {str(node.module).partition(".")[0] for node in nodes if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize("package", ["core", "samplers", "models", "generation", "editing", "pictures"])
def test_what_the_half_that_serves_imports_is_declared_and_pinned(package: str) -> None:
    project = tomllib.loads((SOURCE.parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[^\w-]", line)[0].lower().replace("-", "_") for line in project["dependencies"]}
    pins = (SOURCE.parent.parent / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {pin.partition("==")[0].lower().replace("-", "_") for pin in pins}
    used = {module for file in (SOURCE / package).rglob("*.py") for module in imported(file)}
    others = {{"PIL": "pillow"}.get(name, name) for name in used - sys.stdlib_module_names - {"fewstep"}}
    assert others <= declared
    assert others <= pinned


@pytest.mark.parametrize("file", sorted((SOURCE / "cli").glob("*.py")), ids=lambda file: file.stem)
def test_the_command_line_calls_the_lab_only_when_asked(file: Path) -> None:
    """At the top of a file an import would cost every command what benchmarks need."""
    top = [node for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom)]
    assert not [node.module for node in top if str(node.module).startswith("fewstep.lab")]


def test_records_need_only_pillow() -> None:
    assert not {"numpy", "torch", "onnxruntime"} & loaded_after("import fewstep.pictures")


def test_importing_the_package_costs_nothing() -> None:
    assert not {"numpy", "PIL", "onnxruntime", "torch"} & loaded_after("import fewstep")


def test_every_folder_of_the_house_is_a_package() -> None:
    folders = {file.parent for file in SOURCE.rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def modules_of_the_package(file: Path) -> set[str]:
    """The modules of this package that a file imports anywhere in it."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    plain = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    all_of_them = plain | {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    return {module for module in all_of_them if module.partition(".")[0] == "fewstep"}


MAX_IMPORTS = 15
PUTS_TOGETHER = {
    "lab/worlds.py": 19,
    "objectives/registry.py": 19,
    "recipes/codec.py": 19,
    "recipes/digits.py": 19,
    "recipes/distill_run.py": 18,
    "recipes/emoji.py": 20,
    "recipes/images.py": 16,
    "recipes/stickers.py": 20,
    "recipes/toy.py": 23,
    "recipes/two_stage.py": 30,
    "serving/app.py": 24,
}
"""The places where parts are put together may know more of them, but no more than today."""


def test_a_file_knows_few_others() -> None:
    counts = {str(file.relative_to(SOURCE)): len(modules_of_the_package(file)) for file in SOURCE.rglob("*.py")}
    allowed = {name: PUTS_TOGETHER.get(name, MAX_IMPORTS) for name in counts}
    assert {name: count for name, count in counts.items() if count > allowed[name]} == {}
    assert set(PUTS_TOGETHER) <= {name for name, count in counts.items() if count > MAX_IMPORTS}


def test_a_function_fits_in_a_head() -> None:
    settings = tomllib.loads((SOURCE.parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]
    assert "C901" in settings["lint"]["select"]
    assert settings["lint"]["mccabe"]["max-complexity"] == 12


def defines_an_objective(file: Path) -> bool:
    classes = [
        node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.ClassDef)
    ]
    return any(isinstance(base, ast.Name) and base.id == "Objective" for each in classes for base in each.bases)


OBJECTIVES = [file for file in sorted((SOURCE / "objectives").glob("*.py")) if defines_an_objective(file)]


@pytest.mark.parametrize("file", OBJECTIVES, ids=lambda file: file.stem)
def test_an_objective_stays_one_short_file(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 180
