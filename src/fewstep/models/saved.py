"""A saved model: a directory with model.json, weights.safetensors, the exported network and the captions it knows.

model.json holds everything else: the network's shape, parameterisation, targets, codec, conditioning, the levels to
use for each number of steps, licence and lineage, and the SHA-256 of each file. Nothing in a model is executed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from fewstep.core import grids
from fewstep.core.levels import Level
from fewstep.core.parameterisations import Parameterisation, Targets
from fewstep.models.conditioning import Conditioning
from fewstep.models.parts import ModelError, check_types, from_plain, to_plain
from fewstep.models.text import BUILT_IN as TEXT
from fewstep.models.text import Captions, table
from fewstep.pictures.pixels import CHANNELS, PixelFormat
from fewstep.pictures.plain import label
from fewstep.samplers import SAMPLERS

FORMAT = 1
MOST_NUMBERS = 2**26  # in one image
BUILT_IN = Path(__file__).parent / "built_in"
DESCRIPTION, WEIGHTS, NETWORK, CAPTIONS, RECOGNISER = (
    "model.json",
    "weights.safetensors",
    "network.onnx",
    "captions.txt",
    "recogniser.onnx",
)


@dataclass(frozen=True)
class ModelSpec:
    """What model.json says.

    Args:
        name: short, without slashes.
        network: {"kind": …, "config": …} for `fewstep.networks`.
        parameterisation, targets, conditioning: how to ask the network.
        pixels: an image's shape [c, h, w].
        pixel_format: what the channels mean.
        sampler: the sampler to use if none is asked for.
        steps: how many steps then.
        guidance: the scale then, or None.
        control_guidance: the scale with a control image; None: as without.
        levels: for a number of steps, the σ/α to visit, noisiest first; other numbers use a Karras grid. Pure noise
            is infinity, "inf" in the file.
        sigma_min, sigma_max: that grid's last σ/α before clean, and its first.
        fills: where each picture shows one thing: the share of the side that its longer side takes; sketches are
            framed so. None where pictures are anything.
        licence: SPDX expression or text, for weights and data.
        recipe: the resolved recipe that made it.
        lineage: what it was made from: {"name", "hash"} of teachers, data.
        text_table: SHA-256 of the token table it was trained with, or None.
        files: SHA-256 of each file.
    """

    name: str
    network: Mapping[str, Any]
    parameterisation: Parameterisation
    targets: Targets
    conditioning: Conditioning
    pixels: tuple[int, ...]
    pixel_format: PixelFormat
    sampler: str
    steps: int
    guidance: float | None = None
    control_guidance: float | None = None
    levels: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    fills: float | None = None
    licence: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    lineage: Sequence[Mapping[str, Any]] = ()
    text_table: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)

    def usual_guidance(self, controlled: bool) -> float | None:
        """The scale if none is asked for, with a control image or without."""
        return self.control_guidance if controlled and self.control_guidance is not None else self.guidance

    def grid(self, steps: int) -> Level:
        """The levels [steps + 1] to visit: the model's own for this number of steps, else a Karras grid."""
        grids.check_steps(steps)
        if steps in self.levels:
            return grids.from_ratios(self.levels[steps])
        return grids.karras(steps, self.sigma_min, self.sigma_max)

    def check(self) -> None:
        """Raise ValueError for a value that would fail only later, in the middle of a request."""
        if not isinstance(self.name, str) or not re.fullmatch(r"\w[\w. +-]{0,99}", self.name):
            raise ValueError(f"name must be letters, digits, spaces and . _ + - only, got {self.name!r}")
        if not isinstance(self.conditioning, Conditioning):
            raise ValueError(f"conditioning must be a part of that kind, got {self.conditioning!r}")
        if not hasattr(self.parameterisation, "estimate"):
            raise ValueError(f"parameterisation must be a part of that kind, got {self.parameterisation!r}")
        if not self.pixels or not all(type(side) is int and side > 0 for side in self.pixels):
            raise ValueError(f"pixels must be whole numbers above 0, got {list(self.pixels)}")
        if math.prod(self.pixels) > MOST_NUMBERS:
            raise ValueError(f"pixels must be at most {MOST_NUMBERS} numbers, got {list(self.pixels)}")
        check_types(ModelSpec, {name: getattr(self, name) for name in ModelSpec.__dataclass_fields__})
        if not all(isinstance(digest, str) for digest in self.files.values()):
            raise ValueError("files must map names to SHA-256 digests")
        if self.fills is not None and not (0 < self.fills <= 1 and self.pixel_format == "rgba_premultiplied"):
            raise ValueError(f"fills must be above 0 and at most 1, of transparent pictures, got {self.fills:g}")
        label("a recipe's name", self.recipe.get("name", ""))
        self._check_sampling()
        if CHANNELS.get(self.pixel_format, self.pixels[0]) != self.pixels[0]:
            raise ValueError(
                f"{self.pixel_format} pixels have {CHANNELS[self.pixel_format]} channels, got {self.pixels[0]}"
            )
        self.conditioning.codec.shape(self.pixels)

    def _check_sampling(self) -> None:
        if self.sampler not in SAMPLERS:
            raise ValueError(f"sampler must be one of {', '.join(sorted(SAMPLERS))}, got {self.sampler!r}")
        for steps in (self.steps, *self.levels):
            if len(self.grid(steps)) != steps + 1:
                raise ValueError(f"levels for {steps} steps must be {steps}, got {len(self.levels[steps])}")
        if self.control_guidance is not None and not self.conditioning.control:
            raise ValueError("control_guidance is for models that take a control image")
        for name, scale in (("guidance", self.guidance), ("control_guidance", self.control_guidance)):
            self._check_scale(name, scale)

    def _check_scale(self, name: str, scale: float | None) -> None:
        distilled = self.conditioning.guidance
        if distilled is not None and scale is not None and not distilled[0] <= scale <= distilled[1]:
            low, high = distilled
            raise ValueError(f"{name} must lie in the distilled range {low:g} … {high:g}, got {scale:g}")

    def to_json(self) -> str:
        """The text of model.json."""
        plain = {name: to_plain(getattr(self, name)) for name in self.__dataclass_fields__ if name != "targets"}
        values = {"format": FORMAT, **plain, "targets": self.targets.value}
        return json.dumps(values, indent=1, sort_keys=True, allow_nan=False) + "\n"


@dataclass(frozen=True)
class SavedModel:
    """A model's directory, read and checked.

    Args:
        directory: where it is.
        spec: what its model.json says.
        hash: SHA-256 of model.json, which holds the hashes of all other files: the identity of the model.
    """

    directory: Path
    spec: ModelSpec
    hash: str

    @property
    def weights(self) -> Path:
        return self.directory / WEIGHTS

    @property
    def exported(self) -> Path:
        return self.directory / NETWORK

    @property
    def recogniser(self) -> Path:
        return self.directory / RECOGNISER

    @cached_property
    def captions(self) -> Captions | None:
        """The captions it was trained on; None for a model without text."""
        file = self.directory / CAPTIONS
        if not self.spec.conditioning.text_length or not file.is_file():
            return None
        captions, _, others = file.read_text(encoding="utf-8").partition("\n\n")
        return Captions(captions.splitlines(), others.split(), table())


def read(directory: Path) -> SavedModel:
    """Read a model's directory and check every file against its hash.

    Raises:
        ModelError: a file is missing, damaged, not listed, a pickle, or of a newer format; the message names it.
    """
    file = directory / DESCRIPTION
    if directory.is_file():
        raise ModelError(f"'{directory}' is a file, a model is a directory{_pickle_hint(directory)}")
    if not file.is_file():
        raise ModelError(f"no model in '{directory}': {DESCRIPTION} is missing{_pickle_hint(directory)}")
    text = file.read_bytes()
    try:
        values = json.loads(text)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError(f"'{file}' is not JSON: {error}") from error
    spec = _parse(values, file)
    if WEIGHTS not in spec.files:
        raise ModelError(f"'{file}' names no {WEIGHTS} among its files")
    for name, expected in spec.files.items():
        if "/" in name or "\\" in name or name.startswith("."):
            raise ModelError(f"'{file}' names the file '{name}': only plain names beside it are allowed")
        _check(directory / name, expected)
    for name in (NETWORK, CAPTIONS, RECOGNISER):
        if name not in spec.files and os.path.lexists(directory / name):
            raise ModelError(f"'{directory / name}' is not among the files that '{file}' names, and so unchecked")
    if spec.text_table is not None and spec.text_table != text_table_hash():
        raise ModelError(f"'{file}' was trained with another token table ({spec.text_table[:12]}…): update fewstep")
    return SavedModel(directory, spec, hashlib.sha256(text).hexdigest())


def _parse(values: Any, file: Path) -> ModelSpec:
    if not isinstance(values, dict) or not isinstance(values.get("format"), int):
        raise ModelError(f"'{file}' is no model description: it has no format number")
    if values["format"] > FORMAT:
        raise ModelError(f"'{file}' has format {values['format']}, this version reads up to {FORMAT}: update fewstep")
    fields = {k: v for k, v in values.items() if k != "format"}
    unknown = sorted(set(fields) - set(ModelSpec.__dataclass_fields__))
    if unknown:
        raise ModelError(f"'{file}' has unknown settings: {', '.join(unknown)}")
    try:
        spec = ModelSpec(
            **{
                **fields,
                "parameterisation": from_plain(fields["parameterisation"]),
                "conditioning": from_plain(fields["conditioning"]),
                "targets": Targets(fields["targets"]),
                "pixels": tuple(fields["pixels"]),
                "levels": {int(k): tuple(from_plain(v)) for k, v in fields.get("levels", {}).items()},
            }
        )
        spec.check()
    except KeyError as error:
        raise ModelError(f"'{file}' cannot be read: {error} is missing") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise ModelError(f"'{file}' cannot be read: {error}") from error
    return spec


def _check(file: Path, expected: str) -> None:
    if not file.is_file():
        raise ModelError(f"'{file}' is missing")
    found = sha256(file)
    if found != expected:
        raise ModelError(f"'{file}' is damaged or was changed: its SHA-256 is {found[:12]}…, not {expected[:12]}…")


def _pickle_hint(directory: Path) -> str:
    suffixes = (".pt", ".pth", ".pkl", ".ckpt", ".bin")
    pickles = [p.name for p in directory.glob("*") if p.suffix in suffixes] if directory.is_dir() else []
    if directory.is_file() and directory.suffix in suffixes:
        pickles = [directory.name]
    return f"; '{pickles[0]}' is a pickle, which fewstep does not load" if pickles else ""


def sha256(file: Path) -> str:
    """A file's SHA-256 in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@lru_cache(maxsize=1)
def text_table_hash() -> str:
    """SHA-256 of the token table that this version carries."""
    return sha256(TEXT / "table.safetensors")


def built_in() -> list[str]:
    """The names of the models inside the package."""
    return sorted(p.parent.name for p in BUILT_IN.glob(f"*/{DESCRIPTION}"))


_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)


def find(name: str | Path) -> SavedModel:
    """Find a model: built in by name, a directory, or `user/name` on the Hugging Face hub.

    Raises:
        ModelError: nothing by that name; the message lists what there is.
    """
    text = str(name)
    if not text.strip() or "\0" in text:
        raise ModelError(f"a model's name must not be empty or hold a zero byte, got {text!r}")
    if text in built_in():
        return read(BUILT_IN / text)
    if (directory := own_directory(text)) is not None:
        return read(directory)
    if _HUB_NAME.fullmatch(text):
        return read(_download(text))
    raise ModelError(
        f"no model '{text}': give one of the built-in models ({', '.join(built_in()) or 'none'}), "
        "a directory with a model.json, or a hub name like user/model"
    )


def own_directory(name: str | Path) -> Path | None:
    """The user's directory that a model's name stands for; None for a built-in model and for the hub's."""
    path = Path(os.path.expanduser(name))  # noqa: PTH111  pathlib's raises for an unknown user
    is_there = os.path.exists(path)  # noqa: PTH110  pathlib's raises for a name too long for the file system
    return path if is_there and str(name) not in built_in() else None


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    wanted = [DESCRIPTION, WEIGHTS, NETWORK, CAPTIONS, RECOGNISER]
    try:
        return Path(snapshot_download(name, allow_patterns=wanted))
    except Exception as error:  # its own, and those of whichever HTTP library it uses, which share no base
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError(f"no directory '{name}', and the hub did not give a model by that name: {reason}") from error
