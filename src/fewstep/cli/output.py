"""The output of commands. Paths are checked before the work begins, so that no result is lost to a bad path."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def check_writable(path: Path) -> Path:
    """Return the path, or raise OSError or ValueError saying why a file cannot be written there."""
    if path.is_dir():
        raise IsADirectoryError(f"'{path}' is a directory: give the name of a file")
    if path.exists() and not path.is_file():  # a pipe or a device is written to: its directory does not matter
        if not os.access(path, os.W_OK):
            raise PermissionError(f"cannot write '{path}': permission denied")
        return path
    parent = Path(os.path.realpath(path)).parent if path.is_symlink() else path.parent  # /dev/stdout may be a file
    if not parent.is_dir():
        raise FileNotFoundError(f"cannot write '{path}': the directory '{parent}' does not exist")
    if not os.access(parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise PermissionError(f"cannot write '{path}': permission denied")
    return path


def check_picture(path: Path) -> Path:
    """`check_writable` for an image: its suffix must be that of a supported image format."""
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"cannot write '{path}': its name must end in {', '.join(SUFFIXES)}")
    return check_writable(path)


def check_film(path: Path) -> Path:
    """`check_writable` for an animation."""
    if path.suffix.lower() not in (".webp", ".png"):
        raise ValueError(f"cannot write '{path}': the name of an animation must end in .webp or .png")
    return check_writable(path)


def check_plot(path: Path) -> Path:
    """`check_writable` for a plot, which is a PNG; raises ImportError if the plotting package is not installed."""
    if path.suffix.lower() != ".png":
        raise ValueError(f"cannot draw '{path}': its name must end in .png")
    from fewstep.lab.plane import style

    with style():
        return check_writable(path)


def image_paths(out: Path | None, names: Sequence[str]) -> list[Path]:
    """The paths of images: by name in the current or given directory, next to existing files; or `out`, numbered."""
    if out is None or out.is_dir():
        folder = out or Path()
        found = _distinct(names, lambda name: os.path.lexists(folder / f"{name}.png"))
        return [check_picture(folder / f"{name}.png") for name in found]
    if len(names) == 1:
        return [check_picture(out)]
    return [check_picture(out.with_name(f"{out.stem}-{i + 1}{out.suffix}")) for i in range(len(names))]


def _distinct(names: Sequence[str], is_taken: Callable[[str], bool] = lambda name: False) -> list[str]:
    """The names, with -2, -3, … appended to those taken or repeated: two prompts may give the same name."""
    found: dict[str, None] = {}
    used: Counter[str] = Counter()
    for name in names:
        one = name
        while one in found or is_taken(one):
            used[name] += 1
            one = f"{name}-{used[name] + 1}"
        found[one] = None
    return list(found)


def slug(text: str, most: int = 40) -> str:
    """A prompt as a part of a file name."""
    cleaned = re.sub(r"[^\w]+", "-", text.lower(), flags=re.UNICODE).strip("-")
    return cleaned[:most].strip("-") or "image"


def shortened(text: str, most: int = 80) -> str:
    """A text of any length, shortened for a line of output."""
    return text if len(text) <= most else f"{text[:most]}…"


def check_json(target: str | None) -> None:
    """Check the path of `--json FILE|-` before the work begins."""
    if target not in (None, "-"):
        check_writable(Path(str(target)))


def write_json(target: str | None, value: Any) -> None:
    """Write JSON to a file, or to standard output for "-"; do nothing for None. NaN and infinities become null."""
    if target is None:
        return
    ascii_only = target == "-" and (sys.stdout.encoding or "ascii").lower().replace("-", "") != "utf8"
    text = json.dumps(_finite(value), indent=1, ensure_ascii=ascii_only, allow_nan=False) + "\n"
    if target == "-":
        sys.stdout.write(text)
        return
    from fewstep.pictures import write_whole

    write_whole(Path(target), text.encode())


def _finite(value: Any) -> Any:
    """The value with None in place of every number that JSON cannot represent."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def printable(text: str) -> str:
    """The text with its control characters escaped, except newlines and tabs.

    Prompts and metadata of files are untrusted, and a terminal interprets some control characters as commands.
    """
    return text.translate(_CONTROLS)


def say(text: str, json_target: str | None = None) -> None:
    """Print a line for people, control characters escaped; to standard error when standard output carries JSON."""
    print(printable(text), file=sys.stderr if json_target == "-" else sys.stdout)


def progress(text: str) -> None:
    """Print a line about the progress of the work to standard error, control characters escaped."""
    print(printable(text), file=sys.stderr, flush=True)


def say_table(rows: Sequence[Mapping[str, Any]], json: str | None) -> None:
    """Print rows, which have the same keys, as a table."""
    lines = [list(rows[0]), *(["" if value is None else str(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(rows[0]))]
    for line in lines:
        say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip(), json)
