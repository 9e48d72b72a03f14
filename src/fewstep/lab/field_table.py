"""The table in docs/serve.md: the fields of an HTTP request, taken from the server's request bodies."""

from __future__ import annotations

from typing import Any

from fewstep.serving.engine.limits import Limits
from fewstep.serving.http.openapi import published
from fewstep.serving.http.schemas import Bodies


def field_table(limits: Limits) -> str:
    """Markdown rows for the fields of generations and edits, with the bounds of a server with these limits."""
    bodies = Bodies.within(limits)
    generation, edit = (published(body)["properties"] for body in (bodies.generation, bodies.edit_form))
    rows = ["| field | in | meaning |", "|---|---|---|"]
    for name, schema in {**generation, **edit}.items():
        where = "both" if name in generation and name in edit else "generations" if name in generation else "edits"
        rows.append(f"| `{name}` | {where} | {schema['description']}{_values(name, schema, bodies)} |")
    return "\n".join(rows) + "\n"


def _values(name: str, schema: dict[str, Any], bodies: Bodies) -> str:
    """The allowed values of a body field that has no `Field` record; the help of those that have one lists them."""
    if name in {field.public for body in (bodies.generation, bodies.edit_form) for field in body.drawing}:
        return ""
    values = schema.get("anyOf", [schema])[0]
    if "enum" in values:
        return f" One of {', '.join(values['enum'])}."
    return f" Between {values['minimum']} and {values['maximum']}." if "minimum" in values else ""
