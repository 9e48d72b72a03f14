"""model.json, format 1: one network, one codec and a fixed set of files. It is read but never written.

Format 1 does not store the style and colour words that a model was trained on, so they are listed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fewstep.models.components import Component, Judge, NetworkPart, Vocabulary
from fewstep.models.format2 import check_files, component_from_plain, sampling_from_plain
from fewstep.models.parts import ModelError
from fewstep.models.spec import ModelSpec

FILES = {
    "weights.safetensors": "network",
    "network.onnx": "network",
    "captions.txt": "vocabulary",
    "recogniser.onnx": "judge",
}
"""The files of format 1 and the component that each belongs to."""

STYLES = ("flat", "outline", "pixel art", "silhouette", "pastel", "neon", "night")

EARLY_STYLES = STYLES[:5]
"""The style words of models whose recipe does not name any: neon and night were added later."""

PALETTE = {
    "red": "#db2626",
    "orange": "#f28514",
    "yellow": "#f5d11f",
    "green": "#33a842",
    "blue": "#296be0",
    "purple": "#8f3dc7",
    "pink": "#f573ad",
    "brown": "#804c29",
    "black": "#1f1f21",
    "white": "#ebebed",
    "gray": "#808085",
}

_MOVED = ("network", "conditioning", "files", "text_table", "fills", "control_guidance")
"""Settings of format 1 that are now components."""

SETTINGS = frozenset(ModelSpec.__dataclass_fields__) - {"components"} | set(_MOVED)


def from_values(values: Mapping[str, Any]) -> ModelSpec:
    """The description in a parsed model.json, not yet checked; raises the same errors as `format2.from_values`."""
    files = values["files"]
    if not isinstance(files, Mapping) or not all(isinstance(digest, str) for digest in files.values()):
        raise ModelError("files must map names to SHA-256 digests")
    sorted_files = _by_component(files)
    parts = {**_asked(values), **_optional(values, sorted_files)}
    named = {name: Component(part, sorted_files.get(name, {})) for name, part in parts.items()}
    rest = {name: value for name, value in values.items() if name not in _MOVED}
    return ModelSpec(**{**rest, "components": named, **sampling_from_plain(values)})


def _by_component(files: Mapping[str, str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for file, digest in files.items():
        if file not in FILES:
            check_files("network", {file: digest}, tuple(FILES))
        found.setdefault(FILES[file], {})[file] = digest
    return found


def _asked(values: Mapping[str, Any]) -> dict[str, Any]:
    """The network, the codec and the conditioners."""
    network, asked = values["network"], dict(values["conditioning"])
    if asked.pop("kind", None) != "conditioning":
        raise ModelError(f"conditioning must be a part of that kind, got {values['conditioning']!r}")
    if unknown := sorted(set(asked) - {"codec", "text_length", "classes", "control", "guidance"}):
        raise ModelError(f"part 'conditioning' has unknown settings: {', '.join(unknown)}")
    codec = component_from_plain("codec", asked["codec"]).part
    plain: dict[str, dict[str, Any]] = {}
    if asked.get("text_length", 0) != 0:
        plain["prompt"] = {"kind": "prompt_tokens", "length": asked["text_length"], "table": values.get("text_table")}
    if asked.get("classes", 0) != 0:
        plain["label"] = {"kind": "class_label", "classes": asked["classes"]}
    if not isinstance(control := asked.get("control", False), bool):
        raise ModelError(f"control must be true or false, got {control!r}")
    if control:
        plain["control"] = {"kind": "control_image", "pixels": values["pixels"]}
    if (scale := asked.get("guidance")) is not None:
        low, high = scale
        plain["guidance"] = {"kind": "guidance_scale", "low": low, "high": high}
    return {
        "network": NetworkPart(network["kind"], network["config"]),
        "codec": codec,
        **{name: component_from_plain(name, each).part for name, each in plain.items()},
    }


def _optional(values: Mapping[str, Any], files: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """The components that only some models have."""
    parts: dict[str, Any] = {}
    fills, guidance = values.get("fills"), values.get("control_guidance")
    if fills is not None or guidance is not None:
        parts["sketch"] = component_from_plain(
            "sketch", {"kind": "sketch", "fills": fills, "guidance": guidance}
        ).part
    if "vocabulary" in files:
        settings = dict(values.get("recipe", {}).get("settings") or {})
        trained = settings.get("styles", EARLY_STYLES)
        parts["vocabulary"] = Vocabulary(tuple(style for style in STYLES if style in trained), PALETTE)
    if "judge" in files:
        parts["judge"] = Judge()
    return parts
