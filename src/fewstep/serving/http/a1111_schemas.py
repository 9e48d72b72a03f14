"""Requests of AUTOMATIC1111's API: the fields that say what to draw, and those that are named as not used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from fewstep.serving.http.schemas import NullIsLeftOut, Whole

MARK = "…"
"""What stands for an image that is no longer needed."""


def _marked(model: BaseModel, *names: str) -> dict[str, str]:
    """A mark for each of these fields that holds something."""
    return {name: MARK for name in names if getattr(model, name)}


class ControlUnit(BaseModel):
    """One unit of the ControlNet extension."""

    model_config = ConfigDict(extra="ignore")

    enabled: bool = True
    weight: float = 1.0
    image: str | dict[str, Any] | None = None
    input_image: str | None = None

    @property
    def sketch(self) -> str | None:
        """The image of the unit, under any of the names that the extension has had for it."""
        held = self.image.get("image") if isinstance(self.image, dict) else self.image
        return held or self.input_image


class ControlNet(BaseModel):
    args: list[ControlUnit] = Field(default_factory=list, max_length=16)


class Scripts(BaseModel):
    """What extensions are given; other extensions are named as not used."""

    model_config = ConfigDict(extra="allow")

    controlnet: ControlNet = Field(
        default_factory=ControlNet, validation_alias=AliasChoices("controlnet", "ControlNet")
    )


class TextToImage(NullIsLeftOut):
    """`POST /sdapi/v1/txt2img`. Where a field is left out the model's own value counts, not that of a Stable
    Diffusion."""

    model_config = ConfigDict(extra="allow")

    prompt: str = ""
    negative_prompt: str = ""
    seed: Whole = -1
    steps: Whole | None = None
    cfg_scale: float | None = None
    width: Whole | None = None
    height: Whole | None = None
    batch_size: Whole = Field(1, ge=1)
    n_iter: Whole = Field(1, ge=1)
    sampler_name: str | None = None
    sampler_index: str | None = None
    override_settings: dict[str, Any] = Field(default_factory=dict)
    alwayson_scripts: Scripts = Field(default_factory=Scripts)
    send_images: bool = True

    @property
    def sampler(self) -> str:
        """The name of the sampler, which older clients call an index; empty if left out."""
        return self.sampler_name or self.sampler_index or ""

    @property
    def images(self) -> int:
        return self.batch_size * self.n_iter

    @property
    def model_name(self) -> str | None:
        """The model that the request wants instead of the one chosen."""
        named = self.override_settings.get("sd_model_checkpoint")
        return str(named) if named else None

    @property
    def control(self) -> ControlUnit | None:
        """The unit of ControlNet with an image, if there is one that is on."""
        return next((unit for unit in self._units if unit.enabled and unit.sketch), None)

    def without_images(self) -> Self:
        """The same message with a mark in place of each image, which may be large."""
        units = [unit.model_copy(update=_marked(unit, "image", "input_image")) for unit in self._units]
        scripts = self.alwayson_scripts.model_copy(update={"controlnet": ControlNet(args=units)})
        return self.model_copy(update={"alwayson_scripts": scripts})

    @property
    def _units(self) -> list[ControlUnit]:
        return self.alwayson_scripts.controlnet.args

    @property
    def unused(self) -> list[str]:
        """The fields that ask for something that is not done here."""
        extra = self.model_extra or {}
        asked = [name for name, neutral in _UNUSED.items() if extra.get(name, neutral) not in (neutral, None, [], "")]
        return asked + [f"alwayson_scripts.{name}" for name in self.alwayson_scripts.model_extra or {}]


class ImageToImage(TextToImage):
    """`POST /sdapi/v1/img2img`."""

    init_images: list[str] = Field(min_length=1, max_length=16)
    mask: str | None = None
    denoising_strength: float | None = None
    inpainting_mask_invert: Whole = 0
    include_init_images: bool = False

    def without_images(self) -> Self:
        marks = {"init_images": [MARK] * len(self.init_images), **_marked(self, "mask")}
        return super().without_images().model_copy(update=marks)

    @property
    def unused(self) -> list[str]:
        return super().unused + [f"init_images[{place}]" for place in range(1, len(self.init_images))]


_UNUSED: Mapping[str, Any] = {
    "styles": [],
    "enable_hr": False,
    "restore_faces": False,
    "tiling": False,
    "subseed_strength": 0,
    "script_name": "",
    "refiner_checkpoint": "",
    "clip_skip": 1,
}
"""The fields of A1111 that would change a picture and are not known here, with the value that asks for nothing."""


class PngInfo(BaseModel):
    """`POST /sdapi/v1/png-info`."""

    image: str


class Options(BaseModel):
    """`POST /sdapi/v1/options`: only the model can be chosen."""

    model_config = ConfigDict(extra="allow")

    sd_model_checkpoint: str | None = None
