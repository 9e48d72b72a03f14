"""Drawing as a tool for language models: its arguments once, in every dialect."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from fewstep.generation.request import SIZE


def _no_boolean(value: Any) -> Any:
    """pydantic takes true for 1."""
    if isinstance(value, bool):
        raise PydanticCustomError("int_type", "must be a whole number")
    return value


Prompt = Annotated[str, Field(description="What to draw, in a few plain words, such as 'a blue cat face'.")]
Seed = Annotated[
    int | None,
    BeforeValidator(_no_boolean),
    Field(ge=0, le=2**63 - 1, description="The same seed gives the same image."),
]
Steps = Annotated[
    int | None,
    BeforeValidator(_no_boolean),
    Field(ge=1, le=64, description="Jumps; the model's own choice if left out."),
]
Size = Annotated[
    str | None,
    Field(description=SIZE.description),
]

EditName = Literal["colorize", "super-resolve", "denoise"]

NAME = "draw_image"
DESCRIPTION = "Draw an image from a short prompt; it takes milliseconds."

Dialect = Literal["openai", "anthropic"]


class DrawImage(BaseModel):
    """The arguments of `draw_image`."""

    prompt: Prompt
    seed: Seed = None
    steps: Steps = None
    size: Size = None


def tool_schema(dialect: Dialect) -> dict[str, Any]:
    """The tool as a language model's API wants it declared.

    Args:
        dialect: `openai` for Chat Completions and what follows it, `anthropic` for Messages.
    """
    properties = {name: _plain(schema) for name, schema in DrawImage.model_json_schema()["properties"].items()}
    parameters = {"type": "object", "properties": properties, "required": ["prompt"], "additionalProperties": False}
    if dialect == "anthropic":
        return {"name": NAME, "description": DESCRIPTION, "input_schema": parameters}
    return {"type": "function", "function": {"name": NAME, "description": DESCRIPTION, "parameters": parameters}}


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """Without titles, defaults and `null`, which some models would write out."""
    kept = {key: value for key, value in schema.items() if key not in ("title", "default", "anyOf")}
    for option in schema.get("anyOf", []):
        if option.get("type") != "null":
            kept |= option
    return kept
