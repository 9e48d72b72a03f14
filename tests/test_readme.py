"""The README's commands do what it says: each is run, as it stands there, in a fresh directory."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from fewstep.data.emoji import ANNOTATIONS, EMOJI_TEST, FONT
from servers import running
from tiny_models import TinyModels

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL = [block for block in re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL) if "fewstep " in block]
BLOCKS = [
    [
        line.split("  #")[0].strip()
        for line in block.splitlines()
        if line.startswith("fewstep ") and "# slow" not in line
    ]
    for block in SHELL
]
QUICK = [line for block in BLOCKS for line in block]
DEBIAN = {FONT: "fonts-noto-color-emoji", EMOJI_TEST: "unicode-data", ANNOTATIONS: "unicode-cldr-core"}


def lacking(command: str) -> list[str]:
    """The packages of Debian's that a command draws from and that are not here."""
    draws = command.startswith("fewstep data") and "emoji" in command.split()
    return [package for file, package in DEBIAN.items() if draws and not Path(file).is_file()]


def test_the_readme_has_commands_to_run() -> None:
    assert len(QUICK) >= 5


def test_only_what_draws_from_debians_packages_is_skipped_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DEBIAN, "/nowhere/font.ttf", "fonts-of-nowhere")
    assert ["fonts-of-nowhere" in lacking(command) for command in QUICK] == [
        command.startswith("fewstep data preview emoji") for command in QUICK
    ]


@pytest.mark.parametrize("commands", [pytest.param(block, id=block[0]) for block in BLOCKS if block])
def test_the_commands_of_a_block_of_the_readme_run(commands: list[str], tmp_path: Path) -> None:
    """One directory for a block, whose later lines use the files of earlier ones."""
    sketch = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(sketch).polygon([(32, 8), (56, 30), (56, 56), (8, 56), (8, 30)], outline="black", width=3)
    sketch.save(tmp_path / "sketch.png")
    mask = Image.new("L", (32, 32), 0)
    mask.paste(255, (0, 0, 32, 16))
    mask.save(tmp_path / "mask.png")
    for command in commands:
        if lacking(command):
            continue
        done = subprocess.run(
            ["bash", "-ec", command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env={
                "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
                "HOME": str(tmp_path),
                "OMP_NUM_THREADS": "1",
            },
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
    if packages := sorted({package for command in commands for package in lacking(command)}):
        pytest.skip(f"all but what needs Debian's {', '.join(packages)} ran")


def test_every_file_the_readme_links_is_there() -> None:
    links = [link for link in re.findall(r"\]\(([^)#\s]+)\)", README) if not link.startswith("http")]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_readmes_client_gets_an_answer(tiny: TinyModels, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL) if "OpenAI(" in block]
    with running(tiny) as server:
        exec(code.replace("http://127.0.0.1:8642", server.url), {})
    assert "'model'" in capsys.readouterr().out


def test_make_run_starts_the_server_of_the_readme() -> None:
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\nrun:")[2].splitlines()[1].strip()
    assert recipe.removeprefix("$(BIN)/") in README
