"""`fewstep pictures`: the pictures in the docs."""

from __future__ import annotations

from pathlib import Path

from fewstep.cli.output import check_writable, say

PLANE = ("trajectories", "paths", "estimates", "renoising", "guidance")
SHEETS = ("same-seed", "teacher-steps", "filled", "sketched", "styled", "edited")


def pictures(
    out: Path = Path("docs/pictures"),
    model: str = "emoji",
    teacher: str = "emoji-teacher",
    seed: int = 7,
    only: tuple[str, ...] = (),
) -> int:
    """Make the pictures in the docs: plots of points in the plane, and sheets of images drawn by a model.

    The plots need matplotlib (pip install 'fewstep[lab]'); the sheets need a model and its teacher.

    Args:
        out: The directory to write the pictures to.
        model: The few-step model that draws the sheets.
        teacher: The diffusion model it was distilled from.
        seed: Seed of all noise.
        only: Make only these pictures, out of trajectories, paths, estimates, renoising, guidance, same-seed,
            teacher-steps, filled, sketched, styled, edited; the last three need a model that takes prompts and
            sketches.
    """
    unknown = [name for name in only if name not in PLANE + SHEETS]
    if unknown:
        raise ValueError(f"there is no picture '{unknown[0]}': choose from {', '.join(PLANE + SHEETS)}")
    if not out.is_dir():
        raise NotADirectoryError(f"--out '{out}' is not a directory: give one that exists")
    wanted = [name for name in PLANE + SHEETS if not only or name in only]
    files = {name: check_writable(out / f"{name}.png") for name in wanted}
    _sheets({name: file for name, file in files.items() if name in SHEETS}, model, teacher, seed)
    _drawings({name: file for name, file in files.items() if name in PLANE}, seed)
    return 0


def _sheets(files: dict[str, Path], model: str, teacher: str, seed: int) -> None:
    if not files:
        return
    from fewstep.generation import load
    from fewstep.lab import sheets

    fast, slow = load(model), load(teacher)
    drawn = {
        "same-seed": lambda: sheets.same_seed(fast, slow, seed),
        "teacher-steps": lambda: sheets.estimates(slow, seed),
        "filled": lambda: sheets.filled(fast, slow, seed),
        "sketched": lambda: sheets.sketched(fast, slow, seed),
        "styled": lambda: sheets.styled(fast, seed),
        "edited": lambda: sheets.edited(fast, slow, seed),
    }
    for name, file in files.items():
        drawn[name]().save(file, optimize=True)
        say(str(file))


def _drawings(files: dict[str, Path], seed: int) -> None:
    if not files:
        return
    from fewstep.lab import plane

    with plane.style():
        for name, file in files.items():
            plane.save(plane.DRAWINGS[name](seed), file)
            say(str(file))
