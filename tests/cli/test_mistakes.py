"""Every mistake of a user's is one line on stderr, exit code 2, and nothing half-written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fewstep.cli.main import COMMANDS, is_user_error, one_line
from fewstep.models.text import PromptError, check_prompt
from tiny_models import TinyModels

COMMANDS_WITH_JSON = [
    "generate", "demo", "evaluate", "models list", "models show", "data emoji", "data stickers", "bench training", "bench start",
    "record", "data preview", "bench engines", "bench serving", "bench soak", "bench peer", "bench edits", "bench methods",
    "bench sketches", "bench studio", "bench clients",
    "edit vary", "edit stroke", "edit inpaint", "edit outpaint", "edit colorize", "edit super-resolve", "edit denoise",
    "edit interpolate", "tune-levels",
]  # fmt: skip

ARGUMENTS = {
    "show": " x", "record": " x", "preview": " x", "vary": " plain.png", "stroke": " plain.png",
    "inpaint": " plain.png --mask plain.png", "outpaint": " plain.png --margin 0.5", "tune-levels": " x",
    "colorize": " plain.png", "super-resolve": " plain.png", "denoise": " plain.png", "interpolate": " x y",
}  # fmt: skip

WITHOUT = """
import sys
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = staticmethod(
    lambda name, *more: None if name.split(".")[0] == sys.argv[1] else find(name, *more)
)
"""  # as if the package in the first argument were not installed

MISTAKES: dict[str, tuple[str, str]] = {
    "no such command": ("draw", "unknown command 'draw': one of bench, data"),
    "a misspelt command": ("generat x", "unknown command 'generat': did you mean 'generate'?"),
    "a misspelt command of a group": ("edit inpant x", "unknown command 'edit inpant': did you mean 'edit inpaint'?"),
    "a cut command": ("serv --port 1", "unknown command 'serv': did you mean 'serve'?"),
    "the folder of a run": ("generate x --model {model}/..", "model.json is missing; it holds the model"),
    "steps 0": ("generate x --model {model} --steps 0", "steps must be a whole number between 1 and 1000, got 0"),
    "steps in words": ("generate x --model {model} --steps two", "--steps must be a whole number, got 'two'; see fewstep generate --help"),
    "n in words": ("evaluate {model} --n x", "--n must be a whole number, got 'x'; see fewstep evaluate --help"),
    "guidance in words": ("generate x --model {model} --guidance much", "--guidance must be a number, got 'much'"),
    "a rate in words": ("train toy --out runs --density.mean low", "--density.mean must be a number, got 'low'"),
    "no value": ("generate x --model {model} --size", "--size needs a value; see fewstep generate --help"),
    "unknown option": ("generate x --model {model} --stesp 2", "--stesp"),
    "seed -1": ("generate x --model {model} --seed -1", "seed must be a whole number between 0 and"),
    "n 0": ("generate x --model {model} --n 0", "n must be a whole number between 1 and 64, got 0"),
    "preview beyond memory": ("data preview digits --size 100000", "a data set of digits at 100000 pixels needs about"),
    "batch beyond memory": ("train digits --out new --teacher.batch 100000000", "lower the batch of 100000000, or the size of the images or of the network"),
    "preview of built-in data": ("data preview digits --flip", "'digits' is a built-in data set, which takes no flip: leave it out"),
    "size": ("generate x --model {model} --size large", "size must be like 64x64, each side between 8 and 2048, got 'large'"),
    "background": ("generate x --model {model} --background mauve", "background must be one of transparent, white"),
    "transparent jpeg": (
        "generate x --model {model} --background transparent --out x.jpg",
        "JPEG has no transparency: use .png or .webp",
    ),
    "guidance": ("generate x --model {model} --guidance 5", "must be between 1 and 4, got 5"),
    "sampler": ("generate x --model {model} --sampler heun", "the sampler 'heun' needs"),
    "unknown sampler": ("generate x --model {model} --sampler magic", "sampler must be one of"),
    "label": ("generate x --model {model} --label 1", "this model has no classes"),
    "negative prompt": ("generate x --model {model} --negative-prompt dog", "takes no negative prompt"),
    "second prompt too long": ("generate x {long} --model {model}", "at most 32000 characters"),
    "no such model": ("generate x --model nothing", "no model 'nothing': give one of the built-in models"),
    "empty model": ("generate x --model=", "a model's name must not be empty"),
    "unknown engine": ("generate x --model {model} --engine tpu", "'tpu'"),
    "unknown device": ("generate x --model {model} --engine eager --device banana", "device 'banana'"),
    "out in a missing directory": ("generate x --model {model} --out no/x.png", "directory 'no' does not exist"),
    "out of a wrong kind": ("generate x --model {model} --out x.bmp", "must end in .png, .jpg, .jpeg, .webp"),
    "out without a suffix": ("generate x --model {model} --out pictures", "must end in .png"),
    "out in a locked directory": ("generate x --model {model} --out locked", "permission denied"),
    "json is a directory": ("generate x --model {model} --json .", "is a directory: give the name of a file"),
    "no control image": ("generate x --model {model} --control no.png", "there is no control image 'no.png'"),
    "control image in words": ("generate x --model {model} --control notes.txt", "'notes.txt' is not an image"),
    "half a control image": ("generate x --model {model} --control half.png", "'half.png' is not an image"),
    "evaluate steps in words": ("evaluate {model} --steps 1,two", "steps must be whole numbers like 1,2,4"),
    "evaluate steps empty": ("evaluate {model} --steps=", "steps must be whole numbers like 1,2,4, got ''"),
    "evaluate steps 0": ("evaluate {model} --steps 1,0", "steps must be a whole number between 1 and 1000, got 0"),
    "evaluate nothing": ("evaluate {model} --n 0", "n must be"),
    "evaluate no model": ("evaluate nothing", "no model 'nothing'"),
    "tune no model": ("tune-levels nothing", "no model 'nothing'"),
    "tune without a model": ("tune-levels", "MODEL is required (A built-in model, a directory, or user/name on the hub); see"),
    "tune one step": ("tune-levels {model} --steps 2,1", "steps must be between 2 and 16, got 1"),
    "tune many steps": ("tune-levels {model} --steps 17", "steps must be between 2 and 16, got 17"),
    "tune steps in words": ("tune-levels {model} --steps two", "steps must be whole numbers like 1,2,4, got 'two'"),
    "tune on one caption": ("tune-levels {model} --n 1", "n must be a whole number between 2 and 100000, got 1"),
    "tune with one try": ("tune-levels {model} --tries 1", "tries must be a whole number between 2 and 100, got 1"),
    "tune in no rounds": ("tune-levels {model} --rounds 0", "rounds must be a whole number between 1 and 10, got 0"),
    "tune with seed -1": ("tune-levels {model} --seed -1", "seed must be a whole number between 0 and"),
    "tune on no threads": ("tune-levels {model} --threads 0", "--threads must be at least 1, got 0"),
    "tune what no judge knows": ("tune-levels {model}", "the model 'tiny' cannot be evaluated: there are judges for"),
    "tune into words": ("tune-levels {model} --out notes.txt", "'notes.txt' contains something other than a model"),
    "tune into other things": ("tune-levels {model} --out .", "'.' contains something other than a model"),
    "tune into a locked directory": ("tune-levels {model} --out locked/x", "cannot write 'locked/x'"),
    "unknown recipe": ("train cats --out runs", "unknown recipe 'cats': one of emoji, emoji-64, images"),
    "unknown setting": ("train toy --out runs --speed 9", "--speed"),
    "no data to train on": ("train images --out runs", "give --data: a folder of images"),
    "data that are not there": ("train images --data nowhere --out runs", "there is no folder or file 'nowhere'"),
    "no place to train": ("train toy", "--out is required; see fewstep train toy --help"),
    "train into a file": ("train toy --out notes.txt", "'notes.txt' is a file: give a directory"),
    "show no model": ("models show nothing", "no model 'nothing'"),
    "show a pickle": ("models show model.ckpt", "'model.ckpt' is a pickle, which fewstep does not load"),
    "preview to a wrong kind": ("data preview digits --out x.txt", "must end in .png"),
    "preview of none": ("data preview digits --n 0", "n must be at least 1, got 0"),
    "preview of an empty folder": ("data preview locked", "locked"),
    "record of no file": ("record no.png", "no.png"),
    "record of words": ("record notes.txt", "notes.txt"),
    "record of an image whose record is none": ("record deep.png", "deep.png: the record"),
    "record of an image without one": ("record plain.png", "'plain.png' has no record"),
    "demo in a missing directory": ("demo --out no/demo.png", "directory 'no' does not exist"),
    "pictures of nothing": ("pictures --only cat", "there is no picture 'cat'"),
    "pictures to nowhere": ("pictures --out no", "'no' is not a directory"),
    "bench of nothing": ("bench start --rounds 0", "--rounds must be at least 1, got 0"),
    "edit of no image": ("edit vary no.png --model {model}", "there is no image 'no.png'"),
    "edit of words": ("edit stroke notes.txt --model {model}", "'notes.txt' is not an image"),
    "edit without a mask": ("edit inpaint plain.png x --model {model}", "--mask"),
    "edit beyond no border": ("edit outpaint plain.png x --model {model}", "leave nothing to draw"),
    "edit far beyond": ("edit outpaint plain.png x --margin 3 --model {model}", "left must be between 0 and 2, got 3"),
    "edit with no mask": ("edit inpaint plain.png x --mask no.png --model {model}", "there is no mask 'no.png'"),
    "edit of strength 0": ("edit vary plain.png --strength 0 --model {model}", "strength must be above 0 and at most 1, got 0"),
    "edit with two steps more": ("edit vary plain.png --steps 0 --model {model}", "steps must be a whole number"),
    "super-resolve of a large image": (
        "edit super-resolve plain.png --model {model}",
        "image must be at most 8x8, half of what the model 'tiny' draws, to be enlarged, got 64x64",
    ),
    "noise 0": ("edit denoise plain.png --noise 0 --model {model}", "noise must be above 0 and at most 1, got 0"),
    "interpolate to nothing": ("edit interpolate x --model {model}", "an interpolation needs a second prompt"),
    "interpolate in one": ("edit interpolate x y --n 1 --model {model}", "n must be at least 2 in an interpolation"),
    "position 2": ("edit interpolate x y --position 2 --model {model}", "position must be between 0 and 1, got 2"),
    "film of one": ("edit interpolate x y --film x.png --position 0 --model {model}", "--position draws only one: leave out one of them"),
    "film of a wrong kind": ("edit interpolate x y --film x.gif --model {model}", "must end in .webp or .png"),
    "fit 9": ("edit colorize plain.png --fit 9 --model {model}", "fit must be a whole number between 0 and 8, got 9"),
    "bfloat16 of onnx": ("generate x --model {model} --precision bfloat16", "precision of the engine 'onnx' must be float32"),
    "export to a wrong kind": ("export {model} --out x.pb", "must end in .onnx, got 'x.pb'"),
    "export of no model": ("export nothing", "no model 'nothing'"),
    "serve at a name that is none": ("serve --model {model} --host no.such.host.invalid --without-keys", "cannot listen at"),
    "serve to others": ("serve --model {model} --host 0.0.0.0", "lets others in: give --keys-file"),
    "serve on a port that is none": ("serve --model {model} --port 70000", "--port: "),
    "serve with an unknown setting": ("serve --colour blue", "--colour"),
    "serve with no file": ("serve --file no.toml", "no.toml"),
    "serve with words for keys": ("serve --model {model} --keys-file notes.txt", "line 1 is not a hashed key"),
    "serve with a file that is not TOML": ("serve --file notes.txt", "'notes.txt' is not valid TOML"),
    "serve no model": ("serve --model nothing --port 0", "no model 'nothing'"),
    "mcp of no model": ("mcp --model nothing", "no model 'nothing'"),
    "tool schema for nobody": ("tool-schema --for nobody", "nobody"),
    "bench of an unknown client": ("bench clients --url http://127.0.0.1:9 --only nobody", "there is no client 'nobody': choose of openai, ai,"),
    "bench of no clients": ("bench serving {model} --clients 0", "--clients must be at least 1, got 0"),
    "bench of few requests": ("bench serving {model} --requests 10", "--requests must be at least 320, 10 for each client, got 10"),
    "soak of few requests": ("bench soak {model} --clients 2 --requests 19", "--requests must be at least 20, 10 for each"),
    "soak of no requests": ("bench soak {model} --requests 0", "--requests must be at least 1, got 0"),
    "serving in no rounds": ("bench serving {model} --rounds 0", "--rounds must be at least 1, got 0"),
    "engines in no rounds": ("bench engines {model} --rounds 0", "--rounds must be at least 1, got 0"),
    "engines on no threads": ("bench engines {model} --threads 0", "--threads must be at least 1, got 0"),
    "engines of no model": ("bench engines nothing", "no model 'nothing'"),
    "peer in no rounds": ("bench peer --rounds 0", "--rounds must be at least 1, got 0"),
    "training in no steps": ("bench training --steps 0", "--steps must be at least 1, got 0"),
    "training on no images": ("bench training --batch -1", "--batch must be at least 1, got -1"),
    "bench of too much": ("bench edits --size 100000000", "size must be between 2 and 512, got 100000000"),
    "sketches of nothing": ("bench sketches {model} --n 0", "--n must be at least 1, got 0"),
    "sketches too strong": ("bench sketches --strengths 1 9", "--strengths must be numbers between 0 and 4"),
    "sketches of a stranger": ("bench sketches {model}", "cannot be evaluated"),
    "a studio for no time": ("bench studio --seconds 0", "--seconds must be between 1 and 3600"),
    "bench of noise on a line": ("bench edits --edit denoise", "--edit denoise needs a --model"),
    "methods in no seeds": ("bench methods --seeds 0", "seeds must be at least 1, got 0"),
    "unknown method": ("bench methods --methods diffusion,magic", "methods must be among diffusion, flow_matching"),
    "unknown data of methods": ("bench methods --data sand", "data must be among mixture, digits, emoji, got sand"),
    "emoji in short": ("bench methods --short --data emoji", "data of the short form must be among mixture, digits, got"),
    "a plot without a suffix": ("bench methods --plot plot", "its name must end in .png"),
    "rows of nothing": ("bench methods --read notes.txt", "'notes.txt' does not hold rows of"),
    "rows of no file": ("bench methods --read no.json", "'no.json': No such file or directory"),
    "rows and training": ("bench methods --read no.json --seeds 2", "--read only shows existing rows: leave out"),
    "import of no pipeline": ("models import locked --out x", "'locked' has no readable model_index.json"),
    **{f"json of {name}": (f"{name}{ARGUMENTS.get(name.split()[-1], '')} --json no/x.json", "'no'")
       for name in COMMANDS_WITH_JSON},
}  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with things to stumble over; `locked` refuses writing, for root too."""
    from PIL import Image, PngImagePlugin

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEWSTEP_TRACEBACK", raising=False)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "model.ckpt").write_bytes(b"\x80")
    (tmp_path / "locked").mkdir()
    picture = Image.effect_noise((64, 64), 90)
    picture.save(tmp_path / "plain.png")
    deep = PngImagePlugin.PngInfo()
    deep.add_text("fewstep", '{"format_version":1,"prompt":' + "[" * 700 + "]" * 700 + "}")
    picture.save(tmp_path / "deep.png", pnginfo=deep)
    (tmp_path / "half.png").write_bytes((tmp_path / "plain.png").read_bytes()[:900])
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "locked" and access(path, mode))
    return tmp_path


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(name: str, run: Any, place: Path, tiny: TinyModels) -> None:
    words, complaint = MISTAKES[name]
    before = sorted(place.rglob("*"))
    filled = [word.format(model=tiny.student.directory, long="x" * 32_001) for word in words.split()]
    ran = run(*filled)
    assert ran.code == 2, ran
    assert ran.err.count("\n") == 1, ran.err
    assert ran.err.startswith("fewstep: ")
    assert complaint in ran.err
    assert ran.out == ""
    assert sorted(place.rglob("*")) == before


def test_a_mistake_in_a_real_process_has_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from fewstep.cli.main import main; main()"]
    done = subprocess.run(
        [*command, "generate", "x", "--steps", "0", "--json", "-"], capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "fewstep: steps must be a whole number between 1 and 1000, got 0\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "package"),
    [
        ("bench serving", "fastapi"),
        ("bench soak", "uvicorn"),
        ("bench peer", "torch"),
        ("bench peer", "diffusers"),
        ("bench training", "torch"),
        ("bench start", "torch"),
        ("bench methods", "torch"),
        ("bench studio", "playwright"),
    ],
)
def test_a_benchmark_without_its_packages_names_the_extra(words: str, package: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT + "from fewstep.cli.main import main\nmain(sys.argv[2:])", package]
    done = subprocess.run([*command, *words.split()], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert done.stderr == f"fewstep: this benchmark needs the package '{package}': pip install 'fewstep[lab]'\n"


def test_a_wrong_value_is_told_the_same_without_unicode(tmp_path: Path) -> None:
    """tyro's boxes are other boxes then."""
    command = [sys.executable, "-c", "from fewstep.cli.main import main; main()", "evaluate", "emoji", "--n", "x"]
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=plain)
    assert done.stderr == "fewstep: --n must be a whole number, got 'x'; see fewstep evaluate --help\n"


def test_a_defect_of_ours_is_not_passed_off_as_the_users() -> None:
    for defect in (KeyError("x"), AttributeError("y"), NotImplementedError("later"), ImportError("no module")):
        assert not is_user_error(defect)
    with pytest.raises(ValueError, match="invalid literal") as raised_here:  # not on purpose by fewstep
        int("x")
    assert not is_user_error(raised_here.value)
    with pytest.raises(PromptError) as raised_by_us:
        check_prompt("x" * 32_001)
    assert is_user_error(raised_by_us.value)
    assert is_user_error(FileNotFoundError("x"))
    assert is_user_error(ImportError("pip install 'fewstep[train]'"))


def test_an_error_without_words_still_says_its_name() -> None:
    assert one_line(ValueError()) == "ValueError"
    assert one_line(ValueError("two\n  lines")) == "two lines"
    assert one_line(ValueError("\x1b]0;mine\x07")) == "\\x1b]0;mine\\x07"


def test_ctrl_c_is_one_word(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(json: str | None = None) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("fewstep.cli.models.list_models", interrupted)
    ran = run("models", "list")
    assert (ran.code, ran.err) == (130, "stopped\n")


def test_every_command_that_reports_takes_json(run: Any) -> None:
    with_json = [name for name in COMMANDS if "--json" in run(*name.split(), "--help").out]
    assert sorted(with_json) == sorted(COMMANDS_WITH_JSON)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--data", "mixture,sand"), "data must be among"),
        (("--data", "emoji", "--short"), "data of the short form"),
        (("--data", "mixture", "--methods", "magic"), "methods must be among"),
        (("--evaluations", "0"), "evaluations must be at least 1"),
        (("--data", ""), "got nothing"),
    ],
)
def test_a_comparison_that_cannot_be_is_refused_before_any_training(
    run: Any, arguments: tuple[str, ...], said: str
) -> None:
    ran = run("bench", "methods", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
