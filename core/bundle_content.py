"""What the JSON files of a bundle say, read back: of the declared types, and in itself consistent.

A bundle may come from anywhere, so nothing in it is believed before it was held against what maskrt
writes there (`bundle_files.py`).
"""

from pathlib import Path
from typing import Any, TypedDict

from .bundle_checks import check_files
from .bundle_files import Loaded, ManifestFile, declared
from .bundle_place import MANIFEST
from .errors import BundleError, MaskrtError, UsageError
from .manifest import VERSIONS, Manifest
from .masks import MaskFrame, MaskPaste
from .target import Target
from .typed import fault
from .typed_files import believed, parsed

__all__ = ["complete", "read_bundle_json", "read_manifest"]

_RANKS = {"boxes": 3, "scores": 2, "labels": 2, "masks": 4, "count": 1}


def read_manifest(raw: bytes, folder: Path) -> tuple[Manifest, dict[str, str]]:
    """Return what the manifest `raw` of the bundle in `folder` says, and its file list.

    Raises:
        BundleError: another format version, or no manifest that maskrt writes.
    """
    file, remedy = folder / MANIFEST, "compile the model again"
    data = parsed(raw, dict[str, Any], file, remedy)
    version = data.get("format_version")
    if version not in VERSIONS and fault(data, _Versioned) is None:
        known = f"{', '.join(map(str, VERSIONS[:-1]))} and {VERSIONS[-1]}"
        raise BundleError(
            f"{file} has format version {version}, and this maskrt reads versions {known}: "
            "compile the model again."
        )
    believed(data, ManifestFile, file, remedy)
    try:
        _check_together(data)
        return Manifest.from_json(data), check_files(data["files"], folder)
    except (TypeError, UsageError) as error:
        reason = str(error).rstrip(".")
        raise BundleError(f"{file} is not what maskrt writes ({reason}): {remedy}.") from error


class _Versioned(TypedDict):
    format_version: int


def _check_together(data: dict[str, Any]) -> None:
    """Raise `TypeError` unless the values of a manifest go with each other."""
    for name, shape in data["outputs"].items():
        if name in _RANKS and len(shape) != _RANKS[name]:
            raise TypeError(f"outputs.{name} is {shape}, and must have {_RANKS[name]} axes")
        if name == "boxes" and shape[-1] != 4:
            raise TypeError(f"outputs.boxes is {shape}, and must end in 4")
    _check_canvas_masks(data, data.get("mask_frame", MaskFrame.BOX.value))  # 0.1 wrote none
    _check_paste(data)


def _check_canvas_masks(data: dict[str, Any], frame: str) -> None:
    """Raise `TypeError` if masks over the canvas are not a quarter of it, rounded up, or none."""
    shape = data["outputs"].get("masks")
    if shape is None or frame == MaskFrame.BOX.value:
        return
    if MaskFrame(frame).is_even:
        if 0 in shape[2:]:
            raise TypeError(f"masks over the canvas are {shape}, and must have rows and columns")
        return
    quarter = [-(-data["input"][side] // 4) for side in ("height", "width")]
    if shape[2:] != quarter:
        raise TypeError(f"masks over the canvas are {shape}, and must end in {quarter}")


def _check_paste(data: dict[str, Any]) -> None:
    """Raise `TypeError` unless version 2, which says how masks are pasted, says another way."""
    paste = data.get("mask_paste", MaskPaste.TORCHVISION.value)  # older bundles have none
    if data["format_version"] == 2 and paste == MaskPaste.TORCHVISION.value:
        raise TypeError(f"format_version is {data['format_version']}, and mask_paste {paste!r}")


def read_bundle_json(raw: bytes, relative: str, folder: Path) -> dict[str, Any]:
    """Return what the JSON file `relative` of the bundle in `folder` says.

    Raises:
        BundleError: it is not what maskrt writes there.
    """
    kind, remedy = declared(relative)
    data: dict[str, Any] = parsed(raw, kind, folder / relative, remedy)
    if relative.endswith("/engine.json") and _is_deserialised(relative):
        believed(data, Loaded, folder / relative, remedy)
    return data


def complete(info: dict[str, Any], kind: Any, relative: str, folder: Path) -> None:
    """Raise `BundleError` unless `info`, which `read_bundle_json` returned, says all of `kind`."""
    believed(info, kind, folder / relative, declared(relative)[1])


def _is_deserialised(relative: str) -> bool:
    """Whether full TensorRT opens the engine that lies beside an `engine.json`."""
    name = relative.split("/")[-2].partition("@")[0]
    try:
        return Target.parse(name).backend == "tensorrt"
    except MaskrtError:
        return False
