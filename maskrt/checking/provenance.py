"""Where a report's numbers come from: what was checked, with what, on what, when and how.

The hashes are SHA-256 in hexadecimal. That of the data covers the annotation file and every
picture, in the order of their ids, so two reports with one hash were measured on the same pixels.
"""

import hashlib
import platform
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..core import Bundle, Precision, Target
from ..core.bundle import MODEL, RECIPE
from ..runtime.check import CocoDataset
from ..runtime.cpu_name import cpu_name
from ..runtime.cuda_device import gpu_names

__all__ = ["data_digest", "provenance", "stated"]

_PACKAGES = (
    "onnxruntime",
    "tensorrt",
    "tensorrt_rtx",
    "numpy",
    "pycocotools",
    "torch",
    "torchvision",
)
_CHUNK = 1 << 20
_BUILT_BY = ("backend", "backend_version", "gpu", "sms")


def provenance(
    bundle: Bundle,
    dataset: CocoDataset,
    target: Target,
    precision: Precision,
    *,
    about: Mapping[str, Any],
    info: Mapping[str, Any],
    thresholds: Mapping[str, float | None],
    command: str,
) -> dict[str, Any]:
    """Return JSON data.

    Args:
        bundle: as it was when the engine was opened.
        dataset: what was measured on.
        target: of the engine.
        precision: of the engine.
        about: what the session says of its backend.
        info: what the engine's `engine.json` says; empty if no engine ran.
        thresholds: name → points of AP that may be lost, or a score.
        command: what a user would say to measure this again.
    """
    engine = {} if not info else _engine_digests(bundle, bundle.engine_folder(target, precision))
    weights = bundle.manifest.source.get("weights")
    return {
        "bundle": bundle.path.name,
        "model": str(bundle.manifest.source.get("model", "unknown")),
        "family": bundle.manifest.family,
        "sha256": {
            "weights": weights.get("sha256") if isinstance(weights, Mapping) else None,
            "graph": bundle.digests.get(MODEL),
            "recipe": bundle.digests.get(RECIPE),
            "engine": engine,
            "annotations": _file_digest(dataset.source),
            "data": data_digest(dataset),
        },
        "data": {"annotations": str(dataset.source), "pictures": len(dataset.images)},
        "engine": {name: info[name] for name in _BUILT_BY if info.get(name) is not None},
        "versions": _versions(),
        "machine": {"cpu": cpu_name(), "gpu": _gpu(about), "system": platform.platform()},
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command,
        "thresholds": dict(thresholds),
    }


def data_digest(dataset: CocoDataset) -> str | None:
    """Return a hash of the annotations and of every picture's file; None if one is gone by now."""
    parts = [_file_digest(dataset.source)]
    for image in sorted(dataset.images, key=lambda image: image.id):
        found = _file_digest(image.path)
        parts.append(None if found is None else f"{image.id} {found}")
    if None in parts:
        return None
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()


def stated(call: Callable[..., Any], **given: Any) -> str:
    """Return a call in Python's words, arguments that say nothing left out."""
    said = ", ".join(f"{k}={_plain(v)}" for k, v in given.items() if v not in (None, False))
    return f"maskrt.{call.__name__}({said})"


def _plain(value: Any) -> str:
    return repr(value if isinstance(value, bool | int | float) else str(value))


def _engine_digests(bundle: Bundle, folder: str) -> dict[str, str]:
    """Return the hash of each of the engine's files, by its name in the folder."""
    start = folder + "/"
    found = {n.removeprefix(start): d for n, d in bundle.digests.items() if n.startswith(start)}
    return dict(sorted(found.items()))


def _file_digest(path: Path) -> str | None:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError:  # what was measured is measured, whatever becomes of the files
        return None
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    from .. import __version__

    found = {"maskrt": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _gpu(about: Mapping[str, Any]) -> str | None:
    """Return the name of the GPU that a session ran on; None if it was none."""
    device, names = about.get("device"), gpu_names()
    return names[device] if isinstance(device, int) and device < len(names) else None
