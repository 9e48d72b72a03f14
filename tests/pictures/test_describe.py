"""What changed between two images is listed by reason, and said in one sentence."""

import dataclasses

import pytest

from fewstep.pictures import Change, Record, details, difference, parameters, sentence


def remade(record: Record, **changes: object) -> Record:
    """The record of another image, made by the same request but for `changes`."""
    fresh = {"id": "f" * 32, "created": "2026-01-02T03:04:05+00:00"}
    return dataclasses.replace(record, **(fresh | changes))  # type: ignore[arg-type]


def test_details_and_parameters_together_say_every_field(record: Record) -> None:
    told = details(record)
    assert told["levels"] == "pure noise → 3.167 → 1 → 0.4444 → 0 (σ/α)"
    assert told["settings"] == 'renoise true, churn [0.1, 2], inner {"eta": null}'
    assert (told["drawn at"], told["engine"]) == ("6x4", "onnx float32 on x86_64")
    assert told["other"] == 'from_the_future {"a": [1, 2.5, null, true, "é"]}'
    text = parameters(record) + "\n".join(told.values())
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if isinstance(value, str):
            assert value.removeprefix("sha256:")[:10] in text, field.name


def test_details_leave_out_what_a_record_leaves_empty() -> None:
    bare = Record(
        prompt="",
        seed=1,
        steps=1,
        levels=[(1, 0)],
        sampler="x",
        model="m",
        model_hash="sha256:" + "0" * 32,
        size=(8, 8),
    )
    assert list(details(bare)) == ["made", "id", "levels", "evaluations", "engine"]


def test_a_replay_differs_in_nothing(record: Record) -> None:
    assert difference(record, remade(record)) == []
    assert sentence(record, remade(record)) == "Nothing that makes the image changed."


def test_the_likeliest_reason_comes_first(record: Record) -> None:
    other = remade(record, steps=1, seed=8, prompt="a blue fox", model="animals", timings={"network": 20.0})
    assert [change.field for change in difference(record, other)] == [
        "prompt",
        "seed",
        "model",
        "steps",
        "timings.encode",
        "timings.network",
    ]


def test_a_change_has_both_values(record: Record) -> None:
    assert difference(record, remade(record, seed=8)) == [Change("seed", 7, 8)]


def test_mappings_are_compared_entry_by_entry(record: Record) -> None:
    other = remade(record, software={"fewstep": "0.1.0", "numpy": "2.2.0", "Pillow": "11.0.0"})
    assert difference(record, other) == [
        Change("software.numpy", "2.1.0", "2.2.0"),
        Change("software.Pillow", None, "11.0.0"),
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prompt": "a wolf"}, "The prompt changed."),
        ({"seed": 8}, "The seed changed."),
        ({"parents": []}, "The images it started from (data) changed."),
        ({"model_hash": "feedfacefeedface"}, "The model (model_hash) changed."),
        ({"steps": 1, "guidance": None}, "The workflow (steps, guidance) changed."),
        (
            {"sampler_settings": {"renoise": True}},
            "The workflow (sampler_settings.churn, sampler_settings.inner) changed.",
        ),
        ({"engine": "eager", "device": "arm64"}, "The software or hardware (engine, device) changed."),
        ({"timings": {}, "unknown_words": []}, "Nothing that makes the image changed."),
        (
            {"prompt": "a wolf", "seed": 8, "steps": 1},
            "The prompt, the seed and the workflow (steps) changed.",
        ),
    ],
)
def test_one_sentence_says_what_changed(record: Record, changes: dict[str, object], said: str) -> None:
    assert sentence(record, remade(record, **changes)) == said


def test_every_field_but_the_id_and_the_date_is_compared(record: Record) -> None:
    from fewstep.pictures.describe import _REASONS

    compared = {name for fields in _REASONS.values() for name in fields}
    assert compared == {f.name for f in dataclasses.fields(Record)} - {"id", "created"}
