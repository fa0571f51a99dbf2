"""Every kind of picture file becomes uint8 HWC RGB, or one sentence that names it."""

import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskrt.core import InputError
from maskrt.runtime import as_image, images, list_images, read_image
from maskrt.runtime.images import passed_over

RAMP = np.arange(12 * 20, dtype=np.uint8).reshape(12, 20)
COLOUR = np.stack([RAMP, 255 - RAMP, RAMP // 2], axis=2)


def save(picture: Image.Image, path: Path, **options: Any) -> Path:
    picture.save(path, **options)
    return path


def assert_one_sentence(error: pytest.ExceptionInfo[InputError], path: Path) -> None:
    text = str(error.value)
    assert str(path) in text
    assert text.endswith(".")
    assert "\n" not in text
    assert ": " in text  # what is wrong: what to do


def test_rgb_png_is_read_bit_by_bit(tmp_path: Path) -> None:
    image = read_image(save(Image.fromarray(COLOUR), tmp_path / "a.png"))
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.flags.writeable
    np.testing.assert_array_equal(image, COLOUR)


def test_a_path_may_be_a_string(tmp_path: Path) -> None:
    assert read_image(str(save(Image.fromarray(COLOUR), tmp_path / "a.png"))).shape == (12, 20, 3)


def test_grey_is_repeated(tmp_path: Path) -> None:
    image = read_image(save(Image.fromarray(RAMP), tmp_path / "grey.png"))
    np.testing.assert_array_equal(image, np.repeat(RAMP[:, :, None], 3, axis=2))


def test_one_bit_becomes_black_and_white(tmp_path: Path) -> None:
    image = read_image(save(Image.fromarray(RAMP).convert("1"), tmp_path / "bits.png"))
    assert set(np.unique(image)) == {0, 255}


def test_palette_is_resolved(tmp_path: Path) -> None:
    flat = np.zeros((8, 8, 3), np.uint8)
    flat[:, 4:] = (200, 30, 90)
    image = read_image(save(Image.fromarray(flat).convert("P"), tmp_path / "p.png"))
    assert np.abs(image.astype(int) - flat).max() < 40  # the web palette has steps of 51
    assert (image[:, 4:, 0] > image[:, 4:, 1]).all()


def test_palette_with_transparency_bytes_reads_without_a_warning(tmp_path: Path) -> None:
    palette = Image.fromarray(COLOUR).quantize(16)
    path = save(palette, tmp_path / "p.png", transparency=bytes(range(0, 256, 16)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = read_image(path)
    np.testing.assert_array_equal(image, np.asarray(palette.convert("RGB")))


def test_alpha_is_dropped_and_its_colour_kept(tmp_path: Path) -> None:
    rgba = np.dstack([COLOUR, RAMP])
    np.testing.assert_array_equal(
        read_image(save(Image.fromarray(rgba), tmp_path / "rgba.png")), COLOUR
    )


@pytest.mark.parametrize("name", ["grey.png", "grey.tif", "grey.pgm"])
def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path: Path, name: str) -> None:
    deep = np.linspace(0, 65535, 12 * 20).round().astype(np.uint16).reshape(12, 20)
    file = tmp_path / name
    if file.suffix == ".pgm":  # older Pillows read it, and write none
        file.write_bytes(b"P5 20 12 65535\n" + deep.astype(">u2").tobytes())
    else:
        save(Image.fromarray(deep), file)
    image = read_image(file)
    expected = np.rint(deep / 257.0)
    np.testing.assert_array_equal(image[:, :, 1], expected)
    assert image.min() == 0
    assert image.max() == 255


def test_16_bit_colour_is_scaled_to_within_a_level(tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (5, 7, 3), dtype=np.uint16)
    path = tmp_path / "deep.png"
    path.write_bytes(png_16_bit_colour(deep))
    assert np.abs(read_image(path) - deep / 257.0).max() <= 1.0


def test_32_bit_grey_is_refused(tmp_path: Path) -> None:
    wide = np.full((4, 4), 1_000_000, np.int32)
    path = save(Image.fromarray(wide), tmp_path / "wide.tif")
    with pytest.raises(InputError, match="32-bit grey") as error:
        read_image(path)
    assert_one_sentence(error, path)


def test_floating_point_is_refused(tmp_path: Path) -> None:
    path = save(Image.fromarray(np.ones((4, 4), np.float32)), tmp_path / "float.tif")
    with pytest.raises(InputError, match="floating-point") as error:
        read_image(path)
    assert_one_sentence(error, path)


def test_cmyk_is_converted(tmp_path: Path) -> None:
    flat = Image.new("RGB", (16, 16), (220, 40, 60))
    image = read_image(save(flat.convert("CMYK"), tmp_path / "cmyk.jpg", quality=98))
    assert np.abs(image.astype(int) - (220, 40, 60)).max() <= 6  # JPEG


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    turned = {
        1: COLOUR,
        2: COLOUR[:, ::-1],
        3: COLOUR[::-1, ::-1],
        4: COLOUR[::-1],
        5: COLOUR.transpose(1, 0, 2),
        6: np.rot90(COLOUR, -1),
        7: np.rot90(COLOUR, 2).transpose(1, 0, 2),
        8: np.rot90(COLOUR, 1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(Image.fromarray(COLOUR), tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_image(path), turned[orientation])


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "blue")]
    path = save(frames[0], tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(read_image(path)[0, 0], (255, 0, 0))


def test_all_black_and_one_pixel_high(tmp_path: Path) -> None:
    black = read_image(save(Image.new("RGB", (30, 20)), tmp_path / "black.jpg"))
    assert not black.any()
    assert read_image(save(Image.new("RGB", (400, 1)), tmp_path / "thin.png")).shape == (1, 400, 3)


@pytest.mark.parametrize("kind", ["jpg", "png", "tif", "webp", "bmp"])
def test_truncated_file(tmp_path: Path, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(Image.fromarray(noise), tmp_path / f"cut.{kind}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError) as error:
        read_image(path)
    assert_one_sentence(error, path)


def test_text_is_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "notes.jpg"
    path.write_text("not a picture at all")
    with pytest.raises(InputError, match="not a picture") as error:
        read_image(path)
    assert_one_sentence(error, path)


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.jpg"
    path.touch()
    with pytest.raises(InputError, match="empty") as error:
        read_image(path)
    assert_one_sentence(error, path)


def test_absent_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist") as error:
        read_image(tmp_path / "none.png")
    assert_one_sentence(error, tmp_path / "none.png")
    with pytest.raises(InputError, match="is a folder"):
        read_image(tmp_path)


def test_what_the_system_refuses_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"^a{200} cannot be read \(File name too long\)"):
        read_image("a" * 100_000)
    file = tmp_path / "a.png"
    Image.new("RGB", (3, 3)).save(file)

    def locked(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Image, "open", locked)
    with pytest.raises(InputError, match=r"a\.png cannot be read \(Permission denied\)"):
        read_image(file)

    def sought(path: Path) -> None:
        raise OSError(22, "Invalid argument")  # to a place that a damaged file names

    monkeypatch.setattr(Image, "open", sought)
    with pytest.raises(InputError, match=r"a\.png is truncated or damaged"):
        read_image(file)


def test_decompression_bomb(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header_only(100_000, 100_000))
    with pytest.raises(InputError, match=r"more than the 268435456 pixels") as error:
        read_image(path)
    assert_one_sentence(error, path)


def test_a_large_photograph_is_no_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(Image.fromarray(COLOUR), tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)  # 240 pixels: warned of, not refused
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(path).shape == (12, 20, 3)


def test_pillows_own_guard_is_raised_for_the_one_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """240 pixels are more than twice 100, which stands for Pillow's 89 megapixels."""
    path = save(Image.fromarray(COLOUR), tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError, match="exceeds limit of 200 pixels"):
        read_image(path)  # the program's own choice stands
    monkeypatch.setattr(images, "_PILLOWS", 100)
    np.testing.assert_array_equal(read_image(path), COLOUR)
    assert Image.MAX_IMAGE_PIXELS == 100
    monkeypatch.setattr(images, "_MOST_PIXELS", 238)
    with pytest.raises(InputError, match="more than the 238 pixels") as error:
        read_image(path)
    assert_one_sentence(error, path)
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize(("side", "allowed"), [(16384, True), (16385, False)])
def test_the_limit_is_16384_squared_and_no_pixel_is_decoded_beyond(
    tmp_path: Path, side: int, allowed: bool
) -> None:
    path = tmp_path / "header.png"
    path.write_bytes(png_header_only(side, side))
    with pytest.raises(InputError, match="truncated" if allowed else "more than") as error:
        read_image(path)
    assert_one_sentence(error, path)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_picture_copied_in_bands_is_the_same(
    tmp_path: Path, orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    Image.fromarray(COLOUR).save(path, exif=exif)
    expected = COLOUR if orientation == 1 else np.rot90(COLOUR, -1)
    monkeypatch.setattr(images, "_BAND", 64)
    np.testing.assert_array_equal(read_image(path), expected)


def test_no_memory_for_a_picture_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(Image.fromarray(COLOUR), tmp_path / "a.png")

    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image, "open", full)
    with pytest.raises(InputError, match="free memory") as error:
        read_image(path)
    assert_one_sentence(error, path)


def test_as_image_takes_rgb_and_grey() -> None:
    assert as_image(COLOUR) is COLOUR
    np.testing.assert_array_equal(as_image(RAMP)[..., 2], RAMP)
    np.testing.assert_array_equal(as_image(RAMP[:, :, None])[..., 0], RAMP)
    flipped = as_image(COLOUR[:, :, ::-1])
    assert flipped.flags.c_contiguous
    np.testing.assert_array_equal(flipped, COLOUR[:, :, ::-1])


@pytest.mark.parametrize(
    ("array", "remedy"),
    [
        (np.zeros((4, 4, 3), np.float32), r"\* 255"),
        (np.zeros((4, 4, 3), np.uint16), "257"),
        (np.zeros((4, 4, 3), np.int64), "astype"),
        (np.zeros((3, 4, 5), np.uint8), "transpose"),
        (np.zeros((4, 4, 4), np.uint8), "alpha"),
        (np.zeros((2, 4, 4, 3), np.uint8), "list"),
        (np.zeros((4, 0, 3), np.uint8), "no pixels"),
        (np.zeros((4, 4, 7), np.uint8), "height, width, 3"),
        (np.zeros(4, np.uint8), "height, width, 3"),
        (Image.new("RGB", (4, 4)), "numpy.asarray"),
        (None, "NoneType"),
    ],
)
def test_as_image_says_how_to_convert(array: object, remedy: str) -> None:
    with pytest.raises(InputError, match=remedy):
        as_image(array)


def test_list_images_sorts_and_filters(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "notes.txt", ".hidden.png"):
        (tmp_path / name).touch()
    (tmp_path / "sub.png").mkdir()
    (tmp_path / "sub.png" / "deep.png").touch()
    assert [f.name for f in list_images(tmp_path)] == ["a.jpg", "b.PNG"]
    assert list_images(str(tmp_path)) == list_images(tmp_path)


@pytest.mark.parametrize("ending", ["avif", "jp2", "mpo", "jfif", "jpe", "tga", "pnm"])
def test_every_format_that_pillow_decodes_is_a_picture(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"a.{ending}"
    kind = {"jfif": "JPEG", "jpe": "JPEG", "pnm": "PPM", "jp2": "JPEG2000"}.get(ending, ending)
    try:
        Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(file, kind.upper())
    except (KeyError, OSError):
        pytest.skip(f"this Pillow has no {kind}")
    assert list_images(tmp_path) == [file]
    assert abs(int(read_image(file).mean()) - 90) <= 2


def test_what_is_passed_over_is_named(tmp_path: Path) -> None:
    for name in ("a.jpg", "notes.txt", "film.mpg", "data.h5", ".hidden", "page.pdf"):
        (tmp_path / name).touch()
    (tmp_path / "sub" / ".git").mkdir(parents=True)
    for name in ("sub/b.png", "sub/.git/c.png"):
        (tmp_path / name).touch()
    said = passed_over(tmp_path)
    assert said == (
        "4 files, no picture by its ending: data.h5, film.mpg, notes.txt, …; "
        "1 subfolder, not searched: sub"
    )
    assert [f.name for f in list_images(tmp_path)] == ["a.jpg"]
    assert [f.name for f in list_images(tmp_path, recursive=True)] == ["a.jpg", "b.png"]
    assert "sub" not in passed_over(tmp_path, recursive=True)


def test_list_images_refuses(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.touch()
    for path, why in (
        (tmp_path, "holds no picture"),
        (tmp_path / "none", "does not exist"),
        (file, "is a file"),
    ):
        with pytest.raises(InputError, match=why) as error:
            list_images(path)
        assert_one_sentence(error, path)


def chunk(kind: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum


def png_16_bit_colour(pixels: np.ndarray) -> bytes:
    """Encode uint16 [H, W, 3] as PNG, which Pillow reads and does not write."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def png_header_only(width: int, height: int) -> bytes:
    """Return a tiny file that claims to be enormous."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 64))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")
