"""Whether an engine fits its bundle and this machine, asked of `engine.json` before it is loaded.

A deserialiser that is given an engine of another GPU or version fails with a line of its own log,
or does not fail. So what `engine.json` noted when the engine was built is compared first:

| noted | compared with |
|---|---|
| `sha256.interface` | the manifest's input, outputs, class names, mask frame and mask paste |
| `sha256.graph`, `sha256.recipe` | the bundle's graph and recipe, manifest and file |
| `sha256.kernels` | our kernels, if the engine runs any (forms `plugins` and `aot`) |
| `backend_version` | the TensorRT or TensorRT-RTX that is installed here |
| `sms`, `gpu` | the GPUs that are here |

ONNX Runtime's engine is a standard graph, which any version and any CPU runs. What an older build
did not note is not compared.
"""

import hashlib
from pathlib import Path
from typing import Any

from ...core import Bundle, BundleError, MaskrtError, Precision, Target, UnsupportedTargetError
from ...core.bundle import MODEL, RECIPE

__all__ = ["check_files", "check_version"]

_HOLDS_KERNELS = ("plugins", "aot")
_CHUNK = 1 << 20


def check_files(bundle: Bundle, target: Target, precision: Precision | None) -> dict[str, Any]:
    """Return what `engine.json` says, after comparing it with the bundle and with our kernels.

    Raises:
        BundleError: there is no such engine, or it was built from another graph, recipe or kernels,
            or is one without weights.
    """
    folder = bundle.engine_folder(target, precision)
    info = bundle.read_json(f"{folder}/engine.json")
    noted = info.get("sha256") or {}
    command = bundle.build_command(target.name, precision)
    if noted.get("interface", bundle.manifest.interface_digest) != bundle.manifest.interface_digest:
        raise BundleError(
            f"the manifest of {bundle.path} is not the one that {folder} was built with: its "
            "input, outputs, class names or mask words differ: compile the model again."
        )
    for part, file in (("graph", MODEL), ("recipe", RECIPE)):
        if part in noted and noted[part] != bundle.digests.get(file):
            raise BundleError(
                f"{folder} was built from another {part} than the bundle's {file}: build it again "
                f"with {command}."
            )
        if part in noted and _sha256(bundle, file) != noted[part]:
            raise BundleError(
                f"{bundle.path / file} is not the {part} that {folder} was built from (its sha256 "
                f"differs): put that file back, or compile the model again and then run {command}."
            )
    if info.get("form") in _HOLDS_KERNELS and "kernels" in noted:
        _check_kernels(info, folder, command)
    if (info.get("options") or {}).get("strip_weights"):
        raise BundleError(
            f"{folder} holds no weights (--strip-weights), for other programs to refit: build one "
            f"that maskrt runs with {command}."
        )
    return info


def check_version(
    bundle: Bundle, target: Target, precision: Precision | None, info: dict[str, Any], here: str
) -> None:
    """Refuse an engine of another version of its builder than `here`, the one that is installed.

    Raises:
        UnsupportedTargetError: it does not load here; the sentence says what builds one that does.
    """
    built = info.get("backend_version", here)
    if built == here:
        return
    portable = (info.get("options") or {}).get("version_compatible")
    if portable and _parts(here) >= _parts(built):
        return
    name = "TensorRT-RTX" if target.backend == "tensorrt_rtx" else "TensorRT"
    raise UnsupportedTargetError(
        f"the engine for target {target.name} was built by {name} {built}, and this machine has "
        f"{here}: build it again with {bundle.build_command(target.name, precision)}."
    )


def _check_kernels(info: dict[str, Any], folder: str, command: str) -> None:
    try:
        from ...plugins.sources import sources_digest  # imports onnx

        ours = sources_digest(info["operators"], info["form"])
    except MaskrtError as error:
        raise BundleError(f"{folder} needs another maskrt: {error}") from error
    if ours != info["sha256"]["kernels"]:
        raise BundleError(
            f"{folder} was built with other kernels than this maskrt's: build it again with "
            f"{command}."
        )


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def _sha256(bundle: Bundle, relative: str) -> str:
    """Return the digest of a file of the bundle, a piece at a time."""
    path = bundle.path / relative
    if not Path(path).is_file():
        return bundle.digests[relative]  # a bundle may travel without what its engine came from
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()
