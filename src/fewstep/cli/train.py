"""`fewstep train RECIPE`: the recipe's own settings become options."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECIPES: dict[str, tuple[str, str]] = {
    "emoji": ("fewstep.recipes.emoji:EmojiRecipe", "the shipped model: text to transparent emoji in one step"),
    "digits": ("fewstep.recipes.digits:DigitsRecipe", "scikit-learn's digits by class, minutes on a CPU"),
    "toy": ("fewstep.recipes.toy:ToyRecipe", "points in the plane, a minute on a CPU"),
    "recogniser": ("fewstep.recipes.recogniser:RecogniserRecipe", "the judge of emoji that evaluation uses"),
}


def train(args: list[str]) -> int:
    """Train a recipe; see `fewstep train --help`."""
    if not args or args[0] in {"-h", "--help"}:
        print(_help())
        return 0
    name, *rest = args
    if name not in RECIPES:
        print(f"fewstep: unknown recipe '{name}': one of {', '.join(RECIPES)}", file=sys.stderr)
        return 2
    try:
        import torch  # noqa: F401  only to say early what is missing
    except ImportError as error:
        raise ImportError("training needs PyTorch: pip install 'fewstep[train]'") from error
    import tyro

    target, text = RECIPES[name]
    module, _, attribute = target.partition(":")
    recipe_type: Any = getattr(__import__(module, fromlist=[attribute]), attribute)

    @dataclass(frozen=True)
    class Arguments:
        out: Path
        """A directory for this run alone; if it holds an unfinished run of the same settings, that goes on."""
        recipe: tyro.conf.OmitArgPrefixes[recipe_type]

    chosen = tyro.cli(
        Arguments,
        prog=f"fewstep train {name}",
        description=f"Train {text}.",
        args=rest,
        default=Arguments(tyro.MISSING, recipe_type()),
    )
    out: Path = chosen.out
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"--out '{out}' is a file: give a directory")
    out.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    chosen.recipe.run(out)
    return 0


def _help() -> str:
    width = max(len(name) for name in RECIPES)
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in RECIPES.items()]
    return "\n".join(
        [
            "usage: fewstep train RECIPE --out DIR [SETTINGS]",
            "",
            "Train a recipe. The same command again resumes an unfinished run, bit for bit on a CPU.",
            "",
            "recipes:",
            *lines,
            "",
            "  fewstep train RECIPE --help lists the recipe's settings.",
        ]
    )
