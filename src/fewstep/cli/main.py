"""`fewstep`: the entry point. A user error prints one line on stderr and exits with code 2."""

from __future__ import annotations

import difflib
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
    "edit inpaint": ("fewstep.cli.edit:inpaint", "redraw the masked part of an image"),
    "edit outpaint": ("fewstep.cli.edit:outpaint", "draw beyond an image's borders"),
    "edit stroke": ("fewstep.cli.edit:stroke", "turn a coloured sketch into an image"),
    "edit vary": ("fewstep.cli.edit:vary", "draw variations of an image"),
    "edit colorize": ("fewstep.cli.edit:colorize", "colour a grey image"),
    "edit super-resolve": ("fewstep.cli.edit:super_resolve", "enlarge a small image to the model's size"),
    "edit denoise": ("fewstep.cli.edit:denoise", "remove the noise from an image"),
    "edit interpolate": ("fewstep.cli.edit:interpolate", "draw the frames between two prompts or seeds"),
    "serve": ("fewstep.cli.serve:serve", "serve a model over HTTP: OpenAI's Images API, MCP, the studio"),
    "serve-key": ("fewstep.cli.serve:serve_key", "create an API key for the server"),
    "mcp": ("fewstep.cli.mcp:mcp", "serve the MCP tools on standard input and output"),
    "tool-schema": ("fewstep.cli.tool_schema:tool_schema", "print the drawing tool's schema for language models"),
    "export": ("fewstep.cli.export:export", "export a model's network for other programs"),
    "demo": ("fewstep.cli.demo:demo", "compare 1, 2 and 4 steps with the diffusion teacher on a dozen prompts"),
    "evaluate": ("fewstep.cli.evaluate:evaluate", "measure a model: quality against cost"),
    "tune-levels": ("fewstep.cli.tune_levels:tune_levels", "search and store the best noise levels for few steps"),
    "distill": ("fewstep.cli.distill:distill", "make a diffusers pipeline few-step, from captioned images"),
    "train": ("fewstep.cli.train:train", "train a recipe; the same command resumes an interrupted run"),
    "models list": ("fewstep.cli.models:list_models", "list the models in the package"),
    "models show": ("fewstep.cli.models:show", "show a model's description"),
    "models import": ("fewstep.cli.models:import_pipeline", "import a diffusers consistency pipeline"),
    "models build-text": ("fewstep.cli.models:build_text", "distil the token table from a sentence encoder"),
    "data emoji": ("fewstep.cli.data:emoji", "describe the emoji data: counts, groups, channel statistics"),
    "data stickers": ("fewstep.cli.data_stickers:stickers", "fetch and draw the stickers, and count them by artist"),
    "data preview": ("fewstep.cli.data:preview", "draw a contact sheet of training examples"),
    "bench training": ("fewstep.cli.bench_training:training", "compare the training loop with bare PyTorch"),
    "bench start": ("fewstep.cli.bench_start:start", "compare the time of `generate` with that of importing torch"),
    "bench engines": ("fewstep.cli.bench_engines:engines", "time a model on every installed engine"),
    "bench serving": ("fewstep.cli.bench_serving:serving", "measure what a request costs on top of the model"),
    "bench soak": ("fewstep.cli.bench_serving:soak", "measure the server's memory over thousands of requests"),
    "bench clients": ("fewstep.cli.bench_clients:clients", "run other people's clients against this server"),
    "bench peer": ("fewstep.cli.bench_engines:peer", "time one step in fewstep and in a diffusers pipeline"),
    "bench edits": ("fewstep.cli.bench_edits:edits", "measure how far few-step edits are from the true conditional"),
    "bench sketches": ("fewstep.cli.bench_edits:sketches", "measure how well sketches and styles are followed"),
    "bench studio": ("fewstep.cli.bench_studio:studio", "time the studio from pen to pixels in a browser"),
    "bench methods": ("fewstep.cli.bench_methods:methods", "compare all objectives on equal data and budget"),
    "record": ("fewstep.cli.record:record", "show what made an image, or what changed between two"),
    "pictures": ("fewstep.cli.pictures:pictures", "make the pictures in the docs"),
}

GROUPS = {
    "edit": "Make images from images: redraw a part, follow a sketch, vary, colour, enlarge, denoise, interpolate.",
    "models": "List, inspect and import models.",
    "data": "Inspect training data.",
    "bench": "Measure speed and quality on this machine.",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its exit code."""
    args = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # like stderr: a terminal without × must not stop us
    try:
        try:
            code = run(args)
        finally:
            sys.stdout.flush()  # here, where a closed pipe is handled, rather than when Python exits
        sys.exit(code)
    except KeyboardInterrupt as stopped:
        print(str(stopped) or "stopped", file=sys.stderr)
        sys.exit(getattr(stopped, "code", 130))
    except BrokenPipeError:
        # the reader of our output has gone: nothing to report, but Python would complain at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        if os.environ.get("FEWSTEP_TRACEBACK") or not is_user_error(error):
            raise
        print(f"{PROGRAM}: {one_line(error)}", file=sys.stderr)
        sys.exit(2)


def run(args: list[str]) -> int:
    """Find the command, run it and return its exit code."""
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
        print(f"{PROGRAM}: {_unknown(args, sorted(group))}", file=sys.stderr)
        return 2
    target, _ = COMMANDS[name]
    function = _import(target)
    if name in ("train", "distill", "serve"):
        return int(function(rest) or 0)
    return int(call(function, name, rest) or 0)


def call(function: Callable[..., Any], name: str, args: Sequence[str]) -> Any:
    """Call a function with the options in `args`; tyro's boxed error message becomes one line."""
    import tyro

    terminal, complaint = sys.stderr, io.StringIO()

    def parsed(*values: Any, **options: Any) -> Any:
        sys.stderr = terminal
        return function(*values, **options)

    parsed.__doc__, parsed.__name__ = function.__doc__, function.__name__
    parsed.__annotations__ = {name: _spelt_out(hint) for name, hint in _hints(function).items()}
    parsed.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    sys.stderr = complaint
    try:
        return tyro.cli(parsed, prog=f"{PROGRAM} {name}", args=args)
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
    """`X | Y` as `Union[X, Y]`: tyro checks a default of the former with typeguard, whose import takes longer than
    drawing an image."""
    if isinstance(hint, types.UnionType):
        return typing.Union[typing.get_args(hint)]  # noqa: UP007
    if typing.get_origin(hint) is typing.Annotated:
        return typing.Annotated[_spelt_out(hint.__origin__), *hint.__metadata__]
    return hint


def _unboxed(text: str) -> str:
    """The first section of tyro's error message, without the box, the title and the list of attempts."""
    lines = [re.sub(r"[│╭╮╰╯]|[─-]{3,}", " ", line).strip() for line in text.splitlines()[1:]]
    inside = takewhile(bool, dropwhile(lambda line: not line, lines))  # up to the next rule, which is empty by now
    words = " ".join(" ".join(inside).split())
    return _plain(re.split(" Got errors:| For full helptext", words)[0].rstrip(". "))


def _plain(complaint: str) -> str:
    """tyro's error message about a value in plain words: what was expected and what was given."""
    if missing := re.match(r"Missing value for argument '(.+?)'", complaint):
        return f"{missing[1]} needs a value"
    if missing := re.match(r"Missing from [^:]+: (--\S+|[A-Z]\S*(?=(.+?)\.? \(required\)))", complaint):
        return f"{missing[1]} is required" + (f" ({missing[2].strip()})" if missing[2] else "")
    if wrong := re.fullmatch(r"invalid choice (.+) for argument '(.+?)'\. Expected one of \((.+)\)", complaint):
        choices = sorted(set(re.findall(r"'(.+?)'", wrong[3])) - {"None"})
        return f"{wrong[2]} must be one of {', '.join(choices)}, got {wrong[1]}"
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


def _unknown(args: list[str], group: list[str]) -> str:
    """What to say about an unknown command: what was probably meant, or else what there is."""
    given, known = " ".join(args[:2]), group or sorted({command.split()[0] for command in COMMANDS})
    if group:
        within = {command.partition(" ")[2]: command for command in group}
        near = [within[name] for name in difflib.get_close_matches(args[1], within, 1)]
    else:
        near = difflib.get_close_matches(given, COMMANDS, 1, 0.8) or difflib.get_close_matches(args[0], known, 1)
    shown = given if group else args[0]
    return f"unknown command '{shown}': " + (f"did you mean '{near[0]}'?" if near else f"one of {', '.join(known)}")


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


def is_user_error(error: BaseException) -> bool:
    """Whether the user can fix the error: fewstep raised it on purpose, or a file or package is missing."""
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
