"""A bundle, on the machine that was looked at → findings: its files, its engines, its fidelity.

Nothing is deserialised: what an engine is stands in `engine.json`.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ...core import Bundle, MaskrtError, Precision, Target, command, counted
from ...core.bundle import RECIPE
from ...core.bundle_content import complete
from ...core.bundle_files import ExplainedEngine, ExplainedPrepared, ManifestFile
from ...core.bundle_place import MANIFEST
from ...core.manifest import VERSIONS
from ...core.recipe_file import RecipeFile
from ...core.typed import faults
from ...core.typed_files import plain_json
from ..trust import why_untrusted
from .failures import Finding, Level
from .machine import Machine

__all__ = ["diagnose_bundle"]

_FEW_PICTURES = 32
_MOST_FAULTS = 20  # of a manifest
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
        seen = dict.fromkeys((str(error), *_manifest_faults(path)))
        return [Finding("damaged-bundle", Level.ERROR, one) for one in seen]
    found = [*_files(bundle), *_fidelity(bundle)]
    found += _guarded(_recipe, bundle)
    if not bundle.engines() and not bundle.prepared():
        build = bundle.build_command("cpu")
        found.append(Finding("no-engine", Level.NOTE, f"{path} has no engine.", build))
    for name in bundle.prepared():
        found += _guarded(_prepared, bundle, name, machine)
    for name in bundle.engines():
        found += _guarded(_engine, bundle, name, machine)
    found += _elsewhere(bundle, machine)
    return list(dict.fromkeys(found))  # an altered file is seen by `_files` and by its reader


def _manifest_faults(path: Path) -> Iterator[str]:
    """Yield what else is wrong with a manifest of the version that this maskrt writes."""
    try:
        data = plain_json((path / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return
    if isinstance(data, dict) and data.get("format_version") in VERSIONS:
        for wrong in itertools.islice(faults(data, ManifestFile), 1, _MOST_FAULTS):
            yield f"{path / MANIFEST} is not what maskrt writes ({wrong})."


def _guarded(look: Callable[..., Iterator[Finding]], *given: Any) -> list[Finding]:
    """Return what `look` finds; JSON of another form than maskrt writes is a finding, too."""
    try:
        return list(look(*given))
    except MaskrtError as error:
        return [Finding("damaged-bundle", Level.ERROR, str(error))]


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
    else:
        for warning in fidelity.get("warnings", ()):
            yield Finding("little-proven", Level.NOTE, str(warning))
    if not bundle.manifest.source.get("weights") and bundle.manifest.source.get("model"):
        seen = "no weights were given when it was compiled, so they may be untrained."
        yield Finding("no-detections", Level.NOTE, seen)


def _recipe(bundle: Bundle) -> Iterator[Finding]:
    if RECIPE not in bundle:
        return
    recipe = _recipe_at(bundle, RECIPE)
    pictures = recipe["calibration"].get("pictures")
    if recipe["tensors"] and pictures is not None and pictures < _FEW_PICTURES:
        seen = f"the recipe was calibrated on {counted(pictures, 'picture')}."
        words = ("--calibration", "PICTURES", "--precision", recipe["precision"])
        searched = recipe["precision"] == "mixed"  # by maskrt compile, with a budget
        again = "" if searched else command("maskrt", "calibrate", bundle.path, *words)
        yield Finding("few-calibration-pictures", Level.WARNING, seen, again)


def _recipe_at(bundle: Bundle, path: str) -> dict[str, Any]:
    recipe = bundle.read_json(path)
    complete(recipe, RecipeFile, path, bundle.path)
    return recipe


def _prepared(bundle: Bundle, name: str, machine: Machine) -> Iterator[Finding]:
    file = f"engines/{name}/prepared.json"
    info = bundle.read_json(file)
    complete(info, ExplainedPrepared, file, bundle.path)
    seen = f"{name} is prepared and not built."
    yield Finding("prepared-only", Level.NOTE, seen, _build_there(info, bundle, name))
    needed, free = info["build_memory_mib"] * 2**20 / 1e9, machine.memory_free_gb
    if machine.jetson and needed > free + machine.swap_gb:
        seen = f"{name} needs up to {needed:.1f} GB to build, and {free:.1f} GB are free."
        yield Finding("build-out-of-memory", Level.WARNING, seen)


def _engine(bundle: Bundle, name: str, machine: Machine) -> Iterator[Finding]:
    file = f"engines/{name}/engine.json"
    info = bundle.read_json(file)
    complete(info, ExplainedEngine, file, bundle.path)
    target = Target.parse(name.partition("@")[0])
    rebuild = bundle.build_command(target.name, info["precision"])
    yield from _precisions(name, info, rebuild, _kept_back(bundle, name, info["precision"]))
    yield from _rounding(name, info)
    yield from _fits(name, info, machine, rebuild)
    yield from _origin(bundle, name, info, rebuild)


def _build_there(info: dict[str, Any], bundle: Bundle, name: str) -> str:
    """Return the command for the device, with the bundle's name of today where it can be had."""
    try:
        from ..build.prepared_text import build_command  # imports onnx, which may not load
    except ImportError:
        target, _, precision = name.partition("@")
        return bundle.build_command(target, precision or None)
    return build_command(info, bundle.path.resolve().name, name)


def _kept_back(bundle: Bundle, name: str, precision: str) -> set[str]:
    """Return the layers that the recipe does not let have `precision`, each with its reason there.

    An engine that has a recipe of its own, suited to its compiler, is held to that one.

    Another precision than the recipe's own gives a layer what it does not refuse, and what refuses
    INT8 refuses FP8, too (`calib/recipe.py`).
    """
    suited = f"engines/{name}/{RECIPE}"
    path = suited if suited in bundle else RECIPE
    if path not in bundle:
        return set()
    recipe = _recipe_at(bundle, path)
    own = recipe["precision"] == precision
    return {
        name
        for name, choice in recipe["layers"].items()
        if precision in choice["refuses"]
        or (precision == "fp8" and "int8" in choice["refuses"])
        or (own and choice["precision"] != precision)
    }


def _precisions(
    name: str, info: dict[str, Any], rebuild: str, kept_back: set[str]
) -> Iterator[Finding]:
    asked, layers = info["precision"], info["layers"]
    wider = sum(layers.get(kind, 0) for kind in _WIDER_THAN.get(asked, ()))
    emulated = info["backend"] == "onnxruntime" and asked == "fp16"
    if emulated:
        yield Finding("cpu-fp16", Level.NOTE, f"{name} is FP16 on a CPU.")
    elif wider and not layers.get(asked, 0) and len(kept_back.intersection(info["wider"])) < wider:
        seen = f"{name} was asked for {asked}, and none of its {counted(wider, 'layer')} is."
        yield Finding("wider-than-asked", Level.ERROR, seen, rebuild, **_why_wider(info))
    elif unexplained := wider - len(kept_back.intersection(info["wider"])):
        which = [str(layer) for layer in info["wider"] if layer not in kept_back]
        listed = ", ".join(which[:3]) or "see engine.json"
        compute = "computes" if unexplained == 1 else "compute"
        seen = f"{name}: {counted(unexplained, 'layer')} {compute} wider than {asked} ({listed})."
        yield Finding("wider-than-asked", Level.NOTE, seen, **_why_wider(info))
    if unknown := layers.get("unknown", 0):
        seen = f"{name}: the precision of {counted(unknown, 'layer')} could not be read."
        yield Finding("precision-unknown", Level.WARNING, seen)


def _why_wider(info: dict[str, Any]) -> dict[str, str]:
    """Return cause and fix where they are not TensorRT's."""
    if info["backend"] != "onnxruntime":
        return {}
    return {
        "cause": "ONNX Runtime computes in FP32 what its CPU kernels do not take in the precision "
        "asked for.",
        "fix": "Build with maskrt build, which reads the precisions back and refuses such an "
        "engine.",
    }


def _rounding(name: str, info: dict[str, Any]) -> Iterator[Finding]:
    """Say what was found when the engine was built; only an older one is judged by its kernels."""
    payoff = info.get("payoff") or {}
    kernels = (info.get("kernels") or {}).get("rounding", 0)
    if info["precision"] != "int8" or payoff.get("pays") or not (payoff or kernels):
        return
    beside = f"{counted(kernels, 'rounding kernel')} beside the convolutions."
    on_cpu = info["backend"] == "onnxruntime"
    fix = "Build FP32 too and compare with maskrt bench." if on_cpu else ""
    yield Finding("int8-slower", Level.NOTE, f"{name}: {payoff.get('sentence') or beside}", fix=fix)


def _fits(name: str, info: dict[str, Any], machine: Machine, rebuild: str) -> Iterator[Finding]:
    sms = _needed_sms(name, info)
    if sms and not set(sms) & {gpu.sm for gpu in machine.gpus}:
        return  # see `_elsewhere`
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


def _origin(bundle: Bundle, name: str, info: dict[str, Any], rebuild: str) -> Iterator[Finding]:
    """Say which engines are refused here until they are trusted, if they could run here at all."""
    target, precision = Target.parse(name.partition("@")[0]), Precision.parse(info["precision"])
    try:
        why = why_untrusted(bundle, target, precision)
    except MaskrtError as error:  # of the user's keys, or of what reads them
        yield Finding("engine-from-elsewhere", Level.WARNING, str(error), rebuild)
        return
    if why:
        yield Finding("engine-from-elsewhere", Level.NOTE, f"{name} {why}.", rebuild)


def _elsewhere(bundle: Bundle, machine: Machine) -> Iterator[Finding]:
    """Say once for which GPUs engines are that this machine does not have."""
    present = {gpu.sm for gpu in machine.gpus}
    engines: dict[tuple[int, ...], list[str]] = {}
    for name in bundle.engines():
        with contextlib.suppress(MaskrtError):  # `_engine` says so
            sms = _needed_sms(name, bundle.read_json(f"engines/{name}/engine.json"))
            if sms and not present & set(sms):
                engines.setdefault(sms, []).append(name)
    have = ", ".join(_sm(sm) for sm in sorted(present)) or "none"
    built = "build for the GPU that is here (see maskrt targets), " if present else ""
    fix = f"Run on target cpu here, {built}or copy the bundle to a machine with such a GPU."
    for sms, names in engines.items():
        need = "needs" if len(names) == 1 else "need"
        listed, wanted = ", ".join(names), ", ".join(_sm(sm) for sm in sms)
        yield Finding(
            "other-gpu",
            Level.WARNING if present else Level.NOTE,
            f"{listed} {need} a GPU of compute capability {wanted}, and this machine has {have}.",
            fix=fix,
        )


def _needed_sms(name: str, info: dict[str, Any]) -> tuple[int, ...]:
    return tuple(info.get("sms") or Target.parse(name.partition("@")[0]).runs_on)


def _same_version(one: str, other: str) -> bool:
    """Whether two versions agree as far as the shorter goes: a package may add a build number."""
    pairs = zip(one.split("."), other.split("."), strict=False)
    return all(mine == theirs for mine, theirs in pairs)


def _sm(sm: int) -> str:
    return f"{sm // 10}.{sm % 10}"
