"""How an image was made, in words; and what differs between two images: every field, and one sentence."""

import json
from collections.abc import Mapping
from typing import NamedTuple

from fewstep.pictures.plain import Json
from fewstep.pictures.record import Record

# What can make images differ, the likeliest reason first; ids and dates always differ, and are left out.
_REASONS: Mapping[str, tuple[str, ...]] = {
    "prompt": ("prompt", "negative_prompt", "label"),
    "seed": ("seed", "index"),
    "data": ("parents",),
    "model": ("model", "model_hash", "recipe"),
    "workflow": (
        "steps",
        "levels",
        "sampler",
        "sampler_settings",
        "guidance",
        "network_evaluations",
        "size",
        "native_size",
        "background",
        "extra",
    ),
    "environment": ("engine", "precision", "software", "device"),
    "outcome": ("unknown_words", "nearest_captions", "unread_prompt", "timings"),  # follows from the rest
}
_NAMES = {"data": "images it started from (data)", "environment": "software or hardware"}


class Change(NamedTuple):
    """One field that differs; an entry of a mapping is `mapping.entry`, with None on a side that lacks it."""

    field: str
    before: Json
    after: Json


def details(record: Record) -> dict[str, str]:
    """The fields of a record that A1111's format lacks, as lines of text; empty ones are left out."""
    levels = (("pure noise" if alpha == 0 else f"{sigma / alpha:.4g}") for alpha, sigma in record.levels)
    width, height = record.native_size or record.size
    told = {
        "made": record.created,
        "id": record.id,
        "from": ", ".join(record.parents),
        "recipe": record.recipe or "",
        "label": "" if record.label is None else str(record.label),
        "levels": " → ".join(levels) + " (σ/α)",
        "settings": ", ".join(f"{name} {_plain(value)}" for name, value in record.sampler_settings.items()),
        "evaluations": str(record.network_evaluations),
        "drawn at": "" if (width, height) == record.size else f"{width}x{height}",
        "background": record.background or "",
        "unknown": ", ".join(record.unknown_words),
        "nearest": ", ".join(f"{caption} ({likeness:.2f})" for caption, likeness in record.nearest_captions),
        "not read": record.unread_prompt,
        "engine": " ".join(part for part in (record.engine, record.precision, "on", record.device) if part),
        "software": ", ".join(f"{package} {version}" for package, version in record.software.items()),
        "time": ", ".join(f"{stage} {milliseconds:.1f} ms" for stage, milliseconds in record.timings.items()),
        "other": ", ".join(f"{name} {_plain(value)}" for name, value in record.extra.items()),
    }
    return {name: text for name, text in told.items() if text}


def _plain(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def difference(a: Record, b: Record) -> list[Change]:
    """The differences between two records: prompt, seed, data, model, workflow, environment, then outcome."""
    return [change for fields in _REASONS.values() for name in fields for change in _changes(name, a, b)]


def sentence(a: Record, b: Record) -> str:
    """One sentence that says what changed from `a` to `b`."""
    changes = difference(a, b)
    by_reason = {
        reason: [c.field for c in changes if c.field.partition(".")[0] in fields]
        for reason, fields in _REASONS.items()
        if reason != "outcome"
    }
    told = [f"the {_NAMES.get(reason, reason)}{_detail(f)}" for reason, f in by_reason.items() if f]
    if not told:
        return "Nothing that makes the image changed."
    *first, last = told
    listed = f"{', '.join(first)} and {last}" if first else last
    return f"{listed[0].upper()}{listed[1:]} changed."


def _detail(fields: list[str]) -> str:
    # "the seed (seed)" says nothing that "the seed" does not.
    return f" ({', '.join(fields)})" if fields not in (["prompt"], ["seed"], ["parents"]) else ""


def _changes(name: str, a: Record, b: Record) -> list[Change]:
    before, after = getattr(a, name), getattr(b, name)
    if before == after:
        return []
    if not isinstance(before, Mapping):
        return [Change(name, before, after)]
    keys = [*before, *(key for key in after if key not in before)]
    return [
        Change(f"{name}.{key}", before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)
    ]
