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
"""The fields that are options of every command; prompts are arguments."""


def _help(text: str) -> Any:
    return tyro.conf.arg(help=text)


@dataclass(frozen=True)
class Output:
    """What draws, and where the images go: options beside those of the table."""

    model: Annotated[str, _help("A built-in model, a directory, or user/name on the Hugging Face hub.")] = "emoji"
    out: Annotated[
        Path | None,
        _help(
            "A file (.png, .jpg, .webp), which is replaced, or an existing directory; by default the current one. In "
            "a directory the name is made of prompt and seed, followed by -2, -3, … where a file has that name."
        ),
    ] = None
    engine: Annotated[
        EngineName,
        _help(
            "onnx and openvino need no torch; eager and compiled are PyTorch; auto takes the fastest one that "
            "fewstep bench engines measured on this machine."
        ),
    ] = "onnx"
    precision: Annotated[
        Literal["float32", "bfloat16"] | None, _help("Precision of the arithmetic; openvino also has bfloat16.")
    ] = None
    device: Annotated[str, _help("Device for eager and compiled: cpu, cuda or mps.")] = "cpu"
    metadata: Annotated[bool, _help("Whether to write the record into the image.")] = True
    json: Annotated[str | None, _help("Write a report as JSON to this file, or to standard output with -.")] = None


@dataclass(frozen=True)
class Drawing:
    """What a command's options say.

    Args:
        values: of the table's fields, by public name.
        output: what draws, and where the images go.
    """

    values: Mapping[str, Any]
    output: Output

    def with_values(self, **values: Any) -> Drawing:
        """The same with these values of fields."""
        return replace(self, values={**self.values, **values})


def drawing_command(**defaults: Any) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Make a command of a function: its own parameters, and in place of `drawing` the options of `fewstep generate`.

    Args:
        defaults: of options, where they are not the table's.
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
    """A function's parameters but `drawing`; options that are fields of the table get their help from it."""
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
    """A type with the help of its field."""
    return Annotated[hint, _help(field.description)]
