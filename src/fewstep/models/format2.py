"""model.json, format 2: a model's description with its components, each with its kind, settings, files and engine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fewstep.core.parameterisations import Targets
from fewstep.models.components import KINDS, Component
from fewstep.models.parts import ModelError, from_plain, settings_of, to_plain, with_settings
from fewstep.models.spec import ModelSpec

FORMAT = 2
_APART = ("components", "targets")
SETTINGS = frozenset(ModelSpec.__dataclass_fields__)


def to_json(spec: ModelSpec) -> str:
    """The text of model.json."""
    plain = {name: to_plain(getattr(spec, name)) for name in ModelSpec.__dataclass_fields__ if name not in _APART}
    named = {name: component_to_plain(component) for name, component in spec.components.items()}
    values = {**plain, "format": FORMAT, "targets": spec.targets.value, "components": named}
    return json.dumps(values, indent=1, sort_keys=True, allow_nan=False) + "\n"


def from_values(values: Mapping[str, Any]) -> ModelSpec:
    """The description in a parsed model.json, not yet checked.

    Raises:
        KeyError: a setting is missing.
        ModelError: a kind, a setting or a file is unknown.
        ValueError, TypeError, AttributeError: a value has the wrong form.
    """
    return ModelSpec(
        **{
            **values,
            "components": {name: component_from_plain(name, v) for name, v in values["components"].items()},
            **sampling_from_plain(values),
        }
    )


def sampling_from_plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that both formats store in the same way and for which JSON has no types."""
    return {
        "parameterisation": from_plain(values["parameterisation"]),
        "targets": Targets(values["targets"]),
        "pixels": tuple(values["pixels"]),
        "levels": {int(k): tuple(from_plain(v)) for k, v in values.get("levels", {}).items()},
    }


def component_to_plain(component: Component) -> dict[str, Any]:
    """The inverse of `component_from_plain`."""
    plain: dict[str, Any] = {"kind": component.kind, **settings_of(component.part)}
    if component.files:
        plain["files"] = dict(component.files)
    if component.engine is not None:
        plain["engine"] = component.engine
    return plain


def component_from_plain(name: str, plain: Any) -> Component:
    """One component.

    Raises:
        ModelError: its kind, or one of its files, is unknown.
    """
    if not isinstance(plain, Mapping) or not isinstance(plain.get("kind"), str):
        raise ModelError(f"the component '{name}' has no kind")
    if plain["kind"] not in KINDS:
        known = ", ".join(sorted(KINDS))
        raise ModelError(f"the component '{name}' has the unknown kind '{plain['kind']}': this version knows {known}")
    kind, engine, files = KINDS[plain["kind"]], plain.get("engine"), plain.get("files", {})
    if engine is not None and not isinstance(engine, str):
        raise ModelError(f"engine of the component '{name}' must be a name, got {engine!r}")
    if not isinstance(files, Mapping) or not all(isinstance(digest, str) for digest in files.values()):
        raise ModelError(f"files of the component '{name}' must map names to SHA-256 digests")
    check_files(name, files, kind.files)
    settings = {key: value for key, value in plain.items() if key not in ("kind", "files", "engine")}
    return Component(with_settings(plain["kind"], kind.part, settings), dict(files), engine)


def check_files(name: str, files: Mapping[str, str], endings: tuple[str, ...]) -> None:
    """Raise ModelError unless these are plain files next to model.json, at most one for each of the endings."""
    for file in files:
        if "/" in file or "\\" in file or file.startswith("."):
            raise ModelError(f"the component '{name}' names the file '{file}': only plain file names are allowed")
        if not file.endswith(endings or ("\0",)):
            allowed = f"only files ending in {' or '.join(endings)}" if endings else "no files"
            raise ModelError(f"the component '{name}' names the file '{file}': its kind has {allowed}")
    for ending in endings:
        if len(same := [file for file in files if file.endswith(ending)]) > 1:
            raise ModelError(f"the component '{name}' names {' and '.join(sorted(same))}: one {ending} is allowed")
