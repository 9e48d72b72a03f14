"""`fewstep tune-levels` says what it found and changes the model only where that is better."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fewstep.measure import tuning
from fewstep.models.saved import SavedModel, read
from fewstep.models.writing import rewrite
from tiny_models import TinyModels

QUICK = ("--n", 20, "--tries", 2, "--rounds", 1, "--threads", 1)


@pytest.fixture
def toy(tiny: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SavedModel:
    """The untrained points model as one of the toy recipe, in the working directory."""
    monkeypatch.chdir(tmp_path)
    spec = replace(tiny.points.spec, recipe={"name": "toy"}, levels={2: (80.0, 60.0), 4: (80.0, 3.0, 2.0, 1.0)})
    return rewrite(tiny.points, spec, tmp_path / "toy")


@pytest.fixture
def verdict(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Decides what fresh noise says: whether the levels that are found are better."""

    def decide(better: bool) -> None:
        tune = tuning.tune

        def decided(*asked: Any) -> list[tuning.TunedLevels]:
            return [replace(row, score_before=2.0, score_found=1.0 if better else 2.0) for row in tune(*asked)]

        monkeypatch.setattr(tuning, "tune", decided)

    return decide


def test_better_levels_are_stored_in_place(run: Any, toy: SavedModel, tmp_path: Path, verdict: Any) -> None:
    verdict(better=True)
    ran = run("tune-levels", "toy", "--steps", "3,2", *QUICK)
    assert ran.code == 0
    changed = read(toy.directory)
    heads, three, two, said = ran.out.splitlines()
    assert heads.split("  ")[0] == "steps"
    assert "levels before" in heads
    assert "wasserstein found" in heads
    assert (three.split()[0], two.split()[:3], two.split()[-1]) == ("3", ["2", "80,", "60"], "stored")
    assert said == f"stored in toy: {toy.hash[:10]} is now {changed.hash[:10]}"
    assert set(changed.spec.levels) == {2, 3, 4}
    assert changed.spec.levels[2] != toy.spec.levels[2]
    assert changed.spec.levels[4] == toy.spec.levels[4]
    assert "2 steps: 80, 60 gives" in ran.err
    assert [entry.name for entry in tmp_path.iterdir()] == ["toy"]
    assert run("evaluate", "toy", "--steps", "2").code == 2  # it reads, and is refused as points are


def test_a_copy_is_written_where_it_was_asked_for(run: Any, toy: SavedModel, tmp_path: Path, verdict: Any) -> None:
    verdict(better=True)
    ran = run("tune-levels", toy.directory, "--steps", 2, "--out", "copies/tuned", *QUICK)
    assert (ran.code, read(toy.directory)) == (0, toy)
    assert "stored in copies/tuned" in ran.out
    assert read(tmp_path / "copies" / "tuned").spec.levels[2] != toy.spec.levels[2]


def test_levels_that_are_not_better_change_nothing(run: Any, toy: SavedModel, tmp_path: Path, verdict: Any) -> None:
    verdict(better=False)
    for place in ((), ("--out", "copy")):
        ran = run("tune-levels", "toy", "--steps", 2, *place, *QUICK)
        assert ran.code == 0
        assert ran.out.splitlines()[1].endswith("kept")
        assert ran.out.endswith("nothing stored: none of the levels found are better on fresh noise\n")
    assert read(toy.directory) == toy
    assert [entry.name for entry in tmp_path.iterdir()] == ["toy"]


def test_rows_are_json_with_pure_noise_as_text(run: Any, toy: SavedModel, verdict: Any) -> None:
    pure = rewrite(toy, replace(toy.spec, levels={2: (float("inf"), 60.0)}), toy.directory)
    verdict(better=True)
    ran = run("tune-levels", "toy", "--steps", 2, "--json", "-", *QUICK)
    (row,) = json.loads(ran.out)
    found = read(pure.directory).spec.levels[2]
    assert (row["steps"], row["metric"], row["stored"]) == (2, "wasserstein", True)
    assert (row["levels_before"], row["levels_found"]) == (["inf", 60.0], ["inf", found[1]])
    assert (row["score_before"], row["score_found"]) == (2.0, 1.0)
    assert "stored in toy" in ran.err


@pytest.mark.parametrize("name", ["toy", "user/toy"])
def test_a_model_that_is_not_the_users_own_needs_a_place_for_the_copy(
    run: Any, toy: SavedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verdict: Any, name: str
) -> None:
    """One that is built in, and one of the hub."""
    toy.directory.rename(tmp_path / "hidden")
    monkeypatch.setattr("fewstep.models.finding.built_in", lambda: ["toy"])
    monkeypatch.setattr("fewstep.models.finding.BUILT_IN", tmp_path / "package")
    (tmp_path / "package").mkdir()
    (tmp_path / "hidden").rename(tmp_path / "package" / "toy")
    monkeypatch.setattr("fewstep.models.finding._download", lambda name: tmp_path / "package" / "toy")
    ran = run("tune-levels", name, "--steps", 2, *QUICK)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == (
        f"fewstep: the model '{name}' is not in a directory of yours: give --out for a copy with new levels\n"
    )
    verdict(better=True)
    assert run("tune-levels", name, "--steps", 2, "--out", "copy", *QUICK).code == 0
    assert read(tmp_path / "copy").spec.levels[2] != toy.spec.levels[2]
    assert read(tmp_path / "package" / "toy").hash == toy.hash


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--metric", "frechet"), "metric for the model 'tiny-points' must be wasserstein, got 'frechet'"),
        (("--metric", "beauty"), "metric for the model 'tiny-points' must be wasserstein, got 'beauty'"),
        (("--guidance", 2), "the model 'tiny-points' has no prompt or label for guidance to strengthen"),
        (("--out", "toy/network.onnx"), "'toy/network.onnx' contains something other than a model"),
    ],
)
def test_what_does_not_fit_is_one_line_before_the_search(
    run: Any, toy: SavedModel, arguments: tuple[Any, ...], said: str
) -> None:
    ran = run("tune-levels", "toy", *arguments)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert said in ran.err
    assert read(toy.directory) == toy
