"""An image file carries its record exactly or nothing at all, and is written whole or not at all."""

import dataclasses
import io
import os
import platform
import socket
import struct
import zlib
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, PngImagePlugin

from fewstep.pictures import (
    DIGITAL_SOURCE_TYPE,
    ProvenanceError,
    Record,
    encode,
    image_hash,
    installed,
    read_record,
    save,
    xmp,
)

FORMATS = ["png", "jpeg", "webp"]
fiddly = st.text() | st.text(alphabet="<>&\"',\\\n\r\t\0 ]]>{}é狐🦊\u2028\ufffe")


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def xmp_of(data: bytes) -> bytes:
    """The packet where the format's specification puts it."""
    name = b"http://ns.adobe.com/xap/1.0/\0"
    with opened(data) as image:
        if image.format == "JPEG":
            return next(body.removeprefix(name) for _, body in image.applist if body.startswith(name))
        return image.info["xmp"] if image.format == "WEBP" else image.info["XML:com.adobe.xmp"].encode()


# the record, in and out


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG", ".webp"])
def test_a_file_gives_back_its_record_exactly(
    tmp_path: Path, record: Record, sticker: Image.Image, suffix: str
) -> None:
    path = tmp_path / f"fox{suffix}"
    save(sticker, path, record)
    found = read_record(path)
    assert found == record
    assert found is not None
    assert found.to_json() == record.to_json()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prompt=fiddly, negative=fiddly)
def test_any_prompt_survives_any_format(record: Record, format: str, prompt: str, negative: str) -> None:
    written = dataclasses.replace(record, prompt=prompt, negative_prompt=negative, extra={"same": prompt})
    found = read_record(encode(Image.new("RGB", (4, 4)), format, written))
    assert found is not None
    assert found.to_json() == written.to_json()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("letter", ["a", "狐", "🦊", "<"])
def test_the_longest_prompt_survives_any_format(record: Record, format: str, letter: str) -> None:
    written = dataclasses.replace(record, prompt=letter * 32_000, negative_prompt=letter * 32_000)
    assert read_record(encode(Image.new("RGB", (4, 4)), format, written)) == written


@pytest.mark.parametrize("format", FORMATS)
def test_paths_bytes_and_file_objects_are_the_same_to_it(
    tmp_path: Path, record: Record, sticker: Image.Image, format: str
) -> None:
    data = encode(sticker, format, record)
    file = io.BytesIO()
    save(sticker, file, record, format)
    save(sticker, tmp_path / "fox", record, format)
    assert file.getvalue() == data == (tmp_path / "fox").read_bytes()
    assert read_record(data) == read_record(bytearray(data)) == read_record(file) == record
    assert read_record(str(tmp_path / "fox")) == record
    assert not file.closed


@pytest.mark.parametrize("format", FORMATS)
def test_an_image_without_a_record_reads_as_none(sticker: Image.Image, format: str) -> None:
    assert read_record(encode(sticker, format)) is None


def test_somebody_elses_metadata_reads_as_none() -> None:
    for packet in (b"<x/>", b"not xml", b"<!DOCTYPE x><x/>", b""):
        for format in ("JPEG", "WEBP"):
            file = io.BytesIO()
            Image.new("RGB", (4, 4)).save(file, format, xmp=packet)
            assert read_record(file) is None


def test_a_png_chunk_behind_the_pixels_is_found(record: Record, sticker: Image.Image) -> None:
    body = b"fewstep\0" + record.to_json().encode()
    chunk = struct.pack(">I", len(body)) + b"tEXt" + body + struct.pack(">I", zlib.crc32(b"tEXt" + body))
    bare = encode(sticker, "png")
    assert read_record(bare[:-12] + chunk + bare[-12:]) == record


def test_xmp_rewritten_with_attributes_is_read(record: Record) -> None:
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<r:Description xmlns:f="https://github.com/fewstep/fewstep/ns/1.0/" f:record="'
        + record.to_json().replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
        + '"/></r:RDF></x:xmpmeta>'
    )
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "WEBP", xmp=packet.encode())
    assert read_record(file) == record


@pytest.mark.parametrize("format", FORMATS)
def test_the_image_is_declared_as_made_by_a_trained_model(record: Record, sticker: Image.Image, format: str) -> None:
    tree = ElementTree.fromstring(xmp_of(encode(sticker, format, record)))
    declared = tree.find(".//{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType")
    assert declared is not None
    assert declared.text == DIGITAL_SOURCE_TYPE
    assert DIGITAL_SOURCE_TYPE == "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


# a record that cannot be read


def png_with(chunk: str) -> bytes:
    file, info = io.BytesIO(), PngImagePlugin.PngInfo()
    info.add_text("fewstep", chunk)
    Image.new("RGB", (4, 4)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def test_a_damaged_record_is_an_error_that_names_the_file_and_the_fault(tmp_path: Path) -> None:
    path = tmp_path / "fox.png"
    path.write_bytes(png_with('{"format_version": 1'))
    with pytest.raises(ProvenanceError, match=r"fox\.png: the record is not readable JSON"):
        read_record(path)
    with pytest.raises(ProvenanceError, match="the image: the record lacks prompt"):
        read_record(png_with('{"format_version": 1}'))
    with pytest.raises(ProvenanceError, match="format version 9"):
        read_record(png_with('{"format_version": 9}'))


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_damaged_xmp_is_an_error(record: Record, format: str) -> None:
    data = encode(Image.new("RGB", (4, 4)), format, record)
    with pytest.raises(ProvenanceError, match="the XMP with the record cannot be read"):
        read_record(data.replace(b"</rdf:RDF>", b"</rdf:RDX>"))
    with pytest.raises(ProvenanceError, match=f"names record {record.id} but the record itself is missing"):
        read_record(data.replace(b"fewstep:record>", b"fewstep:rekord>"))
    with pytest.raises(ProvenanceError, match="steps must be a whole number of at least 1, got 0"):
        read_record(data.replace(b'"steps":4', b'"steps":0'))


def test_a_jpeg_that_lost_part_of_a_long_record_is_an_error(record: Record) -> None:
    data = encode(Image.new("RGB", (4, 4)), "jpeg", dataclasses.replace(record, prompt="狐" * 32_000))
    start = data.rindex(b"http://ns.adobe.com/xmp/extension/") - 4
    (length,) = struct.unpack(">H", data[start + 2 : start + 4])
    with pytest.raises(ProvenanceError, match=r"extended XMP is damaged: its \d+ bytes"):
        read_record(data[:start] + data[start + 2 + length :])


@pytest.mark.parametrize("data", [b"", b"not an image", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP"])
def test_what_is_no_image_is_an_error(data: bytes) -> None:
    with pytest.raises(ProvenanceError, match=r"the image is (not a whole|a damaged)"):
        read_record(data)


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_cut_anywhere_gives_the_record_or_none_or_our_error(
    record: Record, sticker: Image.Image, format: str
) -> None:
    data = encode(sticker, format, record)
    for end in range(0, len(data), 61):
        try:
            assert read_record(data[:end]) in (record, None)
        except ProvenanceError:
            continue


def test_a_file_that_is_not_there_is_the_file_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_record(tmp_path / "none.png")


# no metadata, no trace


def test_without_a_record_the_file_holds_no_metadata_at_all(sticker: Image.Image, record: Record) -> None:
    with opened(encode(sticker, "png")) as png:
        png.load()
        assert png.info == {}
    with opened(encode(sticker, "jpeg")) as jpeg:
        assert [marker for marker, _ in jpeg.applist] == ["APP0"]  # JFIF, which every JPEG has
        assert not jpeg.getexif()
    with opened(encode(sticker, "webp")) as webp:
        assert set(webp.info) <= {"loop", "background", "duration", "timestamp"}
    for format in FORMATS:
        data = encode(sticker, format)
        for trace in (b"fewstep", b"parameters", b"xmp", b"xpacket", b"Exif", b"EXIF", b"tEXt", b"iTXt"):
            assert trace not in data


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("format", FORMATS)
def test_saving_an_opened_image_does_not_carry_its_metadata_along(
    record: Record, sticker: Image.Image, source: str, format: str
) -> None:
    with opened(encode(sticker, source, record, icc_profile=b"a profile named after a screen")) as image:
        image.load()
        image.info["comment"] = b"a comment"
        data = encode(image, format)
    assert read_record(data) is None
    for trace in (b"red fox", b"fewstep", b"a profile", b"a comment"):
        assert trace not in data


@pytest.mark.parametrize("option", ["exif", "xmp", "pnginfo", "comment", "extra"])
def test_metadata_cannot_be_brought_in_through_encoder_options(sticker: Image.Image, option: str) -> None:
    with pytest.raises(ProvenanceError, match=f"{option} must not be given"):
        encode(sticker, "png", **{option: b"x"})


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_of_the_machine_or_its_user_is_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sticker: Image.Image, format: str
) -> None:
    monkeypatch.setenv("HOME", "/home/someones-private-home")
    monkeypatch.setenv("USER", "someones-user-name")
    monkeypatch.setenv("FEWSTEP_API_KEY", "someones-secret-key")
    monkeypatch.setattr(socket, "gethostname", lambda: "someones-host")
    monkeypatch.setattr(platform, "node", lambda: "someones-host")
    path = tmp_path / f"someones-file.{format}"
    record = Record(
        prompt="fox",
        seed=1,
        steps=1,
        levels=[(0, 1), (1, 0)],
        sampler="consistency",
        model="emoji",
        model_hash="0123456789abcdef",
        size=sticker.size,
        software=installed("Pillow", "numpy", "fewstep"),
    )
    save(sticker, path, record)
    data = path.read_bytes()
    for private in ("someones", str(tmp_path), str(Path.cwd())):
        assert private.encode() not in data
        assert private.encode("utf-16-be") not in data


def test_none_of_the_real_names_of_this_machine_is_in_a_record(record: Record) -> None:
    written = dataclasses.replace(record, device=platform.machine()).to_json()
    names = {os.environ.get("HOME", ""), os.environ.get("USER", ""), socket.gethostname()}
    assert not [name for name in names if len(name) > 4 and name in written]


# the picture


@pytest.mark.parametrize("format", ["png", "webp"])
def test_colour_and_alpha_survive_where_the_format_can_hold_them(
    record: Record, sticker: Image.Image, format: str
) -> None:
    with opened(encode(sticker, format, record)) as image:
        assert image.mode == "RGBA"
        assert image.tobytes() == sticker.tobytes()


def test_alpha_survives_lossless_webp_without_asking_for_exact(record: Record, sticker: Image.Image) -> None:
    with opened(encode(sticker, "webp", record, lossless=True)) as image:
        assert image.getchannel("A").tobytes() == sticker.getchannel("A").tobytes()


def test_webp_of_a_quality_is_smaller_than_one_that_loses_nothing() -> None:
    noise = Image.effect_noise((64, 64), 90).convert("RGB")
    assert len(encode(noise, "webp", quality=50)) < len(encode(noise, "webp")) - 1000


def test_a_png_that_does_not_name_us_is_not_decoded_for_its_record(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, ours = encode(Image.new("RGB", (4, 4)), "png"), encode(Image.new("RGB", (4, 4)), "png", record)
    first, second = ours.index(b"IDAT") - 4, ours.index(b"IEND") - 4
    behind = ours[:33] + ours[first:second] + ours[33:first] + ours[second:]
    assert read_record(behind) == record
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda self: pytest.fail("it was decoded"))
    assert read_record(plain) is None
    assert read_record(ours) == record


def test_a_jpeg_keeps_the_colour_of_single_pixels() -> None:
    picture = Image.new("RGB", (64, 64), (200, 60, 60))
    for x in range(0, 64, 2):
        picture.paste((60, 60, 200), (x, 0, x + 1, 64))
    with opened(encode(picture, "jpeg")) as image:
        off = ImageChops.difference(image, picture)
    assert max(high for _, high in off.getextrema()) < 30  # with colours at half the width it is 70


@pytest.mark.parametrize("size", range(65_480, 65_540, 6))
def test_a_record_that_just_fits_a_jpeg_marker_or_just_does_not_survives(record: Record, size: int) -> None:
    bare = dataclasses.replace(record, prompt="")
    longer = size - len(xmp.packet(bare, full=True))
    written = dataclasses.replace(record, prompt="a" * longer)
    assert len(xmp.packet(written, full=True)) == size
    assert read_record(encode(Image.new("RGB", (4, 4)), "jpeg", written)) == written


def test_jpeg_lays_a_transparent_image_on_white() -> None:
    with opened(encode(Image.new("RGBA", (16, 16), (255, 0, 0, 0)), "jpeg")) as image:
        assert image.mode == "RGB"
        assert image.getpixel((8, 8)) == (255, 255, 255)


def test_a_jpegs_record_says_what_a_transparent_image_was_laid_on(record: Record) -> None:
    sticker, transparent = Image.new("RGBA", (16, 16)), dataclasses.replace(record, background="transparent")
    for background in ("white", "#0000ff"):
        written = read_record(encode(sticker, "jpeg", transparent, background=background))
        assert written == dataclasses.replace(record, background=background)
    assert read_record(encode(sticker, "png", transparent)) == transparent


def test_jpeg_lays_a_transparent_image_on_the_colour_asked_for() -> None:
    half = Image.new("RGBA", (16, 16), (255, 0, 0, 128))
    with opened(encode(half, "jpeg", background="#0000ff")) as image:
        found = image.getpixel((8, 8))
    assert isinstance(found, tuple)
    assert [abs(a - b) <= 3 for a, b in zip(found, (128, 0, 127), strict=True)] == [True] * 3


def test_a_background_that_is_no_colour_is_named() -> None:
    with pytest.raises(ProvenanceError, match=r"background must be a colour.*got 'transparent'"):
        encode(Image.new("RGBA", (4, 4)), "jpeg", background="transparent")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "I", "F"])
@pytest.mark.parametrize("format", FORMATS)
def test_an_image_of_any_mode_can_be_written(record: Record, mode: str, format: str) -> None:
    data = encode(Image.new(mode, (5, 3)), format, record)
    with opened(data) as image:
        image.load()
        assert image.size == (5, 3)
        assert image.has_transparency_data == (mode[-1] in "Aa" and format != "jpeg")
    assert read_record(data) == record


def test_a_palette_with_a_transparent_colour_stays_transparent() -> None:
    image = Image.new("P", (4, 4), 0)
    image.info["transparency"] = 0
    with opened(encode(image, "png")) as found:
        assert found.convert("RGBA").getchannel("A").getextrema() == (0, 0)


def test_the_image_given_is_left_as_it_was(record: Record, sticker: Image.Image) -> None:
    sticker.info["note"] = "mine"
    before = sticker.tobytes()
    for format in FORMATS:
        encode(sticker, format, record)
    assert (sticker.tobytes(), sticker.mode, sticker.info) == (before, "RGBA", {"note": "mine"})


def test_a_photo_stored_sideways_is_written_upright() -> None:
    photo = Image.new("RGB", (8, 4))
    photo.getexif()[0x0112] = 6
    with opened(encode(photo, "png")) as image:
        assert image.size == (4, 8)


def test_encoder_options_reach_the_encoder(sticker: Image.Image) -> None:
    picture = sticker.convert("RGB").resize((64, 64))
    assert len(encode(picture, "jpeg", quality=10)) < len(encode(picture, "jpeg", quality=95))
    assert len(encode(picture, "png", compress_level=9)) < len(encode(picture, "png", compress_level=0))


def test_the_hash_of_an_image_is_that_of_its_pixels_not_of_its_file(record: Record, sticker: Image.Image) -> None:
    with opened(encode(sticker, "png", record)) as image:
        assert image_hash(image) == image_hash(sticker)
    assert image_hash(sticker) != image_hash(sticker.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert image_hash(Image.new("RGB", (2, 3))) != image_hash(Image.new("RGB", (3, 2)))
    assert dataclasses.replace(record, parents=[image_hash(sticker)])


# where it is written


@pytest.mark.parametrize(("format", "name"), [("gif", "fox.png"), (None, "fox.gif"), (None, "fox")])
def test_a_format_it_does_not_write_is_named(
    tmp_path: Path, sticker: Image.Image, format: str | None, name: str
) -> None:
    with pytest.raises(ProvenanceError, match=r"png.*got '(gif|fox\.gif|fox)'"):
        save(sticker, tmp_path / name, format=format)
    assert list(tmp_path.iterdir()) == []


def test_a_file_object_needs_a_format(sticker: Image.Image) -> None:
    with pytest.raises(ProvenanceError, match="format must be given"):
        save(sticker, io.BytesIO())


def test_a_folder_that_is_not_there_is_said_plainly(tmp_path: Path, sticker: Image.Image) -> None:
    with pytest.raises(FileNotFoundError, match=r"cannot write the image \(No such file.*fox\.png"):
        save(sticker, tmp_path / "none" / "fox.png")


def test_a_folder_in_the_place_of_the_file_is_left_alone(tmp_path: Path, sticker: Image.Image) -> None:
    (tmp_path / "fox.png").mkdir()
    with pytest.raises(OSError, match="cannot write the image"):
        save(sticker, tmp_path / "fox.png")
    assert [p.name for p in tmp_path.iterdir()] == ["fox.png"]


def test_a_write_that_fails_leaves_the_old_file_whole_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sticker: Image.Image
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "fox.png"
    path.write_bytes(b"the old one")
    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(OSError, match=r"cannot write the image \(No space left on device\).*fox\.png"):
        save(sticker, path)
    assert [p.name for p in tmp_path.iterdir()] == ["fox.png"]
    assert path.read_bytes() == b"the old one"


def test_an_image_that_cannot_be_encoded_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"16383|encoding error 5"):
        save(Image.new("1", (16_384, 1)), tmp_path / "wide.webp")
    assert list(tmp_path.iterdir()) == []


def test_a_new_file_has_the_permissions_any_new_file_has(tmp_path: Path, sticker: Image.Image) -> None:
    (tmp_path / "other").touch()
    save(sticker, tmp_path / "fox.png")
    assert (tmp_path / "fox.png").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_link_stays_a_link(tmp_path: Path, sticker: Image.Image) -> None:
    (tmp_path / "link.png").symlink_to(tmp_path / "fox.png")
    save(sticker, tmp_path / "link.png")
    assert (tmp_path / "link.png").is_symlink()
    assert (tmp_path / "fox.png").is_file()


@pytest.mark.skipif(not Path("/dev/null").is_char_device(), reason="needs a device file")
def test_a_device_is_written_into_not_replaced(sticker: Image.Image) -> None:
    save(sticker, "/dev/null", format="png")
    assert Path("/dev/null").is_char_device()
