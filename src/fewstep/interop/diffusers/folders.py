"""The folder of a diffusers pipeline, on disk or from the hub: what model_index.json names, and which weights it has.

Only safetensors are read. A pickle can execute code when it is opened, and is refused with the remedy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fewstep.models.parts import ModelError

INDEX = "model_index.json"
PARTS = (
    *("unet", "transformer", "scheduler", "vae", "vqvae"),
    *("text_encoder", "text_encoder_2", "text_encoder_3", "tokenizer", "tokenizer_2", "tokenizer_3"),
)
"""The components that are read; safety checkers and image encoders are not."""
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_WEIGHTS = re.compile(r"(?:diffusion_pytorch_)?model(?:\.(?P<variant>\w+))?(?:-\d{5}-of-\d{5})?\.safetensors")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_TEXTS = (".json", ".txt", ".model")


@dataclass(frozen=True)
class Folder:
    """A pipeline's folder.

    Args:
        path: where it is on disk.
        source: what the caller named it by, for messages.
    """

    path: Path
    source: str

    @cached_property
    def index(self) -> dict[str, Any]:
        """model_index.json."""
        try:
            values = json.loads((self.path / INDEX).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelError(f"'{self.source}' has no readable {INDEX}: give a diffusers pipeline") from error
        if not isinstance(values, dict):
            raise ModelError(f"'{self.source}/{INDEX}' must be a JSON object, got a {type(values).__name__}")
        return values

    def class_of(self, name: str) -> str | None:
        """The class that model_index.json gives a component; None where it has none of that name."""
        named = self.index.get(name)
        return named[1] if isinstance(named, list) and len(named) == 2 and isinstance(named[1], str) else None

    def variant(self, name: str) -> str | None:
        """Which weights of a component to read: None for those in full precision, else what the folder has (fp16).

        Raises:
            ModelError: it has no safetensors, or several variants and none in full precision.
        """
        folder = self.path / name
        names = sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []
        return chosen_variant(names, f"{self.source}/{name}")


def chosen_variant(names: Sequence[str], folder: str) -> str | None:
    """Of these files of a component's folder: full precision (None) if there is one, else the only variant.

    Raises:
        ModelError: there is none.
    """
    variants = {found["variant"] for name in names if (found := _WEIGHTS.fullmatch(name))}
    if None in variants:
        return None
    if len(variants) == 1:
        return str(variants.pop())
    if variants:
        raise ModelError(f"'{folder}' has several variants and none in full precision: {', '.join(sorted(variants))}")
    if pickles := [name for name in names if name.endswith(_PICKLES)]:
        raise ModelError(
            f"'{folder}' has only the pickle {pickles[0]}, which can execute code: save the pipeline again with "
            "`save_pretrained(folder, safe_serialization=True)` where you trust it"
        )
    raise ModelError(f"'{folder}' has no weights: expected diffusion_pytorch_model.safetensors or model.safetensors")


def open_folder(source: str | Path) -> Folder:
    """A pipeline's folder; one on the hub is downloaded to the cache, without pickles and needless variants.

    Args:
        source: a directory, or `user/name` on the hub.

    Raises:
        ModelError: there is no such folder, or a component of it has no safetensors.
    """
    path = Path(source)
    if path.is_dir():
        return Folder(path, str(source))
    if not _HUB_NAME.fullmatch(str(source)):
        raise ModelError(
            f"no directory '{source}': give the directory of a diffusers pipeline, or user/name on the hub"
        )
    return Folder(_download(str(source)), str(source))


def _download(name: str) -> Path:
    """The files that are needed, of one revision."""
    from huggingface_hub import model_info, snapshot_download

    try:
        info = model_info(name)
        wanted = wanted_files([file.rfilename for file in info.siblings or ()], name)
        return Path(snapshot_download(name, revision=info.sha, allow_patterns=wanted))
    except ModelError:
        raise
    except Exception as error:  # the hub's own errors and those of its HTTP library have no common base
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError(f"no directory '{name}', and the hub returned no pipeline of this name: {reason}") from error


def wanted_files(names: Sequence[str], source: str) -> list[str]:
    """The files of a repository that a pipeline needs: its texts, and one variant of each component's weights.

    Raises:
        ModelError: it is no pipeline, or a component has only pickles.
    """
    if INDEX not in names:
        raise ModelError(f"'{source}' has no {INDEX}: give a diffusers pipeline")
    wanted = [INDEX]
    for folder in PARTS:
        files = [name.split("/")[1] for name in names if name.startswith(f"{folder}/") and name.count("/") == 1]
        wanted += [f"{folder}/{file}" for file in files if file.endswith(_TEXTS)]
        if any(_WEIGHTS.fullmatch(file) or file.endswith(_PICKLES) for file in files):
            variant = chosen_variant(files, f"{source}/{folder}")
            matches = {file: _WEIGHTS.fullmatch(file) for file in files}
            wanted += [f"{folder}/{file}" for file, found in matches.items() if found and found["variant"] == variant]
    return wanted
