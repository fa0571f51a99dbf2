"""From a bundle to an open backend: which engine, can this machine run it, open it.

`target=None` and `precision=None` are resolved here and nowhere else: the precision is the bundle's
own, and the target is the best engine of that precision that this machine can run: one for a GPU
that is really there, else the CPU's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core import (
    Bundle,
    BundleError,
    Precision,
    Target,
    UnsupportedTargetError,
    UsageError,
    require,
)
from ...core.masks import MaskFrame, MaskPaste
from ..cuda_device import compute_capabilities, gpu_names
from ..trust import Trust, check_trusted
from .base import Backend
from .cpu import CpuBackend
from .fits import check_files, check_version
from .null import NullBackend
from .tensorrt import TensorRTBackend

__all__ = ["choose_target", "gpu_of", "open_backend", "open_engine"]


def open_backend(
    bundle: Bundle | Path | str,
    target: Target | str | None = None,
    precision: Precision | str | None = None,
    *,
    threads: int | None = None,
    on_device: bool = False,
    trust: Trust = False,
) -> Backend:
    """Open the engine of a bundle.

    Args:
        bundle: the bundle or its folder.
        target: where to run; None is the best that this machine can run.
        precision: of the engine; None is the bundle's own.
        threads: CPU threads an operator may use; None is one a physical core.
        on_device: letterbox and paste on the GPU, too.
        trust: an engine that is machine code is opened if this machine built it, if a key signed it
            that the user trusts, of which `trust` may name one more, or if `trust` is True.

    Raises:
        UsageError: `on_device` for a target without a GPU.
        UntrustedError: nobody who is trusted says where the engine comes from.
        BundleError: the bundle has no such engine, or a damaged one.
        UnsupportedTargetError: this machine cannot run it.
        MissingDependencyError: what runs it is not installed.
    """
    opened = Bundle.open(bundle)
    wanted = None if precision is None else Precision.parse(precision)
    chosen = choose_target(opened, wanted) if target is None else Target.parse(target)
    if on_device and chosen.backend in ("onnxruntime", "null"):
        raise UsageError(
            f"target {chosen.name} has no device to run frames on: leave out on_device."
        )
    return _OPENERS[chosen.backend](opened, chosen, wanted, _Options(threads, on_device, trust))


def open_engine(files: Mapping[str, bytes], info: Mapping[str, Any], target: Target) -> Backend:
    """Open an engine that was just built for a GPU of this machine, and is in no bundle.

    Args:
        files: of the engine, by name.
        info: what `engine.json` would say.
        target: that it was built for.

    Raises:
        UnsupportedTargetError: this machine has no GPU that runs it.
    """
    device = _first_gpu(tuple(info["sms"]))
    if device is None:
        raise UnsupportedTargetError(_no_gpu(target, tuple(info["sms"])))
    return TensorRTBackend(
        files["engine.trt"],
        device=device,
        package=target.backend,
        plugins=info["form"] == "plugins",
        user_allocation=info.get("user_allocation", False),
        dla=(info.get("options") or {}).get("dla"),
    )


def choose_target(bundle: Bundle, precision: Precision | None = None) -> Target:
    """Return the best target that `bundle` has an engine for and that this machine can run.

    Raises:
        BundleError: the bundle has no engine of that precision.
        UnsupportedTargetError: it has, but none that this machine can run.
    """
    names = sorted({name.partition("@")[0] for name in bundle.engines()})
    targets = [Target.parse(name) for name in names]
    built = [t for t in targets if f"{bundle.engine_folder(t, precision)}/engine.json" in bundle]
    if not built:
        asked = precision or bundle.manifest.precision
        raise BundleError(
            f"{bundle.path} has no engine at {asked}: build one with "
            f"{bundle.build_command('cpu', asked)}."
        )
    runnable = [t for t in built if t.backend == "onnxruntime" or _gpu_for(t) is not None]
    if not runnable:
        listed = ", ".join(t.name for t in built)
        raise UnsupportedTargetError(
            f"this machine can run none of the engines in {bundle.path} ({listed}): build one for "
            f"it with {bundle.build_command('cpu')}."
        )
    return min(runnable, key=lambda t: t.backend == "onnxruntime")


def gpu_of(bundle: Bundle, target: Target, precision: Precision | None = None) -> int | None:
    """Return the number of the GPU that `open_backend` opens an engine on; None without one."""
    if target.backend == "tensorrt_rtx":
        return _gpu_for(target)
    place = f"{bundle.engine_folder(target, precision)}/engine.json"
    if target.backend != "tensorrt" or place not in bundle:
        return None
    return _first_gpu(tuple(bundle.read_json(place)["sms"]))


@dataclass(frozen=True)
class _Options:
    """What a backend is opened with; see `open_backend`."""

    threads: int | None
    on_device: bool
    trust: Trust


def _open_cpu(
    bundle: Bundle, target: Target, precision: Precision | None, options: _Options
) -> Backend:
    check_files(bundle, target, precision)
    engine = _read_engine(bundle, target, precision, "engine.onnx")
    backend = CpuBackend(engine, threads=options.threads)
    if backend.input_shape != bundle.manifest.input.shape:
        backend.close()
        raise BundleError(
            f"{bundle.engine_folder(target, precision)} takes pictures {backend.input_shape}, and "
            f"the manifest of {bundle.path} says {bundle.manifest.input.shape}: compile the model "
            "again."
        )
    return backend


def _open_rtx(
    bundle: Bundle, target: Target, precision: Precision | None, options: _Options
) -> Backend:
    info = check_files(bundle, target, precision)
    device = gpu_of(bundle, target, precision)
    if device is None:
        raise UnsupportedTargetError(_no_gpu(target, target.runs_on))
    rtx = require("tensorrt_rtx", f"run the engine for target {target.name}")
    check_version(bundle, target, precision, info, rtx.__version__)
    check_trusted(bundle, target, precision, options.trust)
    engine = _read_engine(bundle, target, precision, "engine.trt")
    return TensorRTBackend(
        engine, device=device, on_device=options.on_device, paste=_paste_of(bundle),
        user_allocation=info.get("user_allocation", False),
    )  # fmt: skip


def _open_tensorrt(
    bundle: Bundle, target: Target, precision: Precision | None, options: _Options
) -> Backend:
    """Open an engine of full TensorRT, after asking `engine.json` whether it fits this machine."""
    folder = bundle.engine_folder(target, precision)
    if f"{folder}/engine.json" not in bundle and f"{folder}/prepared.json" in bundle:
        from ..build.prepared_text import build_command  # a device that runs needs no builder

        info = bundle.read_json(f"{folder}/prepared.json")
        raise UnsupportedTargetError(
            f"the engine for target {target.name} is prepared and not built: on the device, run "
            f"{build_command(info, bundle.path.resolve().name, folder.partition('/')[2])}."
        )
    info = check_files(bundle, target, precision)
    device = gpu_of(bundle, target, precision)
    if device is None:
        raise UnsupportedTargetError(_no_gpu(target, tuple(info["sms"])))
    _check_model_of_gpu(bundle, target, precision, info.get("gpu", ""), device)
    options_of = info.get("options") or {}
    trt = require("tensorrt", f"run the engine for target {target.name}")
    check_version(bundle, target, precision, info, trt.__version__)
    check_trusted(bundle, target, precision, options.trust)
    return TensorRTBackend(
        bundle.read(f"{folder}/engine.trt"), device=device, package="tensorrt",
        plugins=info["form"] == "plugins",
        portable=bool(options_of.get("version_compatible")), dla=options_of.get("dla"),
        on_device=options.on_device, paste=_paste_of(bundle),
    )  # fmt: skip


def _paste_of(bundle: Bundle) -> MaskPaste | None:
    """Return how masks over boxes are pasted: PasteMasks, the device's kernel, takes no others."""
    manifest = bundle.manifest
    return manifest.mask_paste if manifest.mask_frame is MaskFrame.BOX else None


def _check_model_of_gpu(
    bundle: Bundle, target: Target, precision: Precision | None, built_on: str, device: int
) -> None:
    """Refuse an engine of another GPU of the same compute capability, which TensorRT would load."""
    names = gpu_names()
    here = names[device] if device < len(names) else ""
    if built_on and here and built_on != here:
        raise UnsupportedTargetError(
            f"the engine for target {target.name} was built on a GPU {built_on}, and this "
            f"machine's is a {here}: build it again with "
            f"{bundle.build_command(target.name, precision)}."
        )


def _open_null(
    bundle: Bundle, target: Target, precision: Precision | None, options: _Options
) -> Backend:
    return NullBackend(bundle.manifest.outputs)


_Opener = Callable[[Bundle, Target, Precision | None, _Options], Backend]
_OPENERS: dict[str, _Opener] = {
    "onnxruntime": _open_cpu,
    "tensorrt_rtx": _open_rtx,
    "tensorrt": _open_tensorrt,
    "null": _open_null,
}


def _read_engine(bundle: Bundle, target: Target, precision: Precision | None, name: str) -> bytes:
    return bundle.read(f"{bundle.engine_folder(target, precision)}/{name}")


def _gpu_for(target: Target) -> int | None:
    """Return the number of the first GPU here that an engine for `target` runs on."""
    return _first_gpu(target.runs_on)


def _first_gpu(sms: tuple[int, ...]) -> int | None:
    found = enumerate(compute_capabilities())
    return next((index for index, capability in found if capability in sms), None)


def _no_gpu(target: Target, sms: tuple[int, ...]) -> str:
    present = ", ".join(f"{sm / 10:.1f}" for sm in compute_capabilities())
    wanted = ", ".join(f"{sm / 10:.1f}" for sm in sms)
    have = f"this machine's have {present}" if present else "this machine has none"
    return (
        f"target {target.name} needs an NVIDIA GPU of compute capability {wanted}, and {have}: run "
        "on target cpu, or copy the bundle to a machine with such a GPU."
    )
