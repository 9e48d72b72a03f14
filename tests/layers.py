"""The contracts of pyproject.toml as a picture: `python tests/layers.py` writes it into CONTRIBUTING.md."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "CONTRIBUTING.md"
BLOCK = re.compile(r"(?<=^<!-- layers -->\n).*?(?=^<!-- end of layers -->$)", re.MULTILINE | re.DOTALL)


def contracts() -> list[dict[str, Any]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return list(project["tool"]["importlinter"]["contracts"])


def house(number: int, name: str, layers: Sequence[str]) -> list[str]:
    """Mermaid's lines for one contract of layers, the highest first: an arrow stands for all below it too."""
    letter = chr(ord("a") + number)
    ids = [f"{letter}{place}" for place in range(len(layers))]
    boxes = [f'        {key}["{layer.replace(" | ", " · ")}"]' for key, layer in zip(ids, layers, strict=True)]
    return [f'    subgraph group{number}["{name}"]', *boxes, f"        {' --> '.join(ids)}", "    end"]


def drawn(chosen: Sequence[dict[str, Any]]) -> str:
    """A flowchart of the layers, and the other contracts as a list."""
    houses = [each for each in chosen if each["type"] == "layers"]
    lines = ["```mermaid", "flowchart TD"]
    for number, each in enumerate(houses):
        lines += house(number, each["name"], each["layers"])
    others = [f"- {each['name']}." for each in chosen if each["type"] != "layers"]
    return "\n".join([*lines, "```", "", "And:", "", *others]) + "\n"


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(BLOCK.sub(lambda _: drawn(contracts()), text, count=1), encoding="utf-8")
