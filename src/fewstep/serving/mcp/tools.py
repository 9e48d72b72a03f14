"""The arguments of MCP's drawing tools, and the declaration of draw_image for the APIs of language models."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field as Described

from fewstep.editing.fields import Field
from fewstep.serving.engine.limits import Limits
from fewstep.serving.engine.typed_fields import pydantic_type

NAME = "draw_image"
DESCRIPTION = "Draw an image from a short prompt; it takes milliseconds."

Dialect = Literal["openai", "anthropic"]
Tool = TypeVar("Tool", bound=Callable[..., Any])


def with_arguments(fields: Iterable[Field], required: str = "") -> Callable[[Tool], Tool]:
    """Give a tool the fields as arguments, besides its own parameters; it receives them as `**arguments`.

    Args:
        fields: the fields, which may be left out or null, except for `required`.
        required: name of the required field; none if empty.
    """

    def decorate(tool: Tool) -> Tool:
        hints = typing.get_type_hints(tool, include_extras=True)
        given = {field.public: _argument(field, field.name == required) for field in fields}
        own = {
            name: parameter.replace(annotation=hints[name], kind=parameter.KEYWORD_ONLY)
            for name, parameter in inspect.signature(tool).parameters.items()
            if parameter.kind is not parameter.VAR_KEYWORD
        }
        parameters = [*{**given, **own}.values()]
        tool.__signature__ = inspect.Signature(parameters, return_annotation=hints["return"])  # type: ignore[attr-defined]
        return tool

    return decorate


def _argument(field: Field, is_required: bool) -> inspect.Parameter:
    hint: Any = pydantic_type(field) if is_required else pydantic_type(field) | None
    annotation: Any = Annotated[hint, Described(description=field.description)]
    default = inspect.Parameter.empty if is_required else None
    return inspect.Parameter(field.public, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def tool_schema(dialect: Dialect, limits: Limits) -> dict[str, Any]:
    """The tool's declaration for a language model's API: without null, which some models would write out.

    Args:
        dialect: `openai` for Chat Completions and compatible APIs, `anthropic` for Messages.
        limits: limits of the server that draws.
    """
    properties = {
        field.public: {**field.schema(), "description": field.description} for field in limits.fields("mcp", "draw")
    }
    parameters = {"type": "object", "properties": properties, "required": ["prompt"], "additionalProperties": False}
    if dialect == "anthropic":
        return {"name": NAME, "description": DESCRIPTION, "input_schema": parameters}
    return {"type": "function", "function": {"name": NAME, "description": DESCRIPTION, "parameters": parameters}}
