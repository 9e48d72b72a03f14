"""`fewstep`: the entry point. A mistake of the user's is one line on stderr and exit code 2."""

from __future__ import annotations

import inspect
import io
import os
import re
import sys
import traceback
import types
import typing
from collections.abc import Callable, Sequence
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any

from fewstep.cli.output import printable

PROGRAM = "fewstep"

COMMANDS: dict[str, tuple[str, str]] = {
    "generate": ("fewstep.cli.generate:generate", "draw images from prompts"),
    "edit inpaint": ("fewstep.cli.edit:inpaint", "fill the part of an image that a mask leaves open"),
    "edit outpaint": ("fewstep.cli.edit:outpaint", "draw what lies beyond an image's borders"),
    "edit stroke": ("fewstep.cli.edit:stroke", "make an image of a coloured sketch"),
    "edit vary": ("fewstep.cli.edit:vary", "other versions of an image"),
    "edit colorize": ("fewstep.cli.edit:colorize", "colours for an image in grey"),
    "edit super-resolve": ("fewstep.cli.edit:super_resolve", "a small image at the model's size"),
    "edit denoise": ("fewstep.cli.edit:denoise", "an image without its noise"),
    "edit interpolate": ("fewstep.cli.edit:interpolate", "the way from one prompt or seed to another"),
    "serve": ("fewstep.cli.serve:serve", "serve a model over HTTP: OpenAI's Images API"),
    "serve-key": ("fewstep.cli.serve:serve_key", "make an API key for serve"),
    "mcp": ("fewstep.cli.mcp:mcp", "offer drawing as MCP tools on standard input and output"),
    "tool-schema": ("fewstep.cli.tool_schema:tool_schema", "the drawing tool as a language model's API wants it"),
    "export": ("fewstep.cli.export:export", "the network of a model for other programs"),
    "demo": ("fewstep.cli.demo:demo", "one sheet: a dozen prompts in 1, 2 and 4 steps beside the diffusion teacher"),
    "evaluate": ("fewstep.cli.evaluate:evaluate", "measure a model: quality against cost"),
    "tune-levels": ("fewstep.cli.tune_levels:tune_levels", "the best levels for few steps, searched and stored"),
    "train": ("fewstep.cli.train:train", "train a recipe; the same command again resumes"),
    "models list": ("fewstep.cli.models:list_models", "the models inside the package"),
    "models show": ("fewstep.cli.models:show", "everything a model says about itself"),
    "models import": ("fewstep.cli.models:import_pipeline", "a diffusers consistency pipeline as a model"),
    "models build-text": ("fewstep.cli.models:build_text", "distil the token table from a sentence encoder"),
    "data emoji": ("fewstep.cli.data:emoji", "the emoji data: how many, of which groups, channel statistics"),
    "data preview": ("fewstep.cli.data:preview", "a contact sheet of what training would see"),
    "bench training": ("fewstep.cli.bench:training", "the training loop beside bare PyTorch"),
    "bench start": ("fewstep.cli.bench:start", "a whole run of generate beside importing torch"),
    "bench engines": ("fewstep.cli.bench:engines", "a model on every engine that is installed"),
    "bench serving": ("fewstep.cli.bench_serving:serving", "the server: what a request costs beside the model"),
    "bench soak": ("fewstep.cli.bench_serving:soak", "the server's memory over thousands of requests"),
    "bench peer": ("fewstep.cli.bench:peer", "one step here and in a diffusers pipeline, in turn"),
    "bench edits": ("fewstep.cli.bench:edits", "how far few-step edits are from the true conditional"),
    "bench sketches": ("fewstep.cli.bench_drawing:sketches", "how well sketches and styles are followed"),
    "bench studio": ("fewstep.cli.bench_drawing:studio", "from the pen to new pixels, in a browser"),
    "bench methods": ("fewstep.cli.bench_methods:methods", "every objective on the same data, network and budget"),
    "record": ("fewstep.cli.record:record", "what made an image; with two images, what changed between them"),
    "pictures": ("fewstep.cli.pictures:pictures", "make the pictures of docs/concepts.md"),
}

GROUPS = {
    "edit": "Images made from images: a part of one, a sketch, another version, colours, detail; and between two.",
    "models": "Look at models, and make them of other programs' models.",
    "data": "Look at training data.",
    "bench": "Figures of this machine, printed for anyone.",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    args = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: a terminal without × is no reason to stop
    try:
        try:
            code = run(args)
        finally:
            sys.stdout.flush()  # here, where a reader that left is expected, not when Python ends
        sys.exit(code)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # the reader of our output left: not worth a word, but Python would say one at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        if os.environ.get("FEWSTEP_TRACEBACK") or not is_users(error):
            raise
        print(f"{PROGRAM}: {one_line(error)}", file=sys.stderr)
        sys.exit(2)


def run(args: list[str]) -> int:
    """Find the command and call it; 0 on success."""
    if args and args[0] in {"--version", "-V"}:
        from fewstep import __version__

        print(f"{PROGRAM} {__version__}")
        return 0
    if not args or args[0] in {"-h", "--help"}:
        print(overview())
        return 0
    name, rest = _command(args)
    if name is None:
        group = {command: entry for command, entry in COMMANDS.items() if command.startswith(f"{args[0]} ")}
        if group and args[1:2] in ([], ["-h"], ["--help"]):
            print(overview(args[0]))
            return 0
        known = ", ".join(sorted(group or {command.split()[0] for command in COMMANDS}))
        print(f"{PROGRAM}: unknown command '{' '.join(args[:2])}': one of {known}", file=sys.stderr)
        return 2
    target, _ = COMMANDS[name]
    function = _import(target)
    if name in ("train", "serve"):
        return int(function(rest) or 0)
    return int(call(function, name, rest) or 0)


def call(function: Callable[..., Any], name: str, args: Sequence[str]) -> Any:
    """Call a function with the options in `args`; tyro's boxed complaint about a wrong one becomes one line."""
    import tyro

    terminal, complaint = sys.stderr, io.StringIO()

    def understood(*values: Any, **options: Any) -> Any:
        sys.stderr = terminal
        return function(*values, **options)

    understood.__doc__, understood.__name__ = function.__doc__, function.__name__
    understood.__annotations__ = {name: _spelt_out(hint) for name, hint in _hints(function).items()}
    understood.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    sys.stderr = complaint
    try:
        return tyro.cli(understood, prog=f"{PROGRAM} {name}", args=args)
    except SystemExit as stop:
        sys.stderr = terminal
        if stop.code == 2 and complaint.getvalue():
            print(f"{PROGRAM}: {_unboxed(complaint.getvalue())}; see {PROGRAM} {name} --help", file=terminal)
        raise
    finally:
        sys.stderr = terminal


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    return typing.get_type_hints(function, include_extras=True)


def _spelt_out(hint: Any) -> Any:
    """`X | Y` as `Union[X, Y]`: tyro checks a default of the former with typeguard, which takes longer to import than
    an image to draw."""
    if isinstance(hint, types.UnionType):
        return typing.Union[typing.get_args(hint)]  # noqa: UP007
    return hint


def _unboxed(text: str) -> str:
    """The complaint's first section without its box, its title and what tyro tried inside."""
    lines = [re.sub(r"[│╭╮╰╯]|[─-]{3,}", " ", line).strip() for line in text.splitlines()[1:]]
    inside = takewhile(bool, dropwhile(lambda line: not line, lines))  # up to the next rule, which is empty by now
    words = " ".join(" ".join(inside).split())
    return _plain(re.split(" Got errors:| For full helptext", words)[0].rstrip(". "))


def _plain(complaint: str) -> str:
    """tyro's complaint about a value, in words: what was wanted and what came."""
    if missing := re.match(r"Missing value for argument '(.+?)'", complaint):
        return f"{missing[1]} needs a value"
    form = r"Error parsing (\S+): (?:no type matching .*(INT|FLOAT)\b.* from \[(.+)\]|.*(int\(\)|to float).*: (.+))"
    if wrong := re.fullmatch(form, complaint):
        option, kind, got = wrong[1], wrong[2] or wrong[4], wrong[3] or wrong[5]
        return f"{option} must be {'a whole number' if kind in ('INT', 'int()') else 'a number'}, got {got}"
    return complaint


def _command(args: list[str]) -> tuple[str | None, list[str]]:
    for length in (2, 1):
        name = " ".join(args[:length])
        if len(args) >= length and name in COMMANDS:
            return name, args[length:]
    return None, args


def overview(group: str = "") -> str:
    """The text of `fewstep --help`, or of `fewstep GROUP --help`."""
    program = f"{PROGRAM} {group}".rstrip()
    prefix = f"{group} " if group else ""
    texts = {name.removeprefix(prefix): text for name, (_, text) in COMMANDS.items() if name.startswith(prefix)}
    width = max(map(len, texts))
    example = "" if group else f" Try: {PROGRAM} generate 'a red apple' --seed 7"
    return "\n".join(
        [
            f"usage: {program} COMMAND [OPTIONS]",
            "",
            GROUPS.get(group, "Image generation in one to four steps: train it, distil it, measure it."),
            "",
            "commands:",
            *(f"  {name:<{width}}  {text}" for name, text in texts.items()),
            "",
            f"  {program} COMMAND --help explains a command.{example}",
        ]
    )


def _import(target: str) -> Callable[..., Any]:
    module, _, name = target.partition(":")
    function: Callable[..., Any] = getattr(__import__(module, fromlist=[name]), name)
    return function


def is_users(error: BaseException) -> bool:
    """Whether an error is the user's to mend: raised on purpose by fewstep, or a missing file or package."""
    if isinstance(error, OSError):
        return True
    if isinstance(error, ImportError):
        return "pip install" in str(error)
    frames = traceback.extract_tb(error.__traceback__)
    here = str(Path(__file__).resolve().parent.parent)
    deliberate = isinstance(error, (ValueError, RuntimeError)) and not isinstance(error, NotImplementedError)
    return deliberate and bool(frames) and str(Path(frames[-1].filename).resolve()).startswith(here)


def one_line(error: BaseException) -> str:
    """An error as one line, without control characters: it may quote a file's metadata."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        text = f"'{error.filename}': {error.strerror}"  # without the number
    return printable(" ".join(text.split())) or type(error).__name__


if __name__ == "__main__":
    main()
