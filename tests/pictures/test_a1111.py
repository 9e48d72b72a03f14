"""The text other image tools read: checked with a reader written from their rules, not with our writer."""

import dataclasses
import io
import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fewstep.pictures import Record, encode, parameters

SETTING = re.compile(r'\s*([\w ]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
EXIF, USER_COMMENT = 0x8769, 0x9286


def settings_of(text: str) -> dict[str, str]:
    """`name: value` pairs of the last line; a quoted value is a JSON string."""
    pairs = SETTING.findall(text.split("\n")[-1])
    return {name: json.loads(value) if value.startswith('"') else value for name, value in pairs}


def user_comment(data: bytes) -> str:
    """As piexif reads it: eight bytes of character code, then UTF-16BE whatever the block's byte order."""
    with Image.open(io.BytesIO(data)) as image:
        comment = image.getexif().get_ifd(EXIF)[USER_COMMENT]
    assert comment[:8] == b"UNICODE\0"
    return comment[8:].decode("utf-16-be")


def test_the_text_is_prompt_then_negative_prompt_then_settings(record: Record) -> None:
    assert parameters(record) == (
        "a red fox, sitting\n"
        "Negative prompt: blurry\n"
        "Steps: 4, Sampler: consistency, CFG scale: 2.5, Seed: 7, Size: 12x8, "
        "Model hash: 0123456789, Model: emoji, Version: fewstep 0.1.0"
    )


def test_what_was_not_asked_for_is_left_out(record: Record) -> None:
    text = parameters(dataclasses.replace(record, negative_prompt="", guidance=None, software={}))
    assert "Negative prompt" not in text
    assert set(settings_of(text)) == {"Steps", "Sampler", "Seed", "Size", "Model hash", "Model"}


@pytest.mark.parametrize("name", ["plain", "a, b", "v1: final", 'with "quotes", and comma', "back\\slash, comma"])
def test_a_reader_gets_back_a_name_with_separators_in_it(record: Record, name: str) -> None:
    found = settings_of(parameters(dataclasses.replace(record, model=name)))
    assert found["Model"] == name
    assert found["Steps"] == "4"
    assert found["Version"] == "fewstep 0.1.0"


@pytest.mark.parametrize("format", ["jpeg", "webp"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prompt=st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_exif_carries_the_text_in_any_script(record: Record, format: str, prompt: str) -> None:
    written = dataclasses.replace(record, prompt=prompt)
    assert user_comment(encode(Image.new("RGB", (4, 4)), format, written)) == parameters(written)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prompt=st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_a_png_chunk_carries_the_text_in_any_script(record: Record, prompt: str) -> None:
    written = dataclasses.replace(record, prompt=prompt)
    with Image.open(io.BytesIO(encode(Image.new("RGB", (4, 4)), "png", written))) as image:
        assert image.info["parameters"] == parameters(written)


def test_the_png_chunk_is_the_simple_one_unless_the_prompt_needs_the_other(record: Record) -> None:
    picture = Image.new("RGB", (4, 4))
    assert b"tEXtparameters\0" in encode(picture, "png", dataclasses.replace(record, prompt="café"))
    assert b"iTXtparameters\0" in encode(picture, "png", dataclasses.replace(record, prompt="狐 🦊"))


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_exif_is_big_endian_and_its_comment_undefined_bytes_as_a1111_expects(record: Record, format: str) -> None:
    comment = b"UNICODE\0" + parameters(record).encode("utf-16-be")
    with Image.open(io.BytesIO(encode(Image.new("RGB", (4, 4)), format, record))) as image:
        found = image.info["exif"].removeprefix(b"Exif\0\0")
    assert (
        found
        == (
            b"MM\0\x2a\0\0\0\x08"  # big-endian, the first directory at 8
            b"\0\x01\x87\x69\0\x04\0\0\0\x01\0\0\0\x1a\0\0\0\0"  # one entry: the EXIF directory is at 26
            b"\0\x01\x92\x86\0\x07" + len(comment).to_bytes(4) + b"\0\0\0\x2c\0\0\0\0"  # UNDEFINED, at 44
        )
        + comment
    )


def test_what_no_text_field_can_hold_is_replaced_not_a_crash(record: Record) -> None:
    text = parameters(dataclasses.replace(record, prompt="a\0b\ud800c"))
    assert text.startswith("ab?c\n")


def test_a_prompt_too_long_for_a_jpeg_marker_is_cut_and_the_settings_stay_whole(record: Record) -> None:
    written = dataclasses.replace(record, prompt="🦊" * 32_000)
    text = user_comment(encode(Image.new("RGB", (4, 4)), "jpeg", written))
    prompt, found = text.split("\n")
    assert re.fullmatch("🦊{16000,}…", prompt)
    assert found == parameters(written).split("\n")[-1]
