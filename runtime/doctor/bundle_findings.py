"""A bundle, on the machine that was looked at → findings: its files, its engines, its fidelity.

Nothing is deserialised: what an engine is stands in `engine.json`.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ...core import Bundle, MaskrtError, Target
from ...core.bundle import RECIPE
from .failures import Finding, Level
from .machine import Machine

__all__ = ["diagnose_bundle"]

_FEW_PICTURES = 32
_DISTRIBUTION_OF = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}
_WIDER_THAN = {
    "fp16": ("fp32",), "bf16": ("fp32",), "int8": ("fp16", "bf16", "fp32"),
    "fp8": ("fp16", "bf16", "fp32"),
}  # fmt: skip


def diagnose_bundle(path: Path, machine: Machine) -> list[Finding]:
    """Return every failure that the bundle at `path` shows on `machine`."""
    try:
        bundle = Bundle.open(path)
    except (MaskrtError, OSError) as error:
        return [Finding("damaged-bundle", Level.ERROR, str(error))]
    found = [*_files(bundle), *_fidelity(bundle)]
    found += _guarded(RECIPE, _recipe, bundle)
    if not bundle.engines() and not bundle.prepared():
        command = f"maskrt build {path} --target cpu"
        found.append(Finding("no-engine", Level.NOTE, f"{path} has no engine.", command))
    for name in bundle.prepared():
        found += _guarded(f"engines/{name}", _prepared, bundle, name, machine)
    for name in bundle.engines():
        found += _guarded(f"engines/{name}", _engine, bundle, name, machine)
    return list(dict.fromkeys(found))  # an altered file is seen by `_files` and by its reader


def _guarded(what: str, look: Callable[..., Iterator[Finding]], *given: Any) -> list[Finding]:
    """Return what `look` finds; JSON of another form than maskrt writes is a finding, too."""
    try:
        return list(look(*given))
    except MaskrtError as error:
        return [Finding("damaged-bundle", Level.ERROR, str(error))]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        seen = f"{what} is not what maskrt writes ({type(error).__name__}: {error})."
        return [Finding("damaged-bundle", Level.ERROR, seen)]


def _files(bundle: Bundle) -> Iterator[Finding]:
    for relative in bundle.digests:
        try:
            bundle.read(relative)
        except (MaskrtError, OSError) as error:
            yield Finding("damaged-bundle", Level.ERROR, str(error))


def _fidelity(bundle: Bundle) -> Iterator[Finding]:
    fidelity = bundle.manifest.fidelity
    for violation in fidelity.get("violations", ()):
        yield Finding("conversion-loss", Level.WARNING, str(violation))
    if fidelity.get("instances") == 0:
        seen = f"nothing was found in {fidelity.get('pictures')} pictures when it was exported."
        yield Finding("no-detections", Level.WARNING, seen)
    if not bundle.manifest.source.get("weights") and bundle.manifest.source.get("model"):
        seen = "no weights were given when it was compiled, so they may be untrained."
        yield Finding("no-detections", Level.NOTE, seen)


def _recipe(bundle: Bundle) -> Iterator[Finding]:
    if RECIPE not in bundle:
        return
    recipe = bundle.read_json(RECIPE)
    pictures = recipe["calibration"].get("pictures")
    if recipe["tensors"] and pictures is not None and pictures < _FEW_PICTURES:
        seen = f"the recipe was calibrated on {pictures} pictures."
        command = f"maskrt calibrate {bundle.path} PICTURES"
        yield Finding("few-calibration-pictures", Level.WARNING, seen, command)


def _prepared(bundle: Bundle, name: str, machine: Machine) -> Iterator[Finding]:
    info = bundle.read_json(f"engines/{name}/prepared.json")
    seen = f"{name} is prepared and not built."
    yield Finding("prepared-only", Level.NOTE, seen, info["commands"]["build"])
    needed, free = info["build_memory_mib"] * 2**20 / 1e9, machine.memory_free_gb
    if machine.jetson and needed > free + machine.swap_gb:
        seen = f"{name} needs up to {needed:.1f} GB to build, and {free:.1f} GB are free."
        yield Finding("build-out-of-memory", Level.WARNING, seen)


def _engine(bundle: Bundle, name: str, machine: Machine) -> Iterator[Finding]:
    info = bundle.read_json(f"engines/{name}/engine.json")
    target = Target.parse(name.partition("@")[0])
    rebuild = f"maskrt build {bundle.path} --target {target.name} --precision {info['precision']}"
    yield from _precisions(name, info, rebuild)
    yield from _fits(name, info, target, machine, rebuild)


def _precisions(name: str, info: dict[str, Any], rebuild: str) -> Iterator[Finding]:
    asked, layers = info["precision"], info["layers"]
    wider = sum(layers.get(kind, 0) for kind in _WIDER_THAN.get(asked, ()))
    emulated = info["backend"] == "onnxruntime" and asked == "fp16"
    if emulated:
        yield Finding("cpu-fp16", Level.NOTE, f"{name} is FP16 on a CPU.")
    elif wider and not layers.get(asked, 0):
        seen = f"{name} was asked for {asked}, and none of its {wider} layers is."
        yield Finding("wider-than-asked", Level.ERROR, seen, rebuild)
    elif wider:
        which = ", ".join(map(str, info["wider"][:3])) or "see engine.json"
        seen = f"{name}: {wider} layers are wider than {asked} ({which})."
        yield Finding("wider-than-asked", Level.NOTE, seen)
    if layers.get("unknown", 0):
        seen = f"{name}: the precision of {layers['unknown']} layers could not be read."
        yield Finding("precision-unknown", Level.WARNING, seen)
    rounding = (info.get("kernels") or {}).get("rounding", 0)
    if asked == "int8" and rounding:
        seen = f"{name}: {rounding} rounding kernels stand beside the convolutions."
        yield Finding("int8-slower", Level.NOTE, seen)


def _fits(
    name: str, info: dict[str, Any], target: Target, machine: Machine, rebuild: str
) -> Iterator[Finding]:
    sms = tuple(info.get("sms") or target.runs_on)
    present = [gpu.sm for gpu in machine.gpus]
    if sms and not set(sms) & set(present):
        have = "has none" if not present else f"has {', '.join(_sm(sm) for sm in present)}"
        wanted = ", ".join(_sm(sm) for sm in sms)
        seen = f"{name} needs a GPU of compute capability {wanted}, and this machine {have}."
        yield Finding("other-gpu", Level.WARNING if present else Level.NOTE, seen)
        return
    package = _DISTRIBUTION_OF.get(info["backend"])
    if package is None or not sms:
        return
    here = machine.packages.get(package)
    if here is None:
        yield Finding("no-tensorrt", Level.ERROR, f"{name} needs {package}, not installed here.")
    elif not _same_version(here, info["backend_version"]):
        seen = f"{name} was built by {package} {info['backend_version']}, and {here} is here."
        yield Finding("other-tensorrt", Level.ERROR, seen, rebuild)
    elif info.get("form") == "plugins":
        seen = f"{name} names plugins, which maskrt registers when it loads the engine."
        yield Finding("plugin-not-found", Level.NOTE, seen)


def _same_version(one: str, other: str) -> bool:
    """Whether two versions agree as far as the shorter goes: a package may add a build number."""
    pairs = zip(one.split("."), other.split("."), strict=False)
    return all(mine == theirs for mine, theirs in pairs)


def _sm(sm: int) -> str:
    return f"{sm // 10}.{sm % 10}"
