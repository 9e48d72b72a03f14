"""Decoding and framing: what a file says is what training sees, and nothing hostile gets through."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageCms

from fewstep.pictures.decode import MAX_PIXELS, BadImage, _transform, decode
from fewstep.pictures.frame import Frame
from picture_cases import BAD, encoded, gradient, rng


def framed(file: bytes, size: int | tuple[int, int] = 16, **options: object) -> np.ndarray:
    frame = Frame(size, **options)
    return frame.draw(frame.prepare(decode(file)), rng())


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_with_a_reason(name: str) -> None:
    with pytest.raises(BadImage) as refused:
        decode(BAD[name])
    assert str(refused.value)


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(BadImage, match="3600000000 pixels"):
        decode(BAD["huge.png"])


def test_a_bomb_is_what_pillow_takes_for_one() -> None:
    assert MAX_PIXELS == Image.MAX_IMAGE_PIXELS


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_more_pixels_than_allowed_are_refused() -> None:
    side = int(MAX_PIXELS**0.5) + 1
    file = encoded(Image.new("1", (side, side)))
    with pytest.raises(BadImage, match=f"{side} × {side} pixels"):
        decode(file)


def test_an_empty_file_and_a_missing_one_say_so(tmp_path) -> None:
    with pytest.raises(BadImage, match="the file is empty"):
        decode(b"")
    with pytest.raises(BadImage, match="the file is missing"):
        decode(tmp_path / "none.png")


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
def test_random_damage_never_raises_anything_else() -> None:
    sources = [encoded(gradient(), kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")]
    chance = rng(3)
    refused = 0
    for trial in range(280):
        file = bytearray(sources[trial % len(sources)])
        for place in chance.integers(len(file), size=8):
            file[place] = chance.integers(256)
        file = file[: int(chance.integers(1, len(file) + 1))] if trial % 2 else file
        try:
            image = decode(bytes(file))
        except BadImage:
            refused += 1
        else:
            assert image.mode in ("RGB", "RGBA")
    assert refused > 100


def test_data_are_float32_channels_first_between_0_and_1() -> None:
    data = framed(encoded(gradient(16, 16)))
    assert (data.dtype, data.shape) == (np.float32, (3, 16, 16))
    assert data.flags["C_CONTIGUOUS"]
    assert np.array_equal(data * 255, np.asarray(gradient(16, 16)).transpose(2, 0, 1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(orientation: int) -> None:
    upright = gradient(32, 16)
    # How a camera held so would have stored it: the inverse of the turn the tag asks for.
    inverse = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(inverse[orientation]) if orientation in inverse else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind in ("JPEG", "PNG", "TIFF"):
        image = decode(encoded(stored, kind, exif=exif, **({"quality": 98} if kind == "JPEG" else {})))
        assert image.size == upright.size
        difference = np.abs(np.asarray(image, dtype=int) - np.asarray(upright, dtype=int))
        assert difference.mean() < 4, kind


def test_sixteen_bit_grey_keeps_its_range() -> None:
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    for kind in ("PNG", "TIFF"):
        pixels = np.asarray(decode(encoded(Image.fromarray(values), kind)))
        assert pixels[0, :, 0].tolist() == [0, 1, 128, 255], kind


def test_sixteen_bit_grey_may_have_one_transparent_value() -> None:
    values = np.array([[257, 258, 65535]], dtype=np.uint16)
    image = decode(encoded(Image.fromarray(values), transparency=257))
    assert np.asarray(image)[0, :, 3].tolist() == [0, 255, 255]


def test_cmyk_becomes_the_colour_it_prints() -> None:
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    red, green, blue = framed(encoded(cyan, "JPEG", quality=98)).mean(axis=(1, 2))
    assert red < 0.05
    assert green > 0.95
    assert blue > 0.95


def test_palette_with_transparency_is_premultiplied() -> None:
    image = Image.new("P", (16, 16), 0)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.paste(1, (8, 0, 16, 16))
    data = framed(encoded(image, transparency=0), channels="RGBA")
    assert np.array_equal(data[:, :, 0], np.zeros((4, 16)))
    assert np.array_equal(data[:, 0, 15], [0, 1, 0, 1])


def test_grey_with_alpha_is_premultiplied() -> None:
    image = Image.new("LA", (16, 16), (200, 128))
    data = framed(encoded(image), channels="RGBA")
    assert data[3].max() == pytest.approx(128 / 255)
    assert data[:3] == pytest.approx(np.full((3, 16, 16), 200 / 255 * 128 / 255), abs=1 / 255)


def test_premultiplied_colour_never_exceeds_alpha() -> None:
    noise = Image.fromarray(rng(1).integers(0, 256, (61, 47, 4)).astype(np.uint8))
    data = framed(encoded(noise), channels="RGBA")
    assert (data[:3] <= data[3:]).all()


def test_a_transparent_pixels_colour_does_not_bleed() -> None:
    image = Image.new("RGBA", (64, 64), (0, 255, 0, 0))  # invisible green round a red square
    image.paste((255, 0, 0, 255), (16, 16, 48, 48))
    data = framed(encoded(image), channels="RGBA")
    assert data[1].max() == 0


def test_transparency_lies_on_the_background_without_an_alpha_channel() -> None:
    clear = encoded(Image.new("RGBA", (8, 8), (255, 0, 0, 0)))
    assert (framed(clear) == 1).all()
    assert framed(clear, background=(0, 51, 255))[:, 0, 0] == pytest.approx([0, 0.2, 1])
    assert framed(clear, channels="L", background=(0, 0, 0)).shape == (1, 16, 16)
    assert (framed(clear, channels="L", background=(0, 0, 0)) == 0).all()


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for kind in ("GIF", "WEBP", "PNG"):
        options = {"lossless": True} if kind == "WEBP" else {}
        file = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert framed(file)[:, 8, 8].round(2).tolist() == [1, 0, 0], kind


def test_a_colour_profile_is_followed_to_srgb() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"----", 1).replace(b"gXYZ", b"rXYZ", 1).replace(b"----", b"gXYZ", 1)
    swapped = swapped.replace("sRGB".encode("utf-16-be"), "GRBs".encode("utf-16-be"))  # as its name is not looked up
    red = Image.new("RGB", (8, 8), (255, 0, 0))
    assert framed(encoded(red, icc_profile=srgb))[:, 0, 0].tolist() == [1, 0, 0]
    assert framed(encoded(red, icc_profile=swapped))[:, 0, 0] == pytest.approx([0, 1, 0], abs=0.02)
    half = Image.new("RGBA", (8, 8), (255, 0, 0, 128))
    mixed = framed(encoded(half, icc_profile=swapped), channels="RGBA")[:, 0, 0]
    assert mixed == pytest.approx([0, 0.5, 0, 0.5], abs=0.02)


def test_a_large_colour_profile_is_followed_and_not_kept() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    usual, large = (encoded(Image.new("RGB", (8, 8)), icc_profile=srgb + bytes(extra)) for extra in (0, 100_000))
    _transform.cache_clear()
    decode(large)
    assert _transform.cache_info().currsize == 0
    decode(usual)
    assert _transform.cache_info().currsize == 1


def test_a_broken_colour_profile_is_not_followed() -> None:
    file = encoded(Image.new("RGB", (8, 8), (255, 0, 0)), icc_profile=b"nonsense")
    assert framed(file)[:, 0, 0].tolist() == [1, 0, 0]


def test_center_crop_takes_the_middle() -> None:
    image = Image.new("RGB", (48, 16), "blue")
    image.paste((255, 0, 0), (16, 0, 32, 16))
    data = framed(encoded(image))
    assert data[0, :, 2:-2].min() > 0.98
    assert data[2, :, 2:-2].max() < 0.02


def test_pad_shows_the_whole_image_on_the_background() -> None:
    flat = encoded(Image.new("RGB", (32, 8), (255, 0, 0)))
    data = framed(flat, crop="pad", background=(0, 0, 255))
    assert data[:, 0, 0].tolist() == [0, 0, 1]
    assert data[:, 8, 0].tolist() == [1, 0, 0]
    clear = framed(flat, crop="pad", channels="RGBA")
    assert clear[:, 0, 0].tolist() == [0, 0, 0, 0]
    assert clear[:, 8, 0].tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize("crop", ["center", "random", "pad"])
@pytest.mark.parametrize("width", [1, 7, 16, 33, 5000])
@pytest.mark.parametrize("height", [1, 16, 50])
def test_every_shape_of_image_fills_the_frame(crop: str, width: int, height: int) -> None:
    file = encoded(gradient(width, height))
    assert framed(file, (16, 24), crop=crop).shape == (3, 16, 24)


def test_random_crops_reach_both_ends_and_come_from_the_rng_alone() -> None:
    frame = Frame(16, crop="random")
    pixels = frame.prepare(gradient(48, 16))
    first = np.array([frame.draw(pixels, rng(seed))[0, 0, 0] for seed in range(200)])
    assert first.min() == 0
    assert first.max() > 0.6
    assert np.array_equal(frame.draw(pixels, rng(5)), frame.draw(pixels, rng(5)))


def test_flip_mirrors_about_half_of_the_draws() -> None:
    frame = Frame(16, flip=True)
    pixels = frame.prepare(gradient(16, 16))
    flipped = [frame.draw(pixels, rng(seed))[0, 0, 0] > 0.5 for seed in range(400)]
    assert 150 < sum(flipped) < 250


def test_a_jpeg_is_decoded_smaller_but_not_below_twice_what_is_wanted() -> None:
    file = encoded(gradient(1200, 800), "JPEG")
    for reach in (32, 100, 200, 400):
        assert 2 * reach <= min(decode(file, reach).size) < 4 * reach


def test_a_strip_is_cut_to_16_frames_before_a_random_crop_moves_in_it() -> None:
    assert Frame((8, 16), crop="random").prepare(Image.new("RGB", (4000, 8))).shape == (8, 256, 3)
    assert Frame((8, 16), crop="random").prepare(Image.new("RGB", (16, 4000))).shape == (128, 16, 3)
    assert Frame((8, 16), crop="random").prepare(Image.new("RGB", (160, 8))).shape == (8, 160, 3)


def test_a_fast_jpeg_decode_looks_like_the_slow_one() -> None:
    file = encoded(gradient(1200, 800), "JPEG", quality=95)
    frame = Frame(32)
    fast, slow = frame.prepare(decode(file, 32)), frame.prepare(decode(file))
    assert np.abs(fast.astype(int) - slow.astype(int)).max() <= 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size must be between 1 and 8192 pixels, got 0"),
        ({"size": 8, "channels": "CMYK"}, "channels must be one of RGB, RGBA, L, got 'CMYK'"),
        ({"size": 8, "crop": "left"}, "crop must be one of center, random, pad, got 'left'"),
        ({"size": 8, "background": (0, 0, 300)}, "background must be three numbers between 0 and 255"),
    ],
)
def test_a_wrong_setting_names_what_would_be_right(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Frame(**options)
