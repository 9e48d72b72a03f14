"""Pictures carry their record, in memory and in files."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

import fewstep
from fewstep import pictures
from fewstep.generation import GeneratedImage, RequestError
from fewstep.pictures.pixels import from_image, to_image
from tiny_models import SIDE, TinyModels, onnx

SUFFIXES = [".png", ".jpg", ".jpeg", ".webp"]


@pytest.fixture(scope="module")
def image(tiny: TinyModels) -> GeneratedImage:
    return onnx(tiny.student).generate("a blue cat 🐱", seed=7, steps=2)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_saved_image_holds_its_record(image: GeneratedImage, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"cat{suffix}"
    image.save(file)
    shown = image.record if suffix in (".png", ".webp") else replace(image.record, background="white")
    assert pictures.read_record(file) == shown
    assert Image.open(file).size == image.size


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_without_metadata_a_file_holds_none(image: GeneratedImage, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"cat{suffix}"
    image.save(str(file), metadata=False)
    assert pictures.read_record(file) is None
    content = file.read_bytes()
    for trace in (b"cat", b"fewstep", b"Steps", b"trainedAlgorithmicMedia", image.record.id.encode()):
        assert trace not in content


def test_a_png_is_the_image_to_the_bit_in_a_file_or_in_memory(image: GeneratedImage, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    image.save(buffer, "png")
    image.save(tmp_path / "cat.png")
    assert buffer.getvalue() == (tmp_path / "cat.png").read_bytes()
    np.testing.assert_array_equal(np.asarray(Image.open(buffer)), np.asarray(image))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_open_file_says_its_format_by_its_name(image: GeneratedImage, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"cat{suffix}"
    with file.open("wb") as stream:
        image.save(stream)
    image.save(tmp_path / f"same{suffix}")
    assert file.read_bytes() == (tmp_path / f"same{suffix}").read_bytes()


def test_a_file_whose_name_says_no_format_needs_one(image: GeneratedImage, tmp_path: Path) -> None:
    with (tmp_path / "cat.data").open("wb") as named, open(named.fileno(), "wb", closefd=False) as numbered:
        for stream in (named, numbered, io.BytesIO()):
            with pytest.raises(ValueError, match="format must be given"):
                image.save(stream)
        image.save(named, "png")
    assert pictures.read_record(tmp_path / "cat.data") == image.record


DERIVED: dict[str, Any] = {
    "convert": lambda image: image.convert("RGB"),
    "to grey": lambda image: image.convert("L"),
    "to a palette": lambda image: image.convert("RGB").convert("P"),
    "quantize": lambda image: image.quantize(8),
    "resize": lambda image: image.resize((50, 20), Image.Resampling.LANCZOS),
    "reduce": lambda image: image.reduce(2),
    "rotate": lambda image: image.rotate(30, expand=True),
    "rotate by a right angle": lambda image: image.rotate(90),
    "crop": lambda image: image.crop((2, 2, 9, 9)),
    "transpose": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "transform": lambda image: image.transform((9, 9), Image.Transform.EXTENT, (0, 0, 4, 4)),
    "filter": lambda image: image.filter(ImageFilter.BLUR),
    "point": lambda image: image.point(lambda value: value // 2),
    "channel": lambda image: image.getchannel("A"),
    "split": lambda image: image.split()[0],
}


@pytest.mark.parametrize("name", DERIVED)
def test_what_is_made_of_an_image_keeps_its_record(image: GeneratedImage, tmp_path: Path, name: str) -> None:
    derived, expected = DERIVED[name](image), DERIVED[name](Image.fromarray(np.asarray(image)))
    assert isinstance(derived, GeneratedImage)
    assert (derived.mode, derived.size, derived.tobytes()) == (expected.mode, expected.size, expected.tobytes())
    derived.save(tmp_path / "derived.png")
    assert pictures.read_record(tmp_path / "derived.png") == image.record == derived.record
    assert derived.copy().convert("RGBA").tobytes() == expected.convert("RGBA").tobytes()
    assert pickle.loads(pickle.dumps(derived)).record == image.record


def test_a_copy_has_pixels_of_its_own(image: GeneratedImage) -> None:
    before = image.tobytes()
    for other in (image.copy(), GeneratedImage.of(image, image.record)):
        other.paste((1, 2, 3, 4), (0, 0, 4, 4))
        assert other.tobytes() != before == image.tobytes()


def test_the_record_may_be_given_by_hand(image: GeneratedImage, tmp_path: Path) -> None:
    pictures.save(image, tmp_path / "cat.png", image.record)
    assert pictures.read_record(tmp_path / "cat.png") == image.record


def test_copies_and_pickles_keep_the_record(image: GeneratedImage) -> None:
    for other in (copy.copy(image), copy.deepcopy(image), pickle.loads(pickle.dumps(image))):
        assert isinstance(other, GeneratedImage)
        assert other.record == image.record
        np.testing.assert_array_equal(np.asarray(other), np.asarray(image))


def test_a_format_without_a_place_for_the_record_is_refused(image: GeneratedImage, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must end in \.png"):
        image.save(tmp_path / "cat.bmp")
    assert list(tmp_path.iterdir()) == []


def rgba(*values: float) -> Any:
    return np.full((4, 2, 3), 0.0, dtype=np.float32) + np.float32(values)[:, None, None]


def test_premultiplied_pixels_become_straight_ones() -> None:
    assert to_image(rgba(0.5, 0.25, 0.0, 0.5), "rgba_premultiplied").getpixel((0, 0)) == (255, 128, 0, 128)
    assert to_image(rgba(0.9, 0.9, 0.9, 0.0), "rgba_premultiplied").getpixel((0, 0)) == (0, 0, 0, 0)


def test_pixels_out_of_range_are_clipped() -> None:
    assert to_image(rgba(2.0, -1.0, 0.5, 1.5), "rgba_premultiplied").getpixel((0, 0)) == (255, 0, 128, 255)
    assert to_image(np.float32([[[-0.5, 1.5]]]), "grey").tobytes() == b"\x00\xff"


def test_a_background_shows_through_in_proportion() -> None:
    laid = to_image(rgba(0.5, 0.0, 0.0, 0.5), "rgba_premultiplied", "#0000ff")
    assert (laid.mode, laid.getpixel((0, 0))) == ("RGB", (128, 0, 128))


@pytest.mark.parametrize(("pixel_format", "mode", "channels"), [("grey", "L", 1), ("rgb", "RGB", 3)])
def test_opaque_formats_survive_there_and_back(pixel_format: Any, mode: str, channels: int) -> None:
    pixels = np.random.default_rng(0).random((channels, 8, 6), dtype=np.float32)
    picture = to_image(pixels, pixel_format)
    assert (picture.mode, picture.size) == (mode, (6, 8))
    np.testing.assert_allclose(from_image(picture, pixels.shape, pixel_format), pixels, atol=0.51 / 255)


@pytest.mark.parametrize("mode", ["RGBA", "RGB", "L", "LA", "P", "1", "CMYK"])
def test_a_control_image_of_any_mode_and_size_fits_the_model(mode: str) -> None:
    control = from_image(Image.new(mode, (37, 5)), (4, SIDE, SIDE), "rgba_premultiplied")
    assert (control.shape, control.dtype) == ((4, SIDE, SIDE), np.float32)
    assert 0 <= control.min() <= control.max() <= 1
    assert (control[:3] <= control[3:] + 1e-6).all()


def test_transparent_parts_of_a_control_image_hide_their_colour() -> None:
    picture = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    picture.paste((0, 0, 255, 255), (0, 0, 8, 16))
    control = from_image(picture, (4, 8, 8), "rgba_premultiplied")
    assert control[0].max() < 0.01  # red nowhere, not at the border either
    assert control[2, :, :3].min() > 0.95


def house(size: tuple[int, int] = (64, 64), paper: str = "white") -> Image.Image:
    """A drawing on paper: a filled shape in the middle, white within."""
    picture = Image.new("RGB", size, paper)
    ImageDraw.Draw(picture).rectangle((16, 16, 47, 47), fill="white", outline="black", width=8)
    return picture


@pytest.mark.parametrize("paper", ["white", "#fff8e0", "black"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_the_paper_of_an_opaque_drawing_is_transparent(paper: str, mode: str) -> None:
    picture = house(paper=paper)
    if paper == "black":
        picture = Image.eval(house(), lambda value: 255 - value)
    opened = picture.quantize() if mode == "P" else picture.convert(mode)
    control = from_image(opened, (4, 16, 16), "rgba_premultiplied")
    assert control[:, :3].max() < 0.01
    assert control[:, 13:].max() < 0.01
    assert control[3, 5, 5:11].min() > 0.9  # the line
    within = control[3, 7:9, 7:9]
    assert (within.min() > 0.99) if paper == "#fff8e0" else (within.max() < 0.01)  # filled, or paper again


def test_paper_as_a_camera_sees_it_is_paper() -> None:
    noise = np.random.default_rng(0).integers(-12, 13, (64, 64, 1))
    photo = Image.fromarray((np.asarray(house(paper="#e0e0e0")) + noise).clip(0, 255).astype(np.uint8))
    control = from_image(photo, (4, 16, 16), "rgba_premultiplied")
    assert control[3, :3].max() < 0.01
    assert control[3, 5, 5:11].min() > 0.9


def test_a_line_that_runs_off_the_edge_leaves_the_paper_paper() -> None:
    picture = house()
    ImageDraw.Draw(picture).line((32, 32, 32, 63), fill="black", width=4)
    control = from_image(picture, (4, 16, 16), "rgba_premultiplied")
    assert control[3, 15, 8] > 0.7
    assert control[3, 15, :5].max() < 0.01


def test_a_picture_without_paper_stays_opaque() -> None:
    two = Image.new("RGB", (64, 64), "white")
    two.paste("green", (0, 32, 64, 64))
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8))
    for picture in (two, noise):
        assert from_image(picture, (4, 16, 16), "rgba_premultiplied")[3].min() == 1


def test_an_empty_sheet_is_empty() -> None:
    assert not from_image(Image.new("RGB", (40, 30), "white"), (4, 16, 16), "rgba_premultiplied").any()


def test_another_aspect_is_padded_and_not_squashed() -> None:
    drawn = from_image(house((128, 64)), (4, 32, 32), "rgba_premultiplied")
    rows, columns = np.nonzero(drawn[3] > 0.5)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (8, 8)
    assert (int(rows.min()), int(columns.min())) == (12, 4)
    clear = Image.new("RGBA", (64, 32), (0, 0, 255, 255))
    clear.putpixel((0, 0), (0, 0, 0, 0))
    padded = from_image(clear, (4, 32, 32), "rgba_premultiplied")
    assert not padded[:, :8].any()
    assert padded[2, 8:24].min() > 0.5


def test_opaque_models_see_the_paper_go_on() -> None:
    wide = from_image(house((128, 64), "#336699"), (3, 32, 32), "rgb")
    np.testing.assert_allclose(wide[:, 0, 0], np.array([0x33, 0x66, 0x99]) / 255, atol=1e-6)
    clear = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    assert from_image(clear, (1, 16, 16), "grey").min() == 1


def test_points_are_no_picture() -> None:
    with pytest.raises(ValueError, match="'points' are not a picture"):
        to_image(np.zeros((2, 2, 2)), "points")


def test_an_opaque_model_refuses_transparency_and_records_no_background(tiny: TinyModels) -> None:
    from fewstep.generation import Model
    from fewstep.models.codecs import SpaceToDepth
    from fewstep.models.components import components
    from fewstep.models.conditioning import Conditioning

    spec = tiny.teacher.spec
    made_of = components(spec.network, Conditioning(SpaceToDepth()))
    spec = replace(spec, components=made_of, pixels=(1, SIDE, SIDE), pixel_format="grey", guidance=None)
    grey = Model(replace(tiny.teacher, spec=spec), lambda x, at, to, cond: 0 * x, "fake")
    with pytest.raises(RequestError, match="draws opaque images"):
        grey.generate(background="transparent")
    image = grey.generate(background="white", seed=0)
    assert (image.mode, image.record.background) == ("L", None)


def test_the_public_names_are_the_generation_services() -> None:
    from fewstep import generation

    assert fewstep.load is generation.load
    assert fewstep.Request is generation.Request
    with pytest.raises(AttributeError, match="no attribute 'draw'"):
        fewstep.draw  # noqa: B018


def test_loading_and_drawing_never_import_torch(tiny: TinyModels, tmp_path: Path) -> None:
    script = f"""
import sys, fewstep
image = fewstep.load({str(tiny.student.directory)!r}, threads=1).generate("red apple", seed=7)
image.save({str(tmp_path / "apple.png")!r})
print(sorted({{name.split(".")[0] for name in sys.modules}} & {{"torch", "jaxtyping", "sklearn", "onnx", "scipy"}}))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert pictures.read_record(tmp_path / "apple.png") is not None
