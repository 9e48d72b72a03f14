"""`fewstep models list | show | build-text`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import tyro

from fewstep.cli.options import ModelName
from fewstep.cli.output import check_json, say, write_json


def list_models(json: str | None = None) -> int:
    """List the models in the package.

    Args:
        json: Write the list as JSON to this file, or to standard output with -.
    """
    from fewstep.models.finding import built_in, find

    check_json(json)
    models = [find(name) for name in built_in()]
    rows = [
        {
            "name": model.spec.name,
            "hash": model.hash,
            "targets": model.spec.targets.value,
            "steps": model.spec.steps,
            "size": list(model.spec.pixels[1:]),
            "licence": model.spec.licence,
            "megabytes": round(sum(f.stat().st_size for f in model.directory.iterdir()) / 1e6, 1),
        }
        for model in models
    ]
    for model, row in zip(models, rows, strict=True):
        size = "×".join(str(side) for side in model.spec.pixels[1:])
        say(f"{model.spec.name:<16} {size}  {row['steps']} steps  {row['megabytes']} MB  {model.hash[:10]}", json)
    write_json(json, rows)
    return 0


def show(model: ModelName, /, json: str | None = None) -> int:
    """Show a model's description.

    Args:
        model: A built-in model, a directory, or user/name on the hub.
        json: Write the description as JSON to this file, or to standard output with -.
    """
    from json import loads

    from fewstep.models.finding import find
    from fewstep.models.format2 import to_json

    check_json(json)
    found = find(model)
    values = {"hash": found.hash, **loads(to_json(found.spec))}
    for name in ("name", "hash", "targets", "sampler", "steps", "guidance", "pixels", "licence", "lineage"):
        say(f"{name:<10} {values[name]}", json)
    for name, component in values["components"].items():
        say(_component_line(name, component), json)
    captions = found.captions
    if captions is not None:
        say(f"{'captions':<10} {len(captions.captions)}, such as {', '.join(captions.captions[::200])}", json)
    write_json(json, values)
    return 0


def _component_line(name: str, plain: dict[str, Any]) -> str:
    """A line about one component, given as JSON values: its name, kind, settings and files."""
    settings = {
        key: value for key, value in plain.items() if key not in ("kind", "files") and value not in (None, {})
    }
    described = ", ".join(f"{key} {value}" for key, value in settings.items())
    return f"{name:<10} {' '.join(part for part in (plain['kind'], described, *plain.get('files', ())) if part)}"


def build_text(source: Annotated[str, tyro.conf.Positional], out: Path, width: int = 128) -> int:
    """Distil a sentence encoder into the frozen token table (needs transformers and torch).

    The shipped table was made by: fewstep models build-text sentence-transformers/all-MiniLM-L6-v2 --out
    src/fewstep/models/text

    Args:
        source: A sentence-transformers model: a directory, or a name on the hub.
        out: The directory to write table.safetensors and tokenizer.json to.
        width: Length of each token's vector.
    """
    try:
        from fewstep.interop.token_table import build_token_table

        summary = build_token_table(source, out, width)
    except ImportError as error:
        raise ImportError("building a token table needs more packages: pip install 'fewstep[text]'") from error
    say(f"{summary['tokens']} tokens × {summary['width']}, {100 * summary['variance']:.1f} % of the variance kept")
    return 0


def import_pipeline(
    source: Annotated[str, tyro.conf.Positional], out: Path, name: str | None = None, licence: str = ""
) -> int:
    """Import a diffusers ConsistencyModelPipeline as a model that runs on every engine and can be served.

    Args:
        source: The pipeline: a directory, or user/name on the hub.
        out: The directory to write the model to.
        name: Name of the model; if left out, that of the directory.
        licence: Licence of the weights, stored with the model.
    """
    try:
        from fewstep.interop import consistency_pipeline
    except ImportError as error:
        raise ImportError("importing a pipeline needs more packages: pip install 'fewstep[diffusers]'") from error

    saved = consistency_pipeline.import_pipeline(source, out, name, licence)
    width, height = saved.spec.pixels[-1], saved.spec.pixels[-2]
    say(f"{out}  '{saved.spec.name}', {width}×{height} pixels; try: fewstep generate --model {out}")
    return 0
