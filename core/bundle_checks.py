"""What a manifest and an `engine.json` may say, checked before anything acts on it.

A bundle may come from anywhere, so its manifest is not trusted: a listed path stays inside the
bundle (relative, no `..`, no link on the way), and a value has the type that maskrt writes.
"""

import contextlib
import json
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

from .errors import BundleError, MaskrtError, StorageError
from .input_spec import Placing, Resampling
from .masks import MaskFrame, MaskPaste
from .target import Target

__all__ = ["check_engine_info", "check_files", "check_manifest", "locate", "parse_json", "storing"]

_SHA256 = re.compile(r"[0-9a-f]{64}")
_ENGINE_TYPES: dict[str, type | tuple[type, ...]] = {
    "target": str, "backend": str, "backend_version": str, "precision": str, "layers": dict,
    "wider": list, "note": str, "bytes": int, "build_seconds": (int, float), "runs_here": bool,
    "sms": list, "form": str,
}  # fmt: skip
_LOADED_BY = ("sms", "backend_version", "form")  # what opening an engine of full TensorRT asks for


def check_manifest(data: Any) -> None:
    """Raise `TypeError` or `KeyError` unless `data` has the types that a manifest has."""
    _expect("the manifest", data, dict)
    _expect("family", data["family"], str)
    for name in ("input", "outputs", "source", "fidelity"):
        _expect(name, data[name], dict)
    for name, shape in data["outputs"].items():
        _expect(f"the shape of output {name}", shape, list)
        if not all(type(size) is int and size >= 0 for size in shape):
            raise TypeError(f"the shape of output {name} is {shape}")
    frame = data.get("mask_frame", MaskFrame.BOX.value)  # bundles of 0.1 have none
    if frame not in [known.value for known in MaskFrame]:
        known = ", ".join(repr(one.value) for one in MaskFrame)
        raise TypeError(f"mask_frame is {frame!r}, and must be one of {known}")
    _check_canvas_masks(data, frame)
    _check_paste(data)
    _check_placing(data["input"])
    names = data["class_names"]
    if names is not None and not (isinstance(names, list) and _all_text(names)):
        raise TypeError("class_names is no list of names")
    numbers = [data["input"][name] for name in ("height", "width", "batch")]
    if not all(type(number) is int for number in (*numbers, *data["input"]["pad_value"])):
        raise TypeError("input holds something that is no integer")


def _check_canvas_masks(data: dict[str, Any], frame: str) -> None:
    """Raise `TypeError` if masks over the canvas are not a quarter of it, rounded up, or none."""
    shape = data["outputs"].get("masks")
    if shape is None or frame == MaskFrame.BOX.value:
        return
    if MaskFrame(frame).is_even:
        if len(shape) != 4 or 0 in shape[2:]:
            raise TypeError(f"masks over the canvas are {shape}, and must have rows and columns")
        return
    quarter = [-(-data["input"][side] // 4) for side in ("height", "width")]
    if shape[2:] != quarter:
        raise TypeError(f"masks over the canvas are {shape}, and must end in {quarter}")


def _check_paste(data: dict[str, Any]) -> None:
    """Raise `TypeError` unless masks are pasted in a known way, and version 2 says which."""
    paste = data.get("mask_paste", MaskPaste.TORCHVISION.value)  # older bundles have none
    if paste not in [known.value for known in MaskPaste]:
        raise TypeError(f"mask_paste is {paste!r}, and must be 'torchvision' or 'detectron2'")
    if data["format_version"] == 2 and paste == MaskPaste.TORCHVISION.value:
        raise TypeError(f"format_version is {data['format_version']}, and mask_paste {paste!r}")


def _check_placing(given: dict[str, Any]) -> None:
    """Raise `TypeError` unless pictures are placed and resized in a known way, if it is said."""
    kinds: tuple[tuple[str, type[Enum]], ...] = (("placing", Placing), ("resampling", Resampling))
    for name, kind in kinds:
        known = [one.value for one in kind]
        if given.get(name, known[0]) not in known:
            words = ", ".join(map(repr, known))
            raise TypeError(f"{name} is {given[name]!r}, and must be one of {words}")


def check_files(files: Any, folder: Path) -> dict[str, str]:
    """Return the file list of a manifest.

    Raises:
        BundleError: a path leaves the bundle or is written in another way than maskrt does.
        TypeError: it is no list of paths with their sha256.
    """
    _expect("files", files, dict)
    for relative, digest in files.items():
        if not _stays_inside(relative):
            raise BundleError(
                f"the manifest of {folder} lists {relative!r}, which is not a path inside a "
                "bundle: do not use this bundle, and compile the model again."
            )
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise TypeError(f"the sha256 of {relative} is {digest!r}")
    return dict(files)


def check_engine_info(info: dict[str, Any], file: Path) -> None:
    """Raise `BundleError` unless what an `engine.json` says has the types that maskrt writes."""
    wrong = [
        f"{name} is {info[name]!r}"
        for name, kind in _ENGINE_TYPES.items()
        if name in info and not isinstance(info[name], kind)
    ]
    sms = info.get("sms", [])
    if isinstance(sms, list) and not all(type(sm) is int for sm in sms):
        wrong.append(f"sms is {sms!r}")
    wrong += [f"{name} is missing" for name in _needed(file) if name not in info]
    if wrong:
        raise BundleError(f"{file} is not what maskrt writes ({wrong[0]}): build the engine again.")


def locate(folder: Path, relative: str) -> Path:
    """Return the place of a bundle's file.

    Raises:
        BundleError: the path leaves the bundle, or a symbolic link lies on the way.
    """
    if not _stays_inside(relative):
        raise BundleError(f"{relative!r} is not a path inside a bundle: name one that is.")
    place = folder
    for part in relative.split("/"):
        place = place / part
        if place.is_symlink():
            raise BundleError(
                f"{place} is a symbolic link, and a bundle holds its files itself: put the file "
                "there, or compile the model again."
            )
    return place


def parse_json(raw: bytes, file: Path) -> dict[str, Any]:
    """Return the JSON object in `raw`, or raise `BundleError`."""
    try:
        data = json.loads(raw.decode("utf-8"))
        _expect("it", data, dict)
    except (ValueError, TypeError, RecursionError) as error:
        raise BundleError(
            f"{file} is not a JSON object ({type(error).__name__}: {error}): compile the model "
            "again."
        ) from error
    return data


@contextlib.contextmanager
def storing(action: str) -> Iterator[None]:
    """Turn the operating system's refusal into one sentence: `storing("write x")`."""
    try:
        yield
    except MaskrtError:
        raise
    except OSError as error:
        raise StorageError(
            f"cannot {action} ({error.strerror or error}): see that the disk has room and that its "
            "permissions allow it, and repeat."
        ) from error


def _stays_inside(relative: Any) -> bool:
    """Whether it is a path as maskrt writes it: relative, forward slashes, no dots."""
    if not isinstance(relative, str) or any(letter in relative for letter in "\\:\0"):
        return False
    return relative != "manifest.json" and all(
        part not in ("", ".", "..") for part in relative.split("/")
    )


def _needed(file: Path) -> tuple[str, ...]:
    name = file.parent.name.partition("@")[0]
    try:
        return _LOADED_BY if Target.parse(name).backend == "tensorrt" else ()
    except MaskrtError:
        return ()


def _expect(what: str, value: Any, kind: type) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{what} is {type(value).__name__}, not {kind.__name__}")


def _all_text(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)
