"""Evaluation rows as tables for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fewstep.measure.evaluate import EvaluationRow
from fewstep.measure.metrics import Share

if TYPE_CHECKING:
    from rich.table import Table

WHO = {"real": "real pictures", "teacher": "teacher", "denoise": "teacher, one denoise", "model": "model"}


def as_dicts(rows: Sequence[EvaluationRow]) -> list[dict[str, Any]]:
    """Rows as JSON values; the model's rows also have `times_faster` and `accuracy_ratio` relative to the teacher."""
    teacher = next((row for row in rows if row.who == "teacher"), None)
    return [_as_dict(row, teacher) for row in rows]


def _as_dict(row: EvaluationRow, teacher: EvaluationRow | None) -> dict[str, Any]:
    values: dict[str, Any] = {
        "who": row.who,
        "model": row.model,
        "sampler": row.sampler,
        "steps": row.steps,
        "evaluations": row.evaluations,
        "guidance": row.guidance,
    }
    for name in ("prompt_accuracy", "held_out_colour", "held_out_style"):
        share: Share | None = getattr(row, name)
        values[name] = None if share is None else round(share.value, 4)
        values[f"{name}_interval"] = None if share is None else [round(end, 4) for end in share.interval]
        values[f"{name}_n"] = None if share is None else share.total
    values["frechet"] = _rounded(row.frechet)
    values["kid"], values["kid_std"] = (None, None) if row.kid is None else (_rounded(end) for end in row.kid)
    for name in ("diversity", "sharpness", "endpoint_distance"):
        values[name] = _rounded(getattr(row, name))
    values["ms_per_image"] = _rounded(row.ms_per_image.get(1))
    values["ms_per_image_by_batch"] = {str(batch): _rounded(ms) for batch, ms in row.ms_per_image.items()}
    if teacher is not None and row.who == "model":
        values["times_faster_by_batch"] = {str(b): round(t, 2) for b, t in times_faster(row, teacher).items()}
        values["accuracy_ratio"] = _rounded(accuracy_ratio(row, teacher))
    return values


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")


def times_faster(row: EvaluationRow, teacher: EvaluationRow) -> dict[int, float]:
    """Speed relative to the teacher's, by batch size."""
    return {b: teacher.ms_per_image[b] / ms for b, ms in row.ms_per_image.items() if b in teacher.ms_per_image}


def accuracy_ratio(row: EvaluationRow, teacher: EvaluationRow) -> float | None:
    """The row's prompt accuracy relative to the teacher's; None if the teacher got nothing right."""
    if row.prompt_accuracy is None or teacher.prompt_accuracy is None or not teacher.prompt_accuracy.right:
        return None
    return row.prompt_accuracy.value / teacher.prompt_accuracy.value


def ratios(rows: Sequence[EvaluationRow]) -> list[str]:
    """One line per row of the model: its speed and accuracy relative to the teacher."""
    teacher = next((row for row in rows if row.who == "teacher"), None)
    if teacher is None:
        return []
    lines = []
    for row in rows:
        if row.who != "model":
            continue
        faster = times_faster(row, teacher).items()
        said = [f"{times:.1f}× the teacher's speed at batch {batch}" for batch, times in faster]
        ratio = accuracy_ratio(row, teacher)
        if ratio is not None:
            said.append(f"{ratio:.3f} of its accuracy")
        lines.append(f"{row.steps} {'step' if row.steps == 1 else 'steps'}: " + ", ".join(said))
    return lines


def table(rows: Sequence[EvaluationRow]) -> Table:
    """Rows as a table for a terminal, without empty columns."""
    from rich.table import Table

    batches = list(dict.fromkeys(batch for row in rows for batch in row.ms_per_image))
    columns: dict[str, list[str]] = {
        "": [WHO.get(row.who, row.who) for row in rows],
        "sampler": [row.sampler or "" for row in rows],
        "steps": [_text(row.steps, "d") for row in rows],
        "evaluations": [_text(row.evaluations, "d") for row in rows],
        "guidance": [_text(row.guidance, "g") for row in rows],
        "right": [_share(row.prompt_accuracy) for row in rows],
        "held-out colour": [_share(row.held_out_colour) for row in rows],
        "held-out style": [_share(row.held_out_style) for row in rows],
        "Fréchet": [_text(row.frechet, ".2f") for row in rows],
        "KID": ["" if row.kid is None else f"{row.kid[0]:.3f} ± {row.kid[1]:.3f}" for row in rows],
        "diversity": [_text(row.diversity, ".2f") for row in rows],
        "sharpness": [_text(row.sharpness, ".2f") for row in rows],
        "to endpoint": [_text(row.endpoint_distance, ".3f") for row in rows],
        **{f"ms, batch {batch}": [_text(row.ms_per_image.get(batch), ".2f") for row in rows] for batch in batches},
    }
    shown = {name: cells for name, cells in columns.items() if any(cells)}
    built = Table(box=None, header_style="bold", pad_edge=False)
    for name in shown:
        built.add_column(name, justify="left" if name in ("", "sampler") else "right", no_wrap=True)
    for cells in zip(*shown.values(), strict=True):
        built.add_row(*cells)
    return built


def _text(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _share(share: Share | None) -> str:
    if share is None:
        return ""
    low, high = share.interval
    return f"{100 * share.value:.1f} % ({100 * low:.0f}–{100 * high:.0f})"
