"""`fewstep train`: what its options stand for, and that the commands of the documentation mean what they say."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from fewstep.cli.train import RECIPES, parse
from fewstep.objectives.registry import OBJECTIVES, STUDENTS, MeanFlowSettings
from fewstep.recipes.two_stage import PATHS, TwoStage

ROOT = Path(__file__).parent.parent.parent
TWO_STAGE = [name for name, entry in RECIPES.items() if entry.is_two_stage]


def documented(page: str) -> list[str]:
    """The `fewstep train` commands of a page, without what is said beside them."""
    lines = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    found = [re.sub(r"\s+#.*", "", line).strip() for line in lines]
    return [line for line in found if re.match(r"fewstep train \w+ .*--out", line)]


def stages(*args: str) -> TwoStage:
    """What the options of a recipe say of its stages."""
    name, *rest = args
    chosen: TwoStage = parse(name, [*rest, "--out", "run"])[1].stages
    return chosen


PAGES = ("README.md", "docs/train.md", "docs/models/emoji.md")


@pytest.mark.parametrize("command", sorted({line for page in PAGES for line in documented(page)}))
def test_the_documented_commands_are_understood_and_go_together(command: str) -> None:
    _, _, name, *args = shlex.split(command)
    out, recipe = parse(name, args)
    assert str(out).startswith("runs/")
    if RECIPES[name].is_two_stage:
        recipe.stages.check()


def test_the_four_choices_have_commands() -> None:
    commands = " ".join(documented("docs/train.md"))
    assert all(f"--{choice} " in commands for choice in ("objective", "path", "network", "sampler", "parent"))


def test_the_table_names_every_objective_with_what_it_needs() -> None:
    page = (ROOT / "docs" / "train.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in row.strip("|").split("|")] for row in page.splitlines() if row.startswith("| `")
    ]
    told = {name: row for row in rows if len(row) == 5 for name in re.findall(r"`(\w+)`", row[0])}
    assert list(told) == list(STUDENTS)
    for name, (_, learns, source, guided, path) in told.items():
        settings = OBJECTIVES[name]
        kinds = {None: "data", "same": "a teacher", "clean": "a consistency model (`--parent`)"}
        by_samples = name == "distribution_matching"  # it jumps to clean too, and agrees with no trajectory
        to_clean = "a generator by jumps to clean" if by_samples else "a consistency function"
        assert learns == {"clean": to_clean, "any": "a flow map"}[settings.targets.value]
        assert source == kinds[settings.needs.value if settings.needs else None], name
        assert guided == ("yes" if settings.learns_guidance else "no"), name
        assert path == (f"`{settings.path}`" if settings.path else "any"), name


@pytest.mark.parametrize("name", TWO_STAGE)
@pytest.mark.parametrize("objective", STUDENTS)
def test_every_recipe_offers_every_objective_with_its_settings(name: str, objective: str) -> None:
    chosen = stages(name, f"--objective={objective}").objective
    assert chosen.kind == OBJECTIVES[objective].kind
    assert type(chosen) is type(OBJECTIVES[objective])


def test_the_settings_of_an_objective_are_options_under_it() -> None:
    chosen = stages("digits", "--objective", "mean_flow", "--objective.apart", "0.3")
    assert chosen.objective == MeanFlowSettings(apart=0.3)


def test_an_objective_that_is_the_recipes_own_keeps_the_recipes_settings() -> None:
    assert stages("emoji", "--objective", "consistency_distillation") == stages("emoji")
    assert stages("emoji").objective != OBJECTIVES["consistency_distillation"]


@pytest.mark.parametrize("path", PATHS)
def test_the_other_choices_are_options_too(path: str) -> None:
    chosen = stages("images", "--path", path, "--network", "unet2d", "--sampler", "consistency", "--parent", "p")
    default = stages("images")
    assert chosen == replace(default, path=path, network="unet2d", sampler="consistency", parent=Path("p"))


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (
            ["digits", "--objective", "magic"],
            "--objective must be one of consistency_distillation, consistency_training,",
        ),
        (
            ["digits", "--objective", "mean_flow", "--objective.levels", "3"],
            "Unrecognized options: --objective.levels",
        ),
        (["recogniser", "--objective", "mean_flow"], "Unrecognized options: --objective"),
    ],
)
def test_an_option_that_is_not_there_is_refused(
    args: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *rest = args
    with pytest.raises(SystemExit):
        parse(name, [*rest, "--out", "run"])
    assert says in capsys.readouterr().err
