"""The fields of a request as data (name, type, bounds and help), from which every surface is derived.

Checks, command-line options, JSON schemas and the tables in the docs come from these records, so that no bound or
explanation is written twice. This module has the kinds of fields and those of edits; `fewstep.generation.request` has
the others, and the table of all.
"""

from __future__ import annotations

import math
import operator
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from numbers import Real
from types import NoneType
from typing import Any, ClassVar, Literal, Self

import numpy as np
from PIL import Image

from fewstep.editing.errors import RequestError

Surface = Literal["cli", "http", "live", "mcp"]
"""What carries a request: the command line, the Images API, the live wire, or tools for language models."""

Operation = Literal["draw", "interpolate", "edit", "outpaint"]
"""The operation that a field belongs to; the fields of "draw" apply to all operations."""

EVERYWHERE: frozenset[Surface] = frozenset({"cli", "http", "live", "mcp"})
BY_PROGRAMS: frozenset[Surface] = EVERYWHERE - {"mcp"}
"""The surfaces for programs: language models handle few fields well, so their tools have only the most useful."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Field(ABC):
    """One field of a request.

    Args:
        name: in `Request` or `Edit`.
        help: one sentence, without the bounds.
        default: default value; None for the model's or the operation's own.
        public: its name on every surface but Python, if different.
        operation: the operation that it belongs to.
        surfaces: the surfaces that have it.
        only: the models that take it, if not all do.
    """

    name: str
    help: str
    default: Any = None
    public: str = ""
    operation: Operation = "draw"
    surfaces: frozenset[Surface] = EVERYWHERE
    only: str = ""

    type: ClassVar[Any] = str
    """The type that a surface parses before the check."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "public", self.public or self.name)

    @abstractmethod
    def check(self, value: Any, name: str = "") -> Any:
        """The value as `Request` keeps it.

        Args:
            value: the value given.
            name: the field's name on the surface; `self.name` if left out.

        Raises:
            RequestError: the value has the wrong type or is out of bounds.
        """

    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """The allowed values as JSON Schema; without null."""

    @property
    def bounds(self) -> str:
        """The allowed values in words; empty if there is no restriction."""
        return ""

    @property
    def description(self) -> str:
        """The help, with the bounds and the models that take the field."""
        only = f" Only for {self.only}." if self.only else ""
        bounds = f" {self.bounds[:1].upper()}{self.bounds[1:]}." if self.bounds else ""
        return f"{self.help}{bounds}{only}"


@dataclass(frozen=True, eq=False, kw_only=True)
class Integer(Field):
    """A whole number, minimum … maximum, of Python, NumPy or another library; booleans are refused."""

    minimum: int
    maximum: int | None = None
    type: ClassVar[Any] = int

    def check(self, value: Any, name: str = "") -> int:
        name, number = name or self.name, whole(value)
        if number is None:
            raise RequestError(name, f"{name} must be a whole number {_span(self)}, got {_typed(value)}")
        if number < self.minimum or (self.maximum is not None and number > self.maximum):
            raise RequestError(name, f"{name} must be a whole number {_span(self)}, got {_shown(value)}")
        return number

    def schema(self) -> dict[str, Any]:
        if self.maximum is not None and self.maximum > 2**53:  # a power of two is exact where numbers are floats
            return {"type": "integer", **_limits(minimum=self.minimum, exclusiveMaximum=self.maximum + 1)}
        return {"type": "integer", **_limits(minimum=self.minimum, maximum=self.maximum)}

    @property
    def bounds(self) -> str:
        return _span(self)

    def limited(self, maximum: int) -> Self:
        """The field with its maximum lowered to this, if it is higher."""
        return replace(self, maximum=maximum if self.maximum is None else min(maximum, self.maximum))


@dataclass(frozen=True, eq=False, kw_only=True)
class Number(Field):
    """A number, minimum … maximum, excluding the minimum if `is_open`."""

    minimum: float
    maximum: float = math.inf
    is_open: bool = False
    type: ClassVar[Any] = float

    def check(self, value: Any, name: str = "") -> float:
        name = name or self.name
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        if not is_number:
            raise RequestError(name, f"{name} must be a number {_span(self)}, got {_typed(value)}")
        if not self.minimum <= value <= self.maximum or (self.is_open and value == self.minimum):
            raise RequestError(name, f"{name} must be {_span(self)}, got {_shown(value)}")
        try:
            return float(value)
        except OverflowError:
            return math.inf

    def schema(self) -> dict[str, Any]:
        lower = "exclusiveMinimum" if self.is_open else "minimum"
        return {"type": "number", **_limits(**{lower: self.minimum}, maximum=self.maximum)}

    @property
    def bounds(self) -> str:
        return _span(self)


@dataclass(frozen=True, eq=False, kw_only=True)
class Flag(Field):
    """True or false."""

    default: bool = False
    type: ClassVar[Any] = bool

    def check(self, value: Any, name: str = "") -> bool:
        name = name or self.name
        if not isinstance(value, bool):
            raise RequestError(name, f"{name} must be true or false, got {_typed(value)}")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True, eq=False, kw_only=True)
class Text(Field):
    """A text with a largest number of characters."""

    maximum: int

    def check(self, value: Any, name: str = "") -> str:
        name = name or self.name
        if not isinstance(value, str):
            raise RequestError(name, f"{name} must be text, got {_typed(value)}")
        if len(value) > self.maximum:
            raise RequestError(name, f"{name} must have at most {self.maximum} characters, got {len(value)}")
        try:
            value.encode()
        except UnicodeEncodeError as error:  # half of a surrogate pair: what undecodable bytes become
            wrong = f"{name} must be valid Unicode, got {value[error.start]!r} at {error.start}"
            raise RequestError(name, wrong) from None
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "maxLength": self.maximum}

    def limited(self, maximum: int) -> Self:
        """The field with its maximum lowered to this, if it is higher."""
        return replace(self, maximum=min(maximum, self.maximum))


@dataclass(frozen=True, eq=False, kw_only=True)
class Choice(Field):
    """One of several names, or a text that matches a pattern.

    Args:
        choices: the names.
        aliases: names that stand for another value; None counts as left out.
        pattern: regular expression of the other allowed texts.
        example: a text that matches it.
    """

    choices: Collection[str]
    aliases: Mapping[str, str | None] = field(default_factory=dict)
    pattern: str = ""
    example: str = ""

    def check(self, value: Any, name: str = "") -> str | None:
        name = name or self.name
        if isinstance(value, str):
            if value in self.aliases:
                return self.aliases[value]
            if value in self.choices or (self.pattern and re.fullmatch(self.pattern, value)):
                return value
        raise RequestError(name, f"{name} must be {self.bounds}, got {_shown(value)}")

    def schema(self) -> dict[str, Any]:
        if not self.pattern:
            return {"type": "string", "enum": self._names}
        return {"type": "string", "pattern": f"^({'|'.join([*self._names, self.pattern])})$"}

    @property
    def _names(self) -> list[str]:
        return [*self.choices, *self.aliases]

    @property
    def bounds(self) -> str:
        names = ", ".join(self._names)
        return f"one of {names}, or like {self.example}" if self.pattern else f"one of {names}"


@dataclass(frozen=True, eq=False, kw_only=True)
class Size(Field):
    """Width and height in pixels, each minimum … maximum: a pair, one number for both, or a text like 64x64; "auto"
    means the default."""

    minimum: int
    maximum: int

    def check(self, value: Any, name: str = "") -> tuple[int, int] | None:
        name = name or self.name
        if isinstance(value, str):
            return None if value == "auto" else self._checked(self._read(value, name), name)
        if whole(value) is not None:
            return self._checked((value, value), name)
        if not isinstance(value, (tuple, list)) or len(value) != 2:
            raise RequestError(name, f"{name} must be a width and a height, got {_shown(value)}")
        return self._checked(value, name)

    def _read(self, text: str, name: str) -> tuple[int, int]:
        match = re.fullmatch(r"(\d{1,20})(?:[xX×](\d{1,20}))?", text.strip())
        if match is None:
            raise RequestError(name, f"{name} must be like 64x64, {self._sides}, got {_shown(text)}")
        return int(match[1]), int(match[2] or match[1])

    def _checked(self, sides: Any, name: str) -> tuple[int, int]:
        width, height = (whole(side) for side in sides)
        if width is None or height is None or min(width, height) < self.minimum or max(width, height) > self.maximum:
            wanted = f"whole numbers between {self.minimum} and {self.maximum}"
            raise RequestError(name, f"width and height of {name} must be {wanted}, got {sides[0]}x{sides[1]}")
        return width, height

    @property
    def _sides(self) -> str:
        return f"each side between {self.minimum} and {self.maximum}"

    def schema(self) -> dict[str, Any]:
        side = digits_between(self.minimum, self.maximum)
        return {"type": "string", "pattern": f"^(auto|({side})x({side}))$"}

    @property
    def bounds(self) -> str:
        return f"WIDTHxHEIGHT, {self._sides}, or auto"


@dataclass(frozen=True, eq=False, kw_only=True)
class Picture(Field):
    """An image: a Pillow image in Python, a file on the command line, a data URL or an upload elsewhere."""

    def check(self, value: Any, name: str = "") -> Image.Image:
        name = name or self.name
        if not isinstance(value, Image.Image):
            raise RequestError(name, f"{name} must be a Pillow image, got a {type(value).__name__}")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "string"}


def whole(value: Any) -> int | None:
    """A whole number of any library as a Python int; None for anything else, including booleans."""
    if isinstance(value, (bool, np.bool_)):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def digits_between(low: int, high: int) -> str:
    """A regular expression for the whole numbers low … high, without leading zeros; 1 ≤ low ≤ high."""
    forms = []
    while low <= high:
        block = 1  # length of the run of numbers from low that share all but their last digits
        while low % (10 * block) == 0 and low + 10 * block - 1 <= high:
            block *= 10
        rest, digit = divmod(low // block, 10)
        last = min(9, digit + (high - low + 1) // block - 1)
        free = "[0-9]" * (len(str(block)) - 1)
        forms.append(f"{rest or ''}{digit if digit == last else f'[{digit}-{last}]'}{free}")
        low += (last - digit + 1) * block
    return "|".join(forms)


def _span(number: Integer | Number) -> str:
    """The bounds of a number in words."""
    if number.maximum in (None, math.inf):
        return f"at least {number.minimum}"
    low, high = (value if isinstance(value, int) else f"{value:g}" for value in (number.minimum, number.maximum))
    if isinstance(number, Number) and number.is_open:
        return f"above {low} and at most {high}"
    return f"between {low} and {high}"


def _limits(**limits: float | None) -> dict[str, float]:
    """The JSON Schema keywords of the limits that are set; whole numbers as integers."""
    return {
        name: int(limit) if float(limit).is_integer() else limit
        for name, limit in limits.items()
        if limit is not None and math.isfinite(limit)
    }


def _shown(value: Any) -> str:
    """A value for an error message, as written on most surfaces: texts in quotes, true and false, 2 for 2.0."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


_KINDS: Mapping[type, str] = {
    str: "the text",
    bool: "",
    int: "the number",
    float: "the number",
    list: "a list",
    tuple: "a list",
    dict: "an object",
    bytes: "bytes",
    NoneType: "nothing",
}


def _typed(value: Any) -> str:
    """A value of a wrong type for an error message, with its type: the text '4', a list, a Tensor."""
    kind = _KINDS.get(type(value), f"a {type(value).__name__}")
    shown = _shown(value) if isinstance(value, (str, bool, int, float)) else ""
    return f"{kind} {shown}".strip()


MASK = Picture(
    name="mask",
    help="Which pixels may change: the transparent ones or, in a mask without transparency, the white ones.",
    operation="edit",
    surfaces=BY_PROGRAMS,
)
STRENGTH = Number(
    name="strength",
    help="How far the result may depart from the image; at 1, parts that may change are drawn from scratch.",
    minimum=0,
    maximum=1,
    is_open=True,
    operation="edit",
)
FIT = Integer(
    name="fit",
    help="Corrections of the noise before each step, so that the drawn part fits what is kept; "
    "each costs two network evaluations.",
    minimum=0,
    maximum=8,
    operation="edit",
    surfaces=BY_PROGRAMS,
)
NOISE = Number(
    name="noise",
    help="For denoise: standard deviation of the noise at the model's size, for pixels from 0 to 1; "
    "estimated if left out.",
    minimum=0,
    maximum=1,
    is_open=True,
    operation="edit",
    surfaces=BY_PROGRAMS,
)
LEFT, TOP, RIGHT, BOTTOM = MARGINS = tuple(
    Number(
        name=side,
        help=f"How far to draw beyond the {side} border, as a share of the image's {length}.",
        default=0.0,
        minimum=0,
        maximum=2,
        operation="outpaint",
        surfaces=frozenset({"cli"}),
    )
    for side, length in (("left", "width"), ("top", "height"), ("right", "width"), ("bottom", "height"))
)
