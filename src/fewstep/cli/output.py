"""Where commands write: checked before work begins, so that nothing is lost to a bad path."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def check_writable(path: Path) -> Path:
    """Return the path, or raise OSError or ValueError saying why a file cannot be written there."""
    if path.is_dir():
        raise IsADirectoryError(f"'{path}' is a directory: give a file's name")
    parent = path.parent
    if not parent.is_dir():
        raise FileNotFoundError(f"cannot write '{path}': the directory '{parent}' does not exist")
    if not os.access(parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise PermissionError(f"cannot write '{path}': permission denied")
    return path


def check_picture(path: Path) -> Path:
    """`check_writable` for an image: its suffix must be one that images can have."""
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"cannot write '{path}': its name must end in {', '.join(SUFFIXES)}")
    return check_writable(path)


def image_paths(out: Path | None, names: Sequence[str]) -> list[Path]:
    """Where images go: beside each other in the current or given directory by name, or numbered after `out`."""
    if out is None or out.is_dir():
        folder = out or Path()
        return [check_picture(folder / f"{name}.png") for name in _distinct(names)]
    if len(names) == 1:
        return [check_picture(out)]
    return [check_picture(out.with_name(f"{out.stem}-{i + 1}{out.suffix}")) for i in range(len(names))]


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, a number behind each that came before: two prompts may give one name."""
    found: list[str] = []
    for name in names:
        tries = (name, *(f"{name}-{i}" for i in range(2, len(names) + 1)))
        found.append(next(one for one in tries if one not in found))
    return found


def slug(text: str, most: int = 40) -> str:
    """A prompt as part of a file name."""
    cleaned = re.sub(r"[^\w]+", "-", text.lower(), flags=re.UNICODE).strip("-")
    return cleaned[:most].strip("-") or "image"


def check_json(target: str | None) -> None:
    """Check a `--json FILE|-` before the work."""
    if target not in (None, "-"):
        check_writable(Path(str(target)))


def write_json(target: str | None, value: Any) -> None:
    """Write JSON to a file, or to standard output for "-"; nothing for None."""
    if target is None:
        return
    if target == "-":
        encoding = (sys.stdout.encoding or "ascii").lower().replace("-", "")
        sys.stdout.write(json.dumps(value, indent=1, ensure_ascii=encoding != "utf8") + "\n")
        return
    from fewstep.provenance import write_whole

    write_whole(Path(target), (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def say(text: str, json_target: str | None = None) -> None:
    """Print for people: to standard error when standard output carries JSON."""
    print(text, file=sys.stderr if json_target == "-" else sys.stdout)
