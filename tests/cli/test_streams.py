"""Pipes, links, terminals and signals: what a command writes into, and how it stops."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from fewstep.cli.main import main
from fewstep.cli.output import check_json, say, write_json
from tiny_models import TinyModels

COMMAND = [sys.executable, "-c", "from fewstep.cli.main import main; main()"]


def environment(**changes: str) -> dict[str, str]:
    """This process's, with Python's own buffering."""
    return {**{k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}, **changes}


@pytest.mark.parametrize("words", [["--help"], ["models", "list"], ["generate", "--help"]])
def test_a_reader_that_left_is_no_error_to_talk_about(words: list[str]) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    with os.fdopen(writes, "wb") as gone:
        done = subprocess.run([*COMMAND, *words], stdout=gone, stderr=subprocess.PIPE, env=environment())
    assert (done.returncode, done.stderr) == (141, b"")


def test_ctrl_c_in_the_middle_of_work_is_one_word(tmp_path: Path) -> None:
    pipe = tmp_path / "never.png"
    os.mkfifo(pipe)
    process = subprocess.Popen(
        ["env", "--default-signal=INT", *COMMAND, "record", str(pipe)],  # a shell's background job ignores it
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
        text=True,
    )
    with pipe.open("wb"):  # opens once the command reads
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "stopped\n")


def test_a_link_to_a_report_stays_a_link(run: Any, tiny: TinyModels, tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to("report.json")
    for _ in ("new", "over the old one"):
        assert run("models", "show", tiny.points.directory, "--json", tmp_path / "link.json").code == 0
        assert (tmp_path / "link.json").is_symlink()
        assert json.loads((tmp_path / "report.json").read_text())["hash"] == tiny.points.hash
    assert sorted(file.name for file in tmp_path.iterdir()) == ["link.json", "report.json"]


def test_a_report_into_a_pipe_fills_the_pipe(run: Any, tiny: TinyModels, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    assert run("models", "show", tiny.points.directory, "--json", pipe).code == 0
    assert pipe.is_fifo()
    reader.join(timeout=60)
    assert json.loads(read[0])["hash"] == tiny.points.hash


def test_a_pipe_is_written_into_whatever_its_directory_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tmp_path / "locked" / "pipe"
    pipe.parent.mkdir()
    os.mkfifo(pipe)
    access = os.access  # that refuses even root
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "locked" and access(path, mode))
    check_json(str(pipe))
    check_json("/dev/null")
    (pipe.parent / "link").symlink_to(tmp_path / "report.json")
    check_json(str(pipe.parent / "link"))
    with pytest.raises(PermissionError):
        check_json(str(pipe.parent / "report.json"))
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != pipe)
    with pytest.raises(PermissionError, match="permission denied"):
        check_json(str(pipe))


def test_numbers_that_json_lacks_become_null(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    value = {"kid": float("nan"), "rows": [(float("inf"), 1.5), {"ms": -float("inf")}], "n": 3, "ok": True}
    write_json("-", value)
    write_json(str(tmp_path / "report.json"), value)
    expected = {"kid": None, "rows": [[None, 1.5], {"ms": None}], "n": 3, "ok": True}
    for text in (capsys.readouterr().out, (tmp_path / "report.json").read_text()):
        assert json.loads(text, parse_constant=pytest.fail) == expected


def test_a_terminal_takes_no_commands_from_prompts_and_records(
    run: Any, tiny: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "\x1b]0;mine\x07 zeppelin \x9b2J\r\x7f"
    file = tmp_path / "x.png"
    drawn = run("generate", said, "--model", tiny.student.directory, "--out", file)
    shown = run("record", file)
    for ran in (drawn, shown):
        assert ran.code == 0
        assert "\\x1b]0;mine\\x07 zeppelin \\x9b2J\\x0d\\x7f" in ran.out
        assert set(ran.out) & set("\x1b\x07\x9b\r\x7f") == set()
    say("a\tb\nc é 🍎")
    assert capsys.readouterr().out == "a\tb\nc é 🍎\n"


def test_a_terminal_without_the_letters_still_gets_the_words_and_whole_json(tiny: TinyModels, tmp_path: Path) -> None:
    command = [*COMMAND, "generate", "été 🍎", "--model", str(tiny.student.directory), "--seed", "1"]
    ascii_only = environment(PYTHONIOENCODING="ascii")
    told = subprocess.run([*command, "--out", "a.png"], cwd=tmp_path, env=ascii_only, capture_output=True, text=True)
    assert (told.returncode, told.stderr) == (0, "")
    assert "16\\xd716" in told.stdout
    done = subprocess.run(
        [*command, "--json", "-", "--out", "b.png"], cwd=tmp_path, env=ascii_only, capture_output=True, text=True
    )
    assert json.loads(done.stdout)[0]["prompt"] == "été 🍎"


def test_an_unknown_command_of_a_group_is_told_those_of_the_group(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["models", "frobnicate"])
    assert stop.value.code == 2
    said = "fewstep: unknown command 'models frobnicate': one of models build-text, models import, models list, models show\n"
    assert capsys.readouterr().err == said


def test_drawing_an_image_imports_nothing_that_it_does_not_need(tiny: TinyModels, tmp_path: Path) -> None:
    code = """
import sys
from fewstep.cli.main import main
try:
    main(sys.argv[1:])
finally:
    print(*sorted(sys.modules), file=sys.stderr)
"""
    words = ["generate", "red apple", "--model", str(tiny.student.directory), "--out", str(tmp_path / "a.png")]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True, env=environment()
    )
    loaded = set(done.stderr.split())
    assert {"numpy", "onnxruntime", "tokenizers", "tyro"} <= loaded
    slow = {"torch", "typeguard", "asyncio", "unittest", "xml.etree", "importlib.metadata", "email", "ssl", "http"}
    slow |= {"huggingface_hub", "rich", "datasets", "numpy.ma", "numpy.fft", "numpy.polynomial", "scipy", "sklearn"}
    assert loaded & slow == set()
