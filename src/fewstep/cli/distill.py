"""`fewstep distill`: make a diffusers pipeline few-step; the settings of the recipe become options."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fewstep.cli.output import say
from fewstep.cli.train import run_in, value_of

if TYPE_CHECKING:
    from fewstep.recipes.distill import DistillRecipe


def distill(args: list[str]) -> int:
    """Distil; see `fewstep distill --help`."""
    try:
        import diffusers  # noqa: F401  only to report early that it is missing
        import peft  # noqa: F401
    except ImportError as error:
        raise ImportError("distilling a pipeline needs diffusers: pip install 'fewstep[diffusers]'") from error
    out, recipe = _parsed(args)
    say(f"saved {run_in(out, recipe)}")
    return 0


def _parsed(args: list[str]) -> tuple[Path, DistillRecipe]:
    """The directory and the recipe; the defaults depend on the method."""
    import tyro

    from fewstep.cli.main import call
    from fewstep.recipes.distill import defaults
    from fewstep.recipes.distill_methods import METHODS

    method = value_of("--method", args)
    default = defaults(next((known for known in METHODS if known == method), "lcm-lora"))

    def command(out: Path, recipe: Any) -> tuple[Path, Any]:
        return out, recipe

    command.__annotations__ = {"out": Path, "recipe": Annotated[type(default), tyro.conf.arg(name="")]}
    command.__defaults__ = (default,)
    command.__doc__ = """Make a diffusers pipeline few-step, from captioned images.

    The result is written to OUT/models for diffusers' loaders, a LoRA also for kohya's, A1111's and ComfyUI's.

    Args:
        out: A directory for this run alone; an unfinished run with the same settings in it is resumed.
        recipe: The settings.
    """
    directory, recipe = call(command, "distill", args)
    return directory, recipe
