"""Requests and responses of OpenAI's Images API, with fewstep's own fields."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PrivateAttr,
    create_model,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from fewstep.editing import fields as table
from fewstep.serving.engine.encoding import Format
from fewstep.serving.engine.limits import Limits
from fewstep.serving.engine.typed_fields import pydantic_type

IMAGES = 16
"""Most images of one edit, as in OpenAI's API; only the first is edited."""


def _no_boolean(value: Any) -> Any:
    """Refuse booleans for numbers, which pydantic would convert to 1 and 0."""
    if isinstance(value, bool):
        raise PydanticCustomError("number_type", "must be a number")
    return value


Whole = Annotated[int, BeforeValidator(_no_boolean)]


class NullIsLeftOut(BaseModel):
    """A model that accepts null for every optional field, and says so in its schema."""

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, values: Any) -> Any:
        return {k: v for k, v in values.items() if v is not None} if isinstance(values, dict) else values

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core)
        own = handler.resolve_ref_schema(schema)
        for name in own["properties"].keys() - set(own.get("required", ())):
            own["properties"][name] = _or_null(own["properties"][name])
        return schema


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A property's schema that also accepts null; the constraints apply to other values."""
    null = {"type": "null"}
    if null in schema.get("anyOf", ()):
        return schema
    about: dict[str, Any] = {key: schema[key] for key in ("title", "description", "default") if key in schema}
    return {"anyOf": [{key: value for key, value in schema.items() if key not in about}, null], **about}


class ImageFields(NullIsLeftOut):
    """How a client wants to be answered. OpenAI's fields that mean nothing here are ignored, and so are unknown ones,
    as OpenAI's own server does, so that newer clients work."""

    model_config = ConfigDict(extra="ignore", strict=False)

    model: str | None = Field(None, max_length=200, description="The model; the served one if left out.")
    output_format: Format = Field("png", description="Format of the files.")
    output_compression: Whole = Field(
        100, ge=0, le=100, description="Quality of a jpeg or webp; a webp of 100 is lossless."
    )
    response_format: Literal["b64_json", "url"] | None = Field(
        None,
        description="The files themselves, or addresses where they are for a while; for models named dall-e-… "
        "addresses if left out, else files.",
    )
    quality: str | None = Field(None, max_length=200, description="Not used, but repeated in the answer; see steps.")
    stream: bool = Field(False, description="Answer with server-sent events.")
    partial_images: Whole = Field(0, ge=0, le=3, description="With stream: intermediate images of the first image.")
    user: str | None = Field(None, max_length=1000, description="Taken and ignored.")
    session: str | None = Field(None, max_length=200, description="Only the latest request of a session counts.")

    drawing: ClassVar[tuple[table.Field, ...]] = ()
    """The request fields that the body has."""
    _ignored: tuple[str, ...] = PrivateAttr(())

    @property
    def ignored(self) -> tuple[str, ...]:
        """Names of what came with the body and is not used."""
        return self._ignored

    @ignored.setter
    def ignored(self, names: tuple[str, ...]) -> None:
        self._ignored = names

    @property
    def as_url(self) -> bool:
        """Whether the answer gives addresses; events always hold the files."""
        named = "url" if (self.model or "").startswith("dall-e-") else "b64_json"
        return (self.response_format or named) == "url" and not self.stream

    def values(self) -> dict[str, Any]:
        """The values of the request fields in the body, by public name."""
        return {field.public: getattr(self, field.public) for field in self.drawing}


class Source(BaseModel):
    """Either a URL, or the id of an image drawn before."""

    image_url: str | None = None
    file_id: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Source:
        if (self.image_url is None) == (self.file_id is None):
            raise PydanticCustomError("source", "must be an object with either image_url or file_id")
        return self


class Generation(ImageFields):
    """`POST /v1/images/generations`."""


class EditFields(ImageFields):
    """`POST /v1/images/edits` and `/variations`, beside their files."""


class EditBody(EditFields):
    """`POST /v1/images/edits` and `/variations` as JSON."""

    images: list[Source] = Field(
        min_length=1,
        max_length=IMAGES,
        description="The image to edit; further ones are named as ignored in the answer.",
    )
    mask: Source | None = Field(None, description=table.MASK.help)


Body = TypeVar("Body", bound=ImageFields)


def body_of(base: type[Body], fields: Iterable[table.Field], required: str = "") -> type[Body]:
    """A body with these request fields, of which only `required` must be given; images are fields of the base.

    Args:
        base: model with its other fields.
        fields: the request fields, with the bounds that apply here.
        required: name of the required field; none if empty.
    """
    drawing = tuple(field for field in fields if field.name != "mask")
    types: dict[str, Any] = {
        field.public: (
            pydantic_type(field),
            Field(... if field.name == required else field.default, description=field.description),
        )
        for field in drawing
    }
    body = create_model(base.__name__, __base__=base, __module__=base.__module__, __doc__=base.__doc__, **types)
    body.drawing = drawing
    return body


@dataclass(frozen=True)
class Bodies:
    """The bodies of one server's requests, with its limits."""

    generation: type[Generation]
    edit_form: type[EditFields]
    edit_json: type[EditBody]

    @classmethod
    def within(cls, limits: Limits) -> Bodies:
        """The bodies of a server with these limits."""
        edit = limits.fields("http", "draw", "edit")
        return cls(
            body_of(Generation, limits.fields("http", "draw", "interpolate"), required="prompt"),
            body_of(EditFields, edit),
            body_of(EditBody, edit),
        )


class ErrorInfo(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """Every answer that is no success."""

    error: ErrorInfo


class ImageInfo(BaseModel):
    """One image of an answer; the fields after `revised_prompt` are fewstep's own."""

    b64_json: str | None = None
    url: str | None = None
    revised_prompt: str | None = None
    id: str
    seed: int
    unknown_words: list[str]
    nearest_captions: list[tuple[str, float]]
    unread_prompt: str
    recognised: str | None = None
    confidence: float | None = None


class Usage(BaseModel):
    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: dict[str, int]


class ImagesAnswer(BaseModel):
    """OpenAI's ImagesResponse with fewstep's own fields."""

    created: int
    data: list[ImageInfo]
    background: str
    output_format: Format
    size: str
    quality: str
    usage: Usage
    model: str
    model_hash: str
    native_size: str
    resampled: bool
    steps: int
    network_evaluations: int
    timings: dict[str, float]
    ignored: list[str]


class ModelInfo(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "fewstep"
    about: dict[str, Any] = Field(default_factory=dict)


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelInfo]
