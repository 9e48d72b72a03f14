"""The README's commands do what it says: each is run, as it stands there, in a fresh directory."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from fewstep.data.emoji import ANNOTATIONS, EMOJI_TEST, FONT

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL = [block for block in re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL) if "fewstep " in block]
QUICK = [
    line.split("  #")[0].strip()
    for block in SHELL
    for line in block.splitlines()
    if line.startswith("fewstep ") and "# slow" not in line
]
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


@pytest.mark.parametrize("command", QUICK)
def test_a_command_of_the_readme_runs(command: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    if packages := lacking(command):
        pytest.skip(f"needs Debian's {', '.join(packages)}")
    # one directory for all of them, since later lines of the README use the files of earlier ones
    folder = tmp_path_factory.getbasetemp() / "readme"
    folder.mkdir(exist_ok=True)
    sketch = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(sketch).polygon([(32, 8), (56, 30), (56, 56), (8, 56), (8, 30)], outline="black", width=3)
    sketch.save(folder / "sketch.png")
    done = subprocess.run(
        ["bash", "-ec", command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(folder), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_every_file_the_readme_links_is_there() -> None:
    links = [link for link in re.findall(r"\]\(([^)#\s]+)\)", README) if not link.startswith("http")]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
