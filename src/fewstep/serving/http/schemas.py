"""What clients send and get, as OpenAI's Images API has it, and fewstep's own fields beside."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from fewstep.serving.engine.encoding import Format


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("number_type", "must be a number")
    return value


Whole = Annotated[int, BeforeValidator(_no_bool)]
Number = Annotated[float, BeforeValidator(_no_bool)]
EditName = Literal["colorize", "super-resolve", "denoise"]
Seed = Annotated[Whole, Field(ge=0, le=2**63 - 1)]


class ImageFields(BaseModel):
    """The fields that every request for images has. Fields of OpenAI's that mean nothing here are taken and ignored;
    unknown ones are ignored too, as OpenAI's own server does, so that newer clients work. Null is as if left out."""

    model_config = ConfigDict(extra="ignore", strict=False)

    @model_validator(mode="before")
    @classmethod
    def _told(cls, values: Any) -> Any:
        """Without what is null."""
        return {k: v for k, v in values.items() if v is not None} if isinstance(values, dict) else values

    model: str | None = Field(None, max_length=200)
    n: Whole = Field(1, ge=1)
    size: str | None = Field(None, max_length=20, description="WIDTHxHEIGHT, or auto for the model's own.")
    background: str | None = Field(None, max_length=20, description="transparent, opaque, auto, white, #rrggbb")
    output_format: Format = "png"
    output_compression: Whole = Field(100, ge=0, le=100, description="Quality; a webp of 100 loses nothing.")
    response_format: Literal["b64_json", "url"] = "b64_json"
    stream: bool = False
    partial_images: Whole = Field(0, ge=0, le=3)
    user: str | None = Field(None, max_length=1000)

    seed: Seed | None = None
    steps: Whole | None = Field(None, ge=1)
    guidance: Number | None = None
    negative_prompt: str = ""
    label: Whole | None = None
    sampler: str | None = Field(None, max_length=50)
    control: str | None = Field(None, description="A sketch to follow, as a data URL, for models that take one.")
    control_strength: Number | None = Field(
        None, ge=0, le=4, description="How strongly the sketch steers: 0 not at all, 1 as trained, more exaggerates."
    )
    control_frame: bool = Field(
        True, description="Whether a sketch is shown to the model as large as things stood in training, or as it is."
    )
    session: str | None = Field(None, max_length=200, description="Of whose requests only the latest counts.")


class Generation(ImageFields):
    """`POST /v1/images/generations`."""

    prompt: str
    to_prompt: str | None = Field(None, description="Of an interpolation: the last image's prompt.")
    to_seed: Seed | None = Field(None, description="Of an interpolation: the last image's seed.")
    position: Number | None = Field(None, ge=0, le=1, description="Of an interpolation: one image on the way.")


class EditFields(ImageFields):
    """`POST /v1/images/edits` and `/variations`, beside their files."""

    prompt: str = ""
    strength: Number | None = Field(None, gt=0, le=1)
    fit: Whole | None = Field(None, ge=0, le=8, description="How often the start is fitted to what is kept.")
    edit: EditName | None = Field(None, description="Another edit than with a mask, or of all of the image.")
    noise: Number | None = Field(None, gt=0, le=1, description="Of denoise: how noisy the image is.")


class Source(BaseModel):
    """Either a URL, or the id of an image of an earlier answer."""

    image_url: str | None = None
    file_id: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Source:
        if (self.image_url is None) == (self.file_id is None):
            raise PydanticCustomError("source", "must be an object with either image_url or file_id")
        return self


class EditBody(EditFields):
    """`POST /v1/images/edits` and `/variations` as JSON."""

    images: list[Source] = Field(min_length=1, max_length=1)
    mask: Source | None = None


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
    quality: str = "auto"
    usage: Usage
    model: str
    model_hash: str
    native_size: str
    resampled: bool
    steps: int
    network_evaluations: int
    timings: dict[str, float]


class ModelInfo(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "fewstep"
    about: dict[str, Any] = Field(default_factory=dict)


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelInfo]
