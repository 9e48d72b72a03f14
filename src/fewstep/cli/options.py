"""Command-line options made from the table of fields: those of `fewstep generate`, on every command that draws."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from fewstep.editing.fields import Field, Picture
from fewstep.generation.request import FIELDS, fields_of

ModelName = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
EngineName = Literal["auto", "onnx", "openvino", "eager", "compiled"]
OPTIONS = tuple(field for field in fields_of("cli", "draw") if field.name != "prompt")
"""The fields that are options of every command; prompts are positional arguments."""


def _help(text: str) -> Any:
    return tyro.conf.arg(help=text)


@dataclass(frozen=True)
class Output:
    """The model and engine that draw, and where the images go: options that are not in the table of fields."""

    model: Annotated[str, _help("A built-in model, a directory, or user/name on the Hugging Face hub.")] = "emoji"
    out: Annotated[
        Path | None,
        _help(
            "A file (.png, .jpg or .webp), which is overwritten, or an existing directory; by default the current "
            "directory. In a directory, files are named after the prompt and the seed, with -2, -3, … if the name is "
            "taken."
        ),
    ] = None
    engine: Annotated[
        EngineName,
        _help(
            "The engine: onnx and openvino do not need torch; eager and compiled run in PyTorch; auto is the fastest "
            "one that fewstep bench engines measured on this machine."
        ),
    ] = "onnx"
    precision: Annotated[
        Literal["float32", "bfloat16"] | None, _help("Precision of the arithmetic; openvino also has bfloat16.")
    ] = None
    device: Annotated[str, _help("Device of the engines eager and compiled: cpu, cuda or mps.")] = "cpu"
    metadata: Annotated[bool, _help("Whether to write the record into the image.")] = True
    json: Annotated[str | None, _help("Write a report as JSON to this file, or to standard output with -.")] = None


@dataclass(frozen=True)
class Drawing:
    """The options of a command.

    Args:
        values: values of the fields in the table, by public name.
        output: the model and engine that draw, and where the images go.
    """

    values: Mapping[str, Any]
    output: Output

    def with_values(self, **values: Any) -> Drawing:
        """A copy with these values of fields."""
        return replace(self, values={**self.values, **values})


def drawing_command(**defaults: Any) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Make a command from a function: its parameters, with `drawing` replaced by the options of `fewstep generate`.

    Args:
        defaults: defaults of options that differ from those in the table.
    """

    def decorate(function: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(function)
        def command(*arguments: Any, **values: Any) -> int:
            output = Output(**{field.name: values.pop(field.name) for field in dataclasses.fields(Output)})
            chosen = {field.public: values.pop(field.public) for field in OPTIONS}
            return function(*arguments, **values, drawing=Drawing(chosen, output))

        options = [_option(field, defaults.get(field.public, field.default)) for field in OPTIONS]
        hints = typing.get_type_hints(Output, include_extras=True)
        output = [_keyword(field.name, field.default, hints[field.name]) for field in dataclasses.fields(Output)]
        parameters = [*_own(function), *options, *output]
        command.__signature__ = inspect.Signature(parameters, return_annotation=int)  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        return command

    return decorate


def _own(function: Callable[..., int]) -> list[inspect.Parameter]:
    """The parameters of a function without `drawing`; options that are fields of the table get their help from it."""
    hints = typing.get_type_hints(function, include_extras=True)
    parameters = []
    for name, parameter in inspect.signature(function).parameters.items():
        is_field = parameter.kind is parameter.KEYWORD_ONLY and name in FIELDS
        hint = _documented(hints[name], FIELDS[name]) if is_field else hints[name]
        if name != "drawing":
            parameters.append(parameter.replace(annotation=hint))
    return parameters


def _option(field: Field, default: Any) -> inspect.Parameter:
    kind = Path if isinstance(field, Picture) else field.type
    return _keyword(field.public, default, _documented(kind if default is not None else kind | None, field))


def _keyword(name: str, default: Any, hint: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)


def _documented(hint: Any, field: Field) -> Any:
    """A type annotated with the help of its field."""
    return Annotated[hint, _help(field.description)]
