"""What the commands do when all is well."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fewstep import pictures
from fewstep.cli.main import COMMANDS, GROUPS
from fewstep.cli.output import image_paths, slug
from fewstep.cli.train import RECIPES
from fewstep.generation import Model, Request
from tiny_models import SIDE, TinyModels


@pytest.fixture(autouse=True)
def in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def student(tiny: TinyModels) -> Path:
    return tiny.student.directory


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, run: Any) -> None:
    ran = run(*name.split(), "--help")
    assert (ran.code, ran.err) == (0, "")
    assert f"usage: fewstep {name}" in ran.out
    assert len(ran.out.splitlines()) > 5


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_explains_its_settings(recipe: str, run: Any) -> None:
    ran = run("train", recipe, "--help")
    assert (ran.code, ran.err) == (0, "")
    assert f"usage: fewstep train {recipe}" in ran.out
    assert "--out" in ran.out


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_the_overview_names_every_command(words: list[str], run: Any) -> None:
    ran = run(*words)
    assert ran.code == 0
    assert all(f"  {name} " in ran.out for name in COMMANDS)


@pytest.mark.parametrize("words", [[], ["--help"]])
@pytest.mark.parametrize("group", GROUPS)
def test_a_group_explains_itself(group: str, words: list[str], run: Any) -> None:
    ran = run(group, *words)
    assert ran.code == 0
    assert ran.out.startswith(f"usage: fewstep {group} COMMAND [OPTIONS]\n\n{GROUPS[group]}\n")
    assert f"  fewstep {group} COMMAND --help explains a command.\n" in ran.out
    inside = [name.split()[1] for name in COMMANDS if name.startswith(f"{group} ")]
    assert [line.split()[0] for line in ran.out.split("commands:\n")[1].split("\n\n")[0].splitlines()] == inside


def test_every_group_is_explained() -> None:
    assert set(GROUPS) == {name.split()[0] for name in COMMANDS if " " in name}


def test_the_version(run: Any) -> None:
    import fewstep

    assert run("--version").out == f"fewstep {fewstep.__version__}\n"


def test_one_prompt_goes_to_the_file_that_was_named(run: Any, student: Path, tmp_path: Path) -> None:
    ran = run("generate", "red apple", "--model", student, "--seed", 7, "--out", "apple.webp", "--size", "32x24")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("apple.webp  32×24  steps 1  evaluations 1  ")
    assert ran.out.endswith("seed 7\n")
    assert names(tmp_path) == ["apple.webp"]
    record = pictures.read_record("apple.webp")
    assert record is not None
    assert (record.prompt, record.seed, record.size) == ("red apple", 7, (32, 24))


def test_several_prompts_and_images_are_named_by_prompt_and_seed(run: Any, student: Path, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    ran = run(
        "generate", "red apple", "Cat: face!", "", "--model", student, "--n", 2, "--seed", 3, "--out", "pictures"
    )
    assert ran.code == 0
    expected = [
        "cat-face-3.png",
        "cat-face-4.png",
        "image-3.png",
        "image-4.png",
        "red-apple-3.png",
        "red-apple-4.png",
    ]
    assert names(tmp_path / "pictures") == expected
    record = pictures.read_record(tmp_path / "pictures" / "cat-face-4.png")
    assert record is not None
    assert (record.prompt, record.seed, record.index) == ("Cat: face!", 4, 1)


def test_without_out_images_are_written_here(run: Any, student: Path, tmp_path: Path) -> None:
    assert run("generate", "rocket", "--model", student, "--seed", 1).code == 0
    assert names(tmp_path) == ["rocket-1.png"]


def test_several_images_are_numbered_after_the_file_that_was_named(run: Any, student: Path, tmp_path: Path) -> None:
    assert run("generate", "a", "b", "--model", student, "--n", 2, "--seed", 1, "--out", "x.jpg").code == 0
    assert names(tmp_path) == ["x-1.jpg", "x-2.jpg", "x-3.jpg", "x-4.jpg"]
    records = [pictures.read_record(f"x-{i}.jpg") for i in (1, 2, 3, 4)]
    assert [(r.prompt, r.seed) for r in records if r] == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]


def test_prompts_that_would_share_a_name_do_not_overwrite_each_other(run: Any, student: Path, tmp_path: Path) -> None:
    assert run("generate", "red apple", "Red apple!", "red-apple", "--model", student, "--seed", 1).code == 0
    assert names(tmp_path) == ["red-apple-1-2.png", "red-apple-1-3.png", "red-apple-1.png"]
    prompts = {pictures.read_record(file).prompt for file in tmp_path.iterdir()}  # type: ignore[union-attr]
    assert prompts == {"red apple", "Red apple!", "red-apple"}


def test_a_default_name_that_is_taken_leaves_the_picture_there_alone(run: Any, student: Path, tmp_path: Path) -> None:
    for steps in (1, 2, 3):
        ran = run("generate", "rocket", "--model", student, "--seed", 1, "--steps", steps, "--json", "-")
        assert json.loads(ran.out)[0]["file"] == ("rocket-1.png" if steps == 1 else f"rocket-1-{steps}.png")
    assert names(tmp_path) == ["rocket-1-2.png", "rocket-1-3.png", "rocket-1.png"]
    steps_of = {file.name: pictures.read_record(file).steps for file in tmp_path.iterdir()}  # type: ignore[union-attr]
    assert steps_of == {"rocket-1.png": 1, "rocket-1-2.png": 2, "rocket-1-3.png": 3}


def test_a_file_that_was_named_is_replaced(run: Any, student: Path, tmp_path: Path) -> None:
    for seed in (1, 2):
        assert run("generate", "rocket", "--model", student, "--seed", seed, "--out", "x.png").code == 0
    assert names(tmp_path) == ["x.png"]
    assert pictures.read_record("x.png").seed == 2  # type: ignore[union-attr]


def test_hundreds_of_equal_names_are_numbered_at_once() -> None:
    start = time.process_time()
    paths = image_paths(None, ["x"] * 640)
    assert time.process_time() - start < 3
    assert [path.name for path in paths] == ["x.png", *(f"x-{i}.png" for i in range(2, 641))]
    assert [path.name for path in image_paths(None, ["x", "x-2", "x"])] == ["x.png", "x-2.png", "x-3.png"]


def test_each_prompts_images_are_written_before_the_next_is_drawn(
    run: Any, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: list[list[str]] = []
    draw = Model.draw

    def watched(self: Model, plan: Any) -> Any:
        there.append(names(tmp_path))
        return draw(self, plan)

    monkeypatch.setattr(Model, "draw", watched)
    assert run("generate", "a", "b", "--model", student, "--n", 2, "--seed", 1).code == 0
    assert there == [[], ["a-1.png", "a-2.png"]]


def test_a_mistake_in_the_last_prompt_shows_before_the_first_is_drawn(
    run: Any, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Model.plan

    def picky(self: Model, request: Request) -> Any:
        return plan(self, replace(request, sampler="magic" if request.prompt == "b" else None))

    drawn: list[Any] = []
    monkeypatch.setattr(Model, "plan", picky)
    monkeypatch.setattr(Model, "run", lambda self, plan: drawn.append(plan))
    assert run("generate", "a", "b", "--model", student).code == 2
    assert drawn == names(tmp_path) == []


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG"])
def test_a_jpeg_is_white_in_the_file_its_record_and_the_report(run: Any, student: Path, suffix: str) -> None:
    ran = run("generate", "cat", "--model", student, "--out", f"x{suffix}", "--seed", 1, "--json", "-")
    assert json.loads(ran.out)[0]["background"] == "white"
    record = pictures.read_record(f"x{suffix}")
    assert record is not None
    assert record.background == "white"
    assert run("generate", "cat", "--model", student, "--out", f"x{suffix}", "--background", "black").code == 0
    assert pictures.read_record(f"x{suffix}").background == "black"  # type: ignore[union-attr]


def test_other_files_and_directories_keep_transparency(run: Any, student: Path, tmp_path: Path) -> None:
    (tmp_path / "pictures.jpg").mkdir()
    for out in ("x.webp", "pictures.jpg"):
        ran = run("generate", "cat", "--model", student, "--out", out, "--seed", 1, "--json", "-")
        assert json.loads(ran.out)[0]["background"] == "transparent"


def test_metadata_can_be_left_out(run: Any, student: Path) -> None:
    assert run("generate", "cat", "--model", student, "--out", "x.png", "--no-metadata").code == 0
    assert pictures.read_record("x.png") is None


def test_json_on_stdout_is_pure_and_says_what_the_files_say(run: Any, student: Path) -> None:
    ran = run("generate", "red apple", "zeppelin", "--model", student, "--seed", 7, "--json", "-")
    rows = json.loads(ran.out)
    assert [row["file"] for row in rows] == ["red-apple-7.png", "zeppelin-7.png"]
    for row in rows:
        record = pictures.read_record(row.pop("file"))
        assert record is not None
        assert json.loads(record.to_json()) == row
    assert "red-apple-7.png" in ran.err  # people read there meanwhile
    assert rows[1]["unknown_words"] == ["zeppelin"]


def test_json_to_a_file_leaves_stdout_to_people(run: Any, student: Path, tmp_path: Path) -> None:
    ran = run("generate", "cat", "--model", student, "--seed", 7, "--json", "report.json")
    assert json.loads((tmp_path / "report.json").read_text())[0]["seed"] == 7
    assert ran.out.startswith("cat-7.png")
    assert names(tmp_path) == ["cat-7.png", "report.json"]


def test_words_that_the_model_never_saw_and_those_it_did_not_read_are_said(run: Any, student: Path) -> None:
    ran = run("generate", "kitty", "--model", student)
    assert "'kitty': the model never saw kitty; nearest captions: cat face (0." in ran.out
    ran = run("generate", "q" * 5000, "--model", student)
    assert len(ran.out + ran.err) < 600
    assert f"'{'q' * 80}…': the model never saw" in ran.out
    ran = run("generate", "cat face " * 9, "--model", student)
    assert "too long, the model reads 8 tokens, not: 'cat face cat face cat face cat face cat face'" in ran.out
    assert "never saw" not in ran.out


def test_a_control_image_is_read(run: Any, student: Path) -> None:
    sketch = Image.new("RGB", (30, 30), "white")
    sketch.paste("red", (8, 8, 22, 22))
    sketch.save("sketch.png")
    for out, more in (("plain.png", []), ("steered.png", ["--control", "sketch.png"])):
        assert run("generate", "cat", "--model", student, "--seed", 1, "--out", out, *more).code == 0
    assert Image.open("plain.png").tobytes() != Image.open("steered.png").tobytes()


def test_a_control_photo_is_turned_upright(run: Any, student: Path) -> None:
    upright = Image.new("RGB", (32, 32), "white")
    upright.paste("red", (4, 4, 14, 28))
    upright.save("upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # what a phone writes that was held on its side
    upright.transpose(Image.Transpose.ROTATE_90).save("turned.png", exif=exif)
    for name in ("upright", "turned"):
        options = ["--seed", 1, "--out", f"{name}-out.png", "--control", f"{name}.png"]
        assert run("generate", "cat", "--model", student, *options).code == 0
    assert Image.open("upright-out.png").tobytes() == Image.open("turned-out.png").tobytes()


def test_a_control_image_of_a_format_that_runs_programs_is_refused(run: Any, student: Path) -> None:
    Image.new("RGB", (8, 8), "red").save("sketch.eps")
    ran = run("generate", "cat", "--model", student, "--control", "sketch.eps")
    assert ran.code == 2
    assert "'sketch.eps' is not an image that can be read: not an image of an accepted format" in ran.err


def test_both_engines_can_be_asked_for(run: Any, student: Path) -> None:
    for engine in ("onnx", "eager"):
        assert run("generate", "cat", "--model", student, "--out", f"{engine}.png", "--engine", engine).code == 0
        record = pictures.read_record(f"{engine}.png")
        assert record is not None
        assert record.engine == engine


def test_a_record_is_shown_and_two_are_compared(run: Any, student: Path) -> None:
    for seed in (1, 2):
        run("generate", "cat face", "--model", student, "--seed", seed, "--out", f"{seed}.png")
    shown = run("record", "1.png")
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.startswith("cat face\n")
    assert "Seed: 1, Size: 16x16" in shown.out
    assert re.search(r"^engine +onnx float32 on ", shown.out, re.MULTILINE)
    assert json.loads(run("record", "1.png", "--json", "-").out)["prompt"] == "cat face"
    compared = run("record", "1.png", "2.png")
    assert "seed" in compared.out
    changes = {change["field"]: change for change in json.loads(run("record", "1.png", "2.png", "--json", "-").out)}
    assert (changes["seed"]["before"], changes["seed"]["after"]) == (1, 2)
    assert "prompt" not in changes
    assert "model_hash" not in changes


def test_a_model_is_shown(run: Any, tiny: TinyModels) -> None:
    ran = run("models", "show", tiny.student.directory, "--json", "-")
    values = json.loads(ran.out)
    assert (values["hash"], values["name"], values["licence"]) == (tiny.student.hash, "tiny", "CC0-1.0")
    assert values["lineage"] == [{"teacher": "tiny-teacher", "hash": "0" * 64}]
    plain = run("models", "show", tiny.student.directory)
    assert tiny.student.hash in plain.out
    assert "6, such as cat face" in plain.out


def test_models_list_is_json_too(run: Any, tiny: TinyModels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewstep.models.finding.BUILT_IN", tiny.student.directory.parent)
    rows = {row["name"]: row for row in json.loads(run("models", "list", "--json", "-").out)}
    assert set(rows) == {"tiny", "tiny-teacher", "tiny-points"}
    assert (rows["tiny"]["targets"], rows["tiny"]["size"], rows["tiny-teacher"]["steps"]) == (
        "clean",
        [SIDE, SIDE],
        3,
    )
    plain = run("models", "list").out
    assert len(plain.splitlines()) == 3
    assert "16×16" in plain


def test_evaluate_says_which_teacher_is_missing_and_gives_the_judge_its_threads(
    run: Any, student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[Any] = []
    monkeypatch.setattr("fewstep.measure.subjects.subject_for", lambda model, *rest: judged.append(rest))
    monkeypatch.setattr("fewstep.measure.evaluate.evaluate", lambda *measured: [])
    ran = run("evaluate", student, "--threads", 1, "--json", "-")
    assert (ran.code, json.loads(ran.out)) == (0, [])
    assert "the teacher 'tiny-teacher' (0000000000) that the model names is not the one" in ran.err
    assert "--teacher" in ran.err
    assert judged == [(None, 1)]


def test_a_preview_of_digits_is_a_picture(run: Any, tmp_path: Path) -> None:
    ran = run("data", "preview", "digits", "--n", 6, "--columns", 3, "--size", 8, "--out", "sheet.png")
    assert (ran.code, ran.err) == (0, "")
    assert "sheet.png: 6 of " in ran.out
    sheet = Image.open(tmp_path / "sheet.png")
    assert sheet.width > 3 * 100
    assert len(sheet.convert("L").getcolors() or range(99)) > 10


def test_the_module_of_the_command_line_runs_it() -> None:
    done = subprocess.run([sys.executable, "-m", "fewstep.cli.main", "models"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: fewstep models COMMAND" in done.stdout


def test_a_real_process_draws_and_reports(student: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from fewstep.cli.main import main; main()", "generate", "cat 🐱", "--n", "2"]
    done = subprocess.run(
        [*command, "--model", str(student), "--seed", "1", "--json", "-"], capture_output=True, text=True, check=True
    )
    rows = json.loads(done.stdout)
    assert [row["file"] for row in rows] == names(tmp_path) == ["cat-1.png", "cat-2.png"]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("A red Apple!", "a-red-apple"),
        ("", "image"),
        ("🍎", "image"),
        ("../../etc/passwd", "etc-passwd"),
        ("x" * 100, "x" * 40),
        ("été 猫", "été-猫"),
        ("a\nb\0c", "a-b-c"),
    ],
)
def test_a_prompt_as_a_file_name(text: str, name: str) -> None:
    assert slug(text) == name
    assert image_paths(None, [slug(text)]) == [Path(f"{name}.png")]
