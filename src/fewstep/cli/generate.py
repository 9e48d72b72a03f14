"""`fewstep generate`."""

from __future__ import annotations

from typing import Annotated

import tyro

from fewstep.cli.drawing import draw
from fewstep.cli.options import Drawing, drawing_command


class Prompts(tuple[str, ...]):
    """The prompts. This is a separate class because tyro checks the default of a generic type with `typeguard`, whose
    import takes a tenth of the whole run."""


_PROMPTS = tyro.constructors.PrimitiveConstructorSpec(
    nargs="*",
    metavar="[PROMPT [PROMPT ...]]",
    instance_from_str=Prompts,
    is_instance=lambda value: isinstance(value, Prompts),
    str_from_instance=list,
)


@drawing_command()
def generate(
    prompts: Annotated[Prompts, tyro.conf.Positional, _PROMPTS] = Prompts([""]),  # noqa: B008  immutable
    /,
    *,
    drawing: Drawing,
) -> int:
    """Draw images from prompts.

    Each image is written with the record of what made it (`fewstep record FILE` shows it).

    Args:
        prompts: One or more prompts; quote each that has several words.
    """
    draw(drawing, prompts)
    return 0
