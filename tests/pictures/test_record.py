"""A record survives JSON exactly, takes only plain values, and says what is wrong with others."""

import dataclasses
import json
import platform
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewstep.pictures import FORMAT_VERSION, ProvenanceError, Record, installed

numbers = st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def minimal(**changes: object) -> Record:
    given_values: dict[str, object] = {
        "prompt": "fox",
        "seed": 0,
        "steps": 1,
        "levels": [(0, 1), (1, 0)],
        "sampler": "consistency",
        "model": "emoji",
        "model_hash": "0123456789abcdef",
        "size": (64, 64),
    }
    return Record(**(given_values | changes))  # type: ignore[arg-type]


def test_json_gives_back_the_same_record_and_the_same_json(record: Record) -> None:
    again = Record.from_json(record.to_json())
    assert again == record
    assert again.to_json() == record.to_json()


@settings(max_examples=100, deadline=None)
@given(
    prompt=st.text(),
    negative=st.text(),
    seed=st.integers(min_value=0, max_value=2**64 - 1),
    levels=st.lists(st.tuples(numbers, numbers), max_size=4),
    guidance=st.none() | numbers,
    extra=st.dictionaries(st.text().map(lambda key: f"x{key}"), values, max_size=3),
)
def test_any_request_survives_json(
    prompt: str,
    negative: str,
    seed: int,
    levels: list[tuple[float, float]],
    guidance: float | None,
    extra: dict[str, object],
) -> None:
    record = minimal(
        prompt=prompt, negative_prompt=negative, seed=seed, levels=levels, guidance=guidance, extra=extra
    )
    again = Record.from_json(record.to_json())
    assert again == record
    assert again.to_json() == record.to_json()
    assert again.prompt == prompt


def test_json_is_one_line_of_ascii_whatever_the_prompt() -> None:
    written = minimal(prompt="ein Fuchs 🦊\n\u2028\x00\ud800").to_json()
    assert written.isascii()
    assert "\n" not in written
    assert Record.from_json(written).prompt == "ein Fuchs 🦊\n\u2028\x00\ud800"


def test_every_field_of_the_record_is_in_the_json(record: Record) -> None:
    written = json.loads(record.to_json())
    fields = {f.name for f in dataclasses.fields(Record)} - {"extra"}
    assert set(written) == fields | {"format_version", "from_the_future"}
    assert written["format_version"] == FORMAT_VERSION


def test_a_field_it_does_not_know_survives() -> None:
    written = json.loads(minimal().to_json()) | {"mood": {"calm": 0.5}}
    record = Record.from_json(json.dumps(written))
    assert record.extra == {"mood": {"calm": 0.5}}
    assert json.loads(record.to_json())["mood"] == {"calm": 0.5}


def test_a_version_of_the_future_is_refused_with_what_to_do() -> None:
    written = json.loads(minimal().to_json()) | {"format_version": FORMAT_VERSION + 1}
    with pytest.raises(ProvenanceError, match=r"format version 2.*reads up to 1.*newer fewstep"):
        Record.from_json(json.dumps(written))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{", "not readable JSON"),
        (b"\xff\xfe\xfa", "not readable JSON"),
        ("[" * 100_000, "not readable JSON"),
        ("[1]", "must be a JSON object, got a list"),
        ("{}", "format_version must be a whole number of at least 1, got None"),
        ('{"format_version": 1, "prompt": "fox"}', "lacks seed, steps"),
        ('{"format_version": 1, "guidance": NaN}', "NaN is not JSON"),
    ],
)
def test_what_is_no_record_is_refused_with_the_reason(source: str | bytes, message: str) -> None:
    with pytest.raises(ProvenanceError, match=message):
        Record.from_json(source)


@pytest.mark.parametrize(
    ("field", "wrong", "message"),
    [
        ("prompt", 3, "prompt must be a string, got 3"),
        ("seed", -1, "seed must be a whole number of at least 0, got -1"),
        ("steps", "4", "steps must be a whole number of at least 1, got '4'"),
        ("steps", True, "steps must be a whole number"),
        ("steps", 4.0, "steps must be a whole number"),
        ("size", (64,), "size must be a pair"),
        ("size", (64, 0), r"size\[1\] must be a whole number of at least 1, got 0"),
        ("levels", [(0, 1), (1,)], r"levels\[1\] must be a pair"),
        ("levels", [(0, float("inf"))], r"levels\[0\]\[1\] must be finite, got inf"),
        ("guidance", float("nan"), "guidance must be finite, got nan"),
        ("guidance", "2", "guidance must be a number, got '2'"),
        ("id", "../x", "id must be 32 hexadecimal digits"),
        ("created", "2026-01-01T00:00:00+02:00", "created must be an ISO 8601 time in UTC"),
        ("created", "yesterday", "created must be an ISO 8601 time in UTC"),
        ("parents", ["holiday.png"], r"parents\[0\] must be a hash"),
        ("parents", "00112233445566778899aabbccddeeff", "parents must be a list"),
        ("software", {"numpy": 2}, r"software\.numpy must be a string, got 2"),
        ("sampler_settings", {"f": print}, r"sampler_settings\.f must be a JSON value"),
        ("sampler_settings", [], "sampler_settings must be a mapping"),
        ("extra", {"seed": 1}, "extra must not hold fields of the record itself, got seed"),
        ("device", "two\nlines", "device must be one line"),
    ],
)
def test_a_wrong_value_is_named_with_what_would_be_right(field: str, wrong: object, message: str) -> None:
    with pytest.raises(ProvenanceError, match=message):
        minimal(**{field: wrong})


@pytest.mark.parametrize("path", ["/srv/models/emoji", "~/emoji", "./emoji", "C:\\emoji", "file:///emoji"])
@pytest.mark.parametrize("field", ["model", "recipe", "engine", "device", "sampler", "background"])
def test_a_file_path_is_no_name(field: str, path: str) -> None:
    with pytest.raises(ProvenanceError, match=f"{field} must be a name, not a file path"):
        minimal(**{field: path})


def test_a_file_path_is_no_sampler_setting_however_deep() -> None:
    with pytest.raises(ProvenanceError, match="not a file path"):
        minimal(sampler_settings={"control": [{"image": "/srv/upload.png"}]})


def test_the_name_of_a_hub_repository_is_a_name() -> None:
    assert minimal(model="someone/some-model-v1.5").model == "someone/some-model-v1.5"


def test_numbers_that_only_behave_like_numbers_become_plain_ones() -> None:
    class Four:
        def __index__(self) -> int:
            return 4

    class Half:
        def __float__(self) -> float:
            return 0.5

    record = minimal(steps=Four(), guidance=Half(), sampler_settings={"a": Four(), "b": Half()})
    assert (type(record.steps), type(record.guidance)) == (int, float)
    assert record.sampler_settings == {"a": 4, "b": 0.5}


def test_changing_what_it_was_made_from_does_not_change_the_record() -> None:
    inner: dict[str, object] = {"eta": [1]}
    record = minimal(sampler_settings=inner)
    inner["eta"] = 2
    written = record.to_dict()
    assert isinstance(written["sampler_settings"], dict)
    written["sampler_settings"]["eta"] = 3
    assert record.sampler_settings == {"eta": [1]}


def test_two_records_have_two_ids_and_can_be_put_in_a_set() -> None:
    a, b = minimal(), minimal()
    assert a.id != b.id
    assert len({a, b, Record.from_json(a.to_json())}) == 2


def test_the_only_fact_about_the_machine_is_its_architecture() -> None:
    assert minimal().device == platform.machine()


def test_installed_names_the_versions_it_finds_and_leaves_out_the_rest() -> None:
    versions = installed("Pillow", "no-such-package-of-that-name")
    assert set(versions) == {"Pillow"}
    assert minimal(software=versions).software == versions


@pytest.mark.parametrize("depth", [40, 300, 700, 980])
@pytest.mark.parametrize("field", ["from_the_future", "prompt", "sampler_settings", "timings"])
def test_a_record_nested_too_deeply_is_none(field: str, depth: int) -> None:
    text = minimal().to_json()
    for wrapped in ('{"a":' * depth + "1" + "}" * depth, "[" * depth + "]" * depth):
        with pytest.raises(ProvenanceError):
            Record.from_json(text[:-1] + f',"{field}":{wrapped}}}')


def test_what_is_nested_within_reason_is_kept() -> None:
    deep: Any = 1
    for _ in range(30):
        deep = [deep]
    assert Record.from_json(minimal(extra={"deep": deep}).to_json()).extra["deep"] == deep
