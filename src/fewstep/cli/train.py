"""`fewstep train RECIPE`: the settings of the recipe become options."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from fewstep.cli.output import say

OBJECTIVE = "--objective"


@dataclass(frozen=True)
class RecipeEntry:
    """A recipe on the command line.

    Args:
        target: the callable that creates the recipe with its defaults, as module:name.
        help: what the recipe trains.
        is_two_stage: whether it trains a teacher and a student, whose objective can be chosen.
    """

    target: str
    help: str
    is_two_stage: bool = True

    def default(self) -> Any:
        """The recipe with its defaults."""
        module, _, name = self.target.partition(":")
        return getattr(import_module(module), name)()


RECIPES: dict[str, RecipeEntry] = {
    "emoji": RecipeEntry(
        "fewstep.recipes.emoji:EmojiRecipe", "the shipped model: transparent emoji from text, in one step"
    ),
    "emoji-64": RecipeEntry("fewstep.recipes.emoji:emoji_64", "the same at 64 × 64, for a GPU"),
    "images": RecipeEntry(
        "fewstep.recipes.images:ImagesRecipe", "your own images, with captions, classes or neither"
    ),
    "digits": RecipeEntry("fewstep.recipes.digits:DigitsRecipe", "scikit-learn's digits by class, minutes on a CPU"),
    "toy": RecipeEntry("fewstep.recipes.toy:ToyRecipe", "points in the plane, minutes on a CPU"),
    "codec": RecipeEntry(
        "fewstep.recipes.codec:CodecRecipe", "the codec for stickers, between pixels and latents", is_two_stage=False
    ),
    "stickers": RecipeEntry(
        "fewstep.recipes.stickers:StickersRecipe",
        "stickers in the styles of seven artists from text, on the latents of the codec",
    ),
    "recogniser": RecipeEntry(
        "fewstep.recipes.recogniser:RecogniserRecipe", "the judge of emoji that evaluation uses", is_two_stage=False
    ),
    "stickers-recogniser": RecipeEntry(
        "fewstep.recipes.recogniser:StickersRecogniserRecipe", "the judge of stickers", is_two_stage=False
    ),
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
        import torch  # noqa: F401  only to report early that it is missing
    except ImportError as error:
        raise ImportError("training needs PyTorch: pip install 'fewstep[train]'") from error
    out, recipe = parse(name, rest)
    run_in(out, recipe)
    for file in sorted((out / "models").glob("*/model.json")):
        say(f"saved {file.parent}")
    return 0


def run_in(out: Path, recipe: Any) -> Any:
    """Run a recipe in a directory, which is created, and removed if nothing was written before an error."""
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"--out '{out}' is a file: give a directory")
    out.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        return recipe.run(out)
    finally:
        if not any(out.iterdir()):
            out.rmdir()


def parse(name: str, args: Sequence[str]) -> tuple[Path, Any]:
    """The directory and the recipe given by the options of `fewstep train NAME`.

    The options depend on the recipe, and those under --objective on the chosen objective, so both are determined
    before the options are parsed.
    """
    import tyro

    from fewstep.cli.main import call

    entry = RECIPES[name]
    default = entry.default()
    if entry.is_two_stage:
        default = _with_objective(default, args)

    def command(out: Path, recipe: Any, objective: Any = None) -> tuple[Path, Any]:
        return out, recipe

    command.__annotations__ = {"out": Path, "recipe": Annotated[type(default), tyro.conf.arg(name="")]}
    command.__annotations__["objective"] = _objective_option(entry)
    command.__defaults__ = (default, None)
    command.__doc__ = f"""Train {entry.help}.

    Args:
        out: A directory for this run alone; an unfinished run with the same settings in it is resumed.
        recipe: The settings of the recipe.
        objective: The student's training objective; if left out, the recipe's own. The options under {OBJECTIVE}. are
            those of the objective given here.
    """
    directory, recipe = call(command, f"train {name}", args)
    return directory, recipe


def _objective_option(entry: RecipeEntry) -> Any:
    """The type of the option --objective, which recipes with one stage do not have."""
    import tyro

    if not entry.is_two_stage:
        return Annotated[None, tyro.conf.Suppress]
    from fewstep.objectives.registry import STUDENTS

    return Literal[STUDENTS] | None


def _with_objective(recipe: Any, args: Sequence[str]) -> Any:
    """The recipe with the objective that the options name, if it differs from the recipe's own."""
    from fewstep.objectives.registry import OBJECTIVES

    name = value_of(OBJECTIVE, args)
    if name not in OBJECTIVES or name == recipe.stages.objective.kind:
        return recipe
    return replace(recipe, stages=replace(recipe.stages, objective=OBJECTIVES[name]))


def value_of(option: str, args: Sequence[str]) -> str:
    """The last value given for an option, or ""."""
    value = ""
    for argument, following in pairwise([*args, ""]):
        if argument == option:
            value = following
        elif argument.startswith(f"{option}="):
            value = argument.removeprefix(f"{option}=")
    return value


def _help() -> str:
    width = max(len(name) for name in RECIPES)
    lines = [f"  {name:<{width}}  {entry.help}" for name, entry in RECIPES.items()]
    return "\n".join(
        [
            "usage: fewstep train RECIPE --out DIR [SETTINGS]",
            "",
            "Train a recipe. Running the same command again resumes an unfinished run, bit for bit on a CPU.",
            "",
            "recipes:",
            *lines,
            "",
            "  fewstep train RECIPE --help lists the settings of the recipe.",
        ]
    )
