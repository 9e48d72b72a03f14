"""Find a model by name: in the package, in a directory, or on the Hugging Face hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

from fewstep.models.parts import ModelError
from fewstep.models.saved import DESCRIPTION, SavedModel, description, read

BUILT_IN = Path(__file__).parent / "built_in"


def built_in() -> list[str]:
    """The names of the models in the package."""
    return sorted(p.parent.name for p in BUILT_IN.glob(f"*/{DESCRIPTION}"))


_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)


def find(name: str | Path) -> SavedModel:
    """Find a model: built in by name, a directory, or `user/name` on the Hugging Face hub.

    Raises:
        ModelError: there is no model of this name; the message lists the built-in ones.
    """
    text = str(name)
    if not text.strip() or "\0" in text:
        raise ModelError(f"a model's name must not be empty or contain a zero byte, got {text!r}")
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
    """The user's directory that a model's name refers to; None for built-in models and models on the hub."""
    path = Path(os.path.expanduser(name))  # noqa: PTH111  pathlib raises for an unknown user
    is_there = os.path.exists(path)  # noqa: PTH110  pathlib raises for a name too long for the file system
    return path if is_there and str(name) not in built_in() else None


def _download(name: str) -> Path:
    """Download a model from the hub: its description, then the files that it names, of the same revision."""
    from huggingface_hub import snapshot_download

    try:
        place = Path(snapshot_download(name, allow_patterns=[DESCRIPTION]))
        if not (place / DESCRIPTION).is_file():
            return place
        files = description(place).files
        return Path(snapshot_download(name, revision=place.name, allow_patterns=[DESCRIPTION, *files]))
    except ModelError:
        raise
    except Exception as error:  # the hub's own errors and those of its HTTP library have no common base
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError(f"no directory '{name}', and the hub returned no model of this name: {reason}") from error
