"""A client or an operator never reads pydantic's own words."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from fewstep.serving.engine.validation import complaint, invalid


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid")

    needed: int = 0
    count: int = Field(1, ge=1, le=8)
    share: float = Field(0.5, gt=0, lt=1, allow_inf_nan=False)
    flag: bool = False
    name: str = Field("x", min_length=1, max_length=3)
    kind: Literal["a", "b"] = "a"
    corners: list[float] = Field([0, 1], min_length=2, max_length=2)
    place: Path = Path()
    nested: dict[str, int] = {}

    @field_validator("needed")
    @classmethod
    def even(cls, value: int) -> int:
        if value % 2:
            raise ValueError(f"must be even, got {value}")
        return value


class Needy(BaseModel):
    needed: int


def refused(kind: type[BaseModel], given: Any) -> ValidationError:
    with pytest.raises(ValidationError) as error:
        kind.model_validate(given)
    return error.value


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("count", 0, "count must be at least 1, got 0"),
        ("count", 9, "count must be at most 8, got 9"),
        ("count", "many", "count must be a whole number, got 'many'"),
        ("count", 1.5, "count must be a whole number, got 1.5"),
        ("count", None, "count must be a whole number, got null"),
        ("share", 0, "share must be above 0, got 0"),
        ("share", 1, "share must be below 1, got 1"),
        ("share", "x", "share must be a number, got 'x'"),
        ("share", float("nan"), "share must be a finite number, got NaN"),
        ("flag", "perhaps", "flag must be true or false, got 'perhaps'"),
        ("name", 3, "name must be text, got 3"),
        ("name", "", "name must have at least 1 characters, got ''"),
        ("name", "long", "name must have at most 3 characters, got 'long'"),
        ("kind", "c", "kind must be 'a' or 'b', got 'c'"),
        ("corners", 3, "corners must be a list, got 3"),
        ("corners", [1], "corners must have at least 2 entries"),
        ("corners", [1, 2, 3], "corners must have at most 2 entries"),
        ("corners", [1, "x"], "corners.1 must be a number, got 'x'"),
        ("place", 3, "place must be a path, got 3"),
        ("nested", 3, "nested must be an object, got 3"),
        ("other", 3, "other is not a field of this request"),
        ("needed", 3, "needed must be even, got 3"),
    ],
)
def test_what_is_wrong_is_said_in_plain_words(field: str, value: Any, said: str) -> None:
    error = invalid(refused(Message, {field: value}).errors())
    assert str(error) == said
    assert error.field == field.partition(".")[0]


def test_a_field_that_is_missing_is_named() -> None:
    assert str(invalid(refused(Needy, {}).errors())) == "needed is required"


def test_a_body_of_another_kind_is_named() -> None:
    assert str(invalid(refused(Message, [1]).errors())) == "the body must be an object"
    with pytest.raises(ValidationError) as error:
        Message.model_validate_json("{")
    assert str(invalid(error.value.errors())).startswith("the body must be valid JSON: EOF")


def test_a_complaint_of_another_kind_keeps_its_words() -> None:
    assert complaint({"type": "from the future", "msg": "Odd {it}", "input": 1}) == "Odd {it}, got 1"
