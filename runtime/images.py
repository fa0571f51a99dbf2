"""Pictures from files and arrays: always uint8 `[H, W, 3]`, RGB, upright.

What a file becomes:
    * grey, palette, 1-bit, CMYK, YCbCr: converted to RGB by Pillow;
    * alpha: dropped, the colour beneath it is kept. That is what `Image.convert("RGB")` does and
      what training pipelines saw, so the numbers of a check stay comparable;
    * 16 bits a channel: scaled by 255/65535 and rounded, never clipped (of 16-bit *colour* Pillow
      itself keeps the upper byte, which is the same to within one level);
    * EXIF orientation: applied, so that results are in the pixels that a viewer shows;
    * several frames: the first;
    * more than 16384 x 16384 pixels: refused before any is decoded.

Anything else is an `InputError` of one sentence that names the file and what to do.
"""

import errno
import functools
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..core import InputError, counted, require

__all__ = ["as_image", "from_pillow", "list_images", "passed_over", "read_image", "suffixes"]

_NO_PHOTOGRAPHS = frozenset((".eps", ".ps", ".mpeg", ".mpg"))
"""Endings of what Pillow knows and opens by another program, or not at all."""

_REFUSALS = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.EIO, errno.EMFILE, errno.ENFILE)
"""Of the system, whatever is in the file; a decoder in a damaged one makes other errors."""

_MOST_PIXELS = 16384 * 16384
_PILLOWS = 1024 * 1024 * 1024 // 4 // 3  # its MAX_IMAGE_PIXELS, where nobody chose another
_guard_turn = threading.Lock()

_BAND = 1 << 22  # pixels copied at a time

_SHOWN = 200  # letters of a name, which may be a picture in base64


def read_image(path: Path | str) -> np.ndarray:
    """Return the picture in the file `path` as uint8 `[H, W, 3]` RGB.

    Raises:
        InputError: the file is absent, empty, damaged, no picture, or too large to be one.
    """
    file = Path(path)
    pillow = require("PIL.Image", "read pictures")
    try:
        _check_file(file)
        with warnings.catch_warnings():
            # Pillow warns from 90 megapixels on and refuses from 179 on: phones make the former.
            warnings.simplefilter("ignore", pillow.DecompressionBombWarning)
            with _opened(pillow, file) as picture:
                return _to_rgb(picture, file, own=True)
    except pillow.DecompressionBombError as error:
        raise InputError(
            f"{file} unpacks to more than the {_MOST_PIXELS} pixels (16384 x 16384) that a picture "
            f"may have ({error}): scale it down, or leave it out if you did not make it."
        ) from error
    except pillow.UnidentifiedImageError as error:
        raise InputError(
            f"{file} is not a picture in a format that Pillow reads: leave it out or save it as "
            "PNG."
        ) from error
    except MemoryError as error:
        raise InputError(
            f"{file} does not fit into this machine's free memory: scale it down, or end other "
            "programs."
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        if isinstance(error, InputError):
            raise
        if isinstance(error, OSError) and error.errno in _REFUSALS:
            raise InputError(
                f"{str(file)[:_SHOWN]} cannot be read ({error.strerror}): check the name of the "
                "picture, its permissions, and the disk."
            ) from error
        raise InputError(
            f"{file} is truncated or damaged ({error}): copy it again or leave it out."
        ) from error


def from_pillow(picture: Any) -> np.ndarray:
    """Return an open Pillow picture as uint8 `[H, W, 3]` RGB, upright.

    Raises:
        InputError: it holds floating-point pixels, or its file is damaged.
    """
    try:
        return _to_rgb(picture, "the PIL image")
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"the PIL image is truncated or damaged ({error}): leave it out."
        ) from error


def as_image(array: Any) -> np.ndarray:
    """Return a picture given as an array as uint8 `[H, W, 3]`; grey `[H, W]` is repeated to RGB.

    Args:
        array: numpy uint8 `[H, W, 3]` RGB, `[H, W]` or `[H, W, 1]` grey.

    Raises:
        InputError: anything else; the sentence says how to convert it.
    """
    if not isinstance(array, np.ndarray):
        remedy = "convert it with numpy.asarray(picture)"
        if hasattr(array, "__next__"):
            remedy = "give its pictures to predict_stream, or predict(list(...))"
        raise InputError(
            f"a picture must be a path, a numpy array, a PIL image or a tensor, and not "
            f"{type(array).__name__}: {remedy}."
        )
    if array.dtype != np.uint8:
        raise InputError(
            f"a picture array must be uint8 (0 to 255), and this one is {array.dtype}: "
            f"{_conversion(array.dtype)}."
        )
    if array.ndim == 2:
        array = array[:, :, None]
    _check_shape(array.shape)
    if array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    return np.ascontiguousarray(array)


@functools.cache
def suffixes() -> frozenset[str]:
    """Return the file name endings, in lower case, of the formats that Pillow decodes here.

    Stubs, which only recognise a format, are none of them.
    """
    pillow = require("PIL.Image", "read pictures")
    stub = require("PIL.ImageFile", "read pictures").StubImageFile
    known = pillow.registered_extensions()
    decoded = {
        kind
        for kind, (factory, _) in pillow.OPEN.items()
        if not (isinstance(factory, type) and issubclass(factory, stub))
    }
    if "JPEG" in decoded:
        decoded.add("MPO")  # which Pillow's JPEG reader opens, so it has no reader of its own
    return (
        frozenset(end.lower() for end, kind in known.items() if kind in decoded) - _NO_PHOTOGRAPHS
    )


def list_images(folder: Path | str, recursive: bool = False) -> list[Path]:
    """Return the pictures inside `folder`, sorted by name.

    Subfolders are searched only if `recursive`, so that results written below a folder are not read
    as input; hidden files and folders are left out. Files are known by their ending (`suffixes`),
    in any case.

    Raises:
        InputError: the folder does not exist, is a file, or holds no picture.
    """
    root = Path(folder)
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise InputError(f"{root} {what}: name a folder of pictures.")
    found = sorted(file for file in _files(root, recursive) if file.suffix.lower() in suffixes())
    if not found:
        searched = "subfolders were searched" if recursive else "subfolders are not searched"
        raise InputError(
            f"{root} holds no picture in a format that Pillow reads here ({searched}; "
            f"{passed_over(root, recursive) or 'nothing is in it'}): name a folder that does."
        )
    return found


def passed_over(folder: Path | str, recursive: bool = False) -> str:
    """Return what `list_images` passes over in a folder, counted and named; empty if nothing."""
    root = Path(folder)
    others = sorted(f.name for f in _files(root, recursive) if f.suffix.lower() not in suffixes())
    inside = [f.name for f in root.iterdir() if f.is_dir() and not f.name.startswith(".")]
    parts = [_named(others, "file that is no picture by its ending")]
    if not recursive:
        parts.append(_named(sorted(inside), "subfolder that is not searched"))
    return "; ".join(filter(None, parts))


def _named(names: list[str], kind: str) -> str:
    if not names:
        return ""
    noun, _, rest = kind.partition(" that is ")
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return f"{counted(len(names), noun)}, {rest}: {shown}"


def _files(root: Path, recursive: bool) -> list[Path]:
    """Return the files that are not hidden, nor in a hidden folder."""
    inside = root.rglob("*") if recursive else root.iterdir()
    return [
        file
        for file in inside
        if file.is_file() and not any(p.startswith(".") for p in file.relative_to(root).parts)
    ]


def _check_file(file: Path) -> None:
    """Name the plain mistakes before a decoder makes something cryptic of them."""
    if not file.exists():
        raise InputError(f"{file} does not exist: check the path of the picture.")
    if file.is_dir():
        raise InputError(f"{file} is a folder, not a picture: name a file in it.")
    if file.is_file() and file.stat().st_size == 0:
        raise InputError(f"{file} is empty (0 bytes): copy the picture again or leave it out.")


@contextmanager
def _opened(pillow: Any, file: Path) -> Iterator[Any]:
    """Open a picture whose pixels are not decoded yet, of at most `_MOST_PIXELS`.

    Pillow's own guard is the process's, and half as high. It is raised for the one picture that
    meets it, and not at all if the program chose another.
    """
    try:
        picture = pillow.open(file)
    except pillow.DecompressionBombError:
        if pillow.MAX_IMAGE_PIXELS != _PILLOWS:
            raise
        with _guard_turn, _raised_guard(pillow), pillow.open(file) as large:
            large.load()
            yield large
        return
    with picture:
        yield picture


@contextmanager
def _raised_guard(pillow: Any) -> Iterator[None]:
    before = pillow.MAX_IMAGE_PIXELS
    pillow.MAX_IMAGE_PIXELS = _MOST_PIXELS // 2  # Pillow refuses from twice as much on
    try:
        yield
    finally:
        pillow.MAX_IMAGE_PIXELS = before


def _to_rgb(picture: Any, file: Path | str, *, own: bool = False) -> np.ndarray:
    """Decode an open Pillow picture to upright uint8 `[H, W, 3]`; one of our `own` is not kept."""
    image_ops = require("PIL.ImageOps", "turn pictures upright")
    upright = image_ops.exif_transpose(picture, in_place=own) or picture
    if upright.mode == "F":
        raise InputError(
            f"{file} holds floating-point pixels: save it with 8 or 16 bits a channel."
        )
    if upright.mode.startswith("I"):
        return _grey_16_to_rgb(np.asarray(upright), file)
    if upright.mode == "P" and "transparency" in upright.info:
        upright = upright.convert("RGBA")
    return _pixels(upright if upright.mode == "RGB" else upright.convert("RGB"))


def _pixels(picture: Any) -> np.ndarray:
    """Return an RGB picture as uint8 `[H, W, 3]`, in bands: Pillow's way needs it three times."""
    width, height = picture.size
    if width * height <= _BAND:
        return np.array(picture)
    found = np.empty((height, width, 3), np.uint8)
    step = max(1, _BAND // width)
    for top in range(0, height, step):
        bottom = min(top + step, height)
        found[top:bottom] = np.asarray(picture.crop((0, top, width, bottom)))
    return found


def _grey_16_to_rgb(grey: np.ndarray, file: Path | str) -> np.ndarray:
    """Scale grey of 0..65535 to 0..255: 65535 = 255 * 257, so v/257 maps both ends exactly."""
    if grey.size and not (grey.min() >= 0 and grey.max() <= 65535):
        raise InputError(
            f"{file} holds 32-bit grey values ({grey.min()} to {grey.max()}): save it with 8 or 16 "
            "bits a channel."
        )
    scaled = ((grey.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.repeat(scaled[:, :, None], 3, axis=2)


def _check_shape(shape: tuple[int, ...]) -> None:
    """Refuse every layout but `[H, W, 3]` and `[H, W, 1]`, with the remedy that fits."""
    rule = f"a picture array must be [height, width, 3] in RGB order, and this one is {list(shape)}"
    if len(shape) == 4:
        raise InputError(f"{rule}: pass several pictures as a list.")
    if len(shape) != 3:
        raise InputError(f"{rule}.")
    if 0 in shape:
        raise InputError(f"{rule}, which has no pixels: leave it out.")
    if shape[2] in (1, 3):
        return
    if shape[2] == 4:
        raise InputError(f"{rule}: drop its alpha with array[..., :3].")
    if shape[0] in (1, 3):
        raise InputError(f"{rule}, channels first: turn it with array.transpose(1, 2, 0).")
    raise InputError(f"{rule}.")


def _conversion(dtype: np.dtype) -> str:
    if dtype.kind == "f":
        return "if it runs from 0 to 1, convert it with (array * 255).round().astype(numpy.uint8)"
    if dtype == np.uint16:
        return "convert it with (array // 257).astype(numpy.uint8)"
    return "convert it with array.astype(numpy.uint8) once its values run from 0 to 255"
