"""`fewstep train RECIPE`: the recipe's own settings become options."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated, Any

from fewstep.cli.output import say

RECIPES: dict[str, tuple[str, str]] = {
    "emoji": ("fewstep.recipes.emoji:EmojiRecipe", "the shipped model: text to transparent emoji in one step"),
    "emoji-64": ("fewstep.recipes.emoji:emoji_64", "the same at 64 × 64, for a GPU"),
    "images": ("fewstep.recipes.images:ImagesRecipe", "your own images, with captions, classes or neither"),
    "digits": ("fewstep.recipes.digits:DigitsRecipe", "scikit-learn's digits by class, minutes on a CPU"),
    "toy": ("fewstep.recipes.toy:ToyRecipe", "points in the plane, minutes on a CPU"),
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

    from fewstep.cli.main import call

    target, text = RECIPES[name]
    module, _, attribute = target.partition(":")
    default: Any = getattr(__import__(module, fromlist=[attribute]), attribute)()

    def command(out: Path, recipe: Any) -> tuple[Path, Any]:
        return out, recipe

    # the recipe's type is known only now, and its settings become options without a prefix
    kind: Any = type(default)
    command.__annotations__ = {"out": Path, "recipe": Annotated[kind, tyro.conf.arg(name="")]}
    command.__defaults__ = (default,)
    command.__doc__ = f"""Train {text}.

    Args:
        out: A directory for this run alone; an unfinished run of the same settings in it goes on.
        recipe: The recipe's settings.
    """
    out, recipe = call(command, f"train {name}", rest)
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"--out '{out}' is a file: give a directory")
    out.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        recipe.run(out)
        for file in sorted((out / "models").glob("*/model.json")):
            say(f"saved {file.parent}")
    finally:
        if not any(out.iterdir()):  # what was wrong was found before the first step
            out.rmdir()
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
