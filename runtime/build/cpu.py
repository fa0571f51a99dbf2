"""Builds engines for ONNX Runtime's CPU provider, and reads back what they compute in.

The engine is `engine.onnx`: the lowered graph itself, standard operators only. It is not ONNX
Runtime's optimised graph. That one would load 0.1 to 0.2 s sooner (Mask R-CNN R50-FPN at 512x512:
0.3 instead of 0.5 s) and is no smaller, but it holds private operators of one version of ONNX
Runtime, and at level ALL layouts of one CPU, while a bundle is made to travel. So the optimised
graph is made once, here, to read the precisions from, and again by whoever loads the engine.

FP16. The CPU provider of ONNX Runtime has no FP16 convolution on x86: it computes in FP32 between
casts that it puts in itself, and then drops each pair of casts that it thus made, so that only the
weights stay rounded to FP16. `half.py` puts the casts in before it can, and the engine rounds where
an FP16 one does. That is no fault of the engine on a CPU: the numbers are those asked for.

INT8. The engine is the same file on every CPU, with uint8 weights, whose kernels are exact
everywhere (`runtime/integer_kernels.py`); `weights` in `engine.json` says so.

INT8 beside float. ONNX Runtime would quantise some layers that the recipe left in float;
`float_layers.py` keeps it from that.
"""

import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypedDict

import onnx

from ...core import Precision, Target, UnsupportedTargetError, require
from ...core.bounds import SECONDS
from ..integer_kernels import stored_form
from .cache import kept_json, key_of, open_cache
from .capabilities import capabilities_of
from .engine import Engine, Found, operator_info, precision_info, unread, verify, verify_graph
from .float_layers import keep_float_layers
from .half import make_rounding_explicit
from .layers import HeavyLayer
from .lowered import batch_of, lower_for
from .optimised_graph import precisions_in, save_optimised
from .options import BuildOptions, check_options
from .worker import Step, no_step

__all__ = ["build"]

_HALF_NOTE = (
    "FP16 storage and rounding, computed in FP32: ONNX Runtime's CPU provider has no FP16 "
    "convolution."
)


class _Kept(TypedDict):
    found: dict[str, Precision | None]
    seconds: Annotated[float, SECONDS]


@dataclass(frozen=True)
class _Reading:
    """What the layers compute in, how long it took to find out, and whether that was before."""

    found: Found
    seconds: float
    cached: bool


def build(
    model: onnx.ModelProto,
    target: Target,
    precision: Precision,
    options: BuildOptions | None = None,
    step: Step = no_step,
) -> Engine:
    """Build the engine of `model`, which is already rendered at `precision`.

    Raises:
        MissingDependencyError: onnxruntime is not installed.
        UnsupportedTargetError: ONNX Runtime does not take the graph.
        PrecisionError: the engine's precisions are not those asked for.
    """
    runtime = require("onnxruntime", f"build engines for target {target.name}")
    asked = options or BuildOptions()
    can, name = capabilities_of("onnxruntime", runtime.__version__), "ONNX Runtime"
    check_options(asked, target, can, name, precision=precision, batch=batch_of(model))
    lowered = lower_for(target, model, "function")
    verify_graph(lowered.layers, precision, target)
    keep_float_layers(lowered.model, lowered.layers)
    make_rounding_explicit(lowered.model)
    engine = lowered.model.SerializeToString()
    reading = _known_or_read(runtime, engine, lowered.layers, target, asked)
    found = reading.found
    verify(lowered.layers, _as_asked(lowered.layers, found), target)
    info = {
        "target": target.name,
        "backend": target.backend,
        "backend_version": runtime.__version__,
        **precision_info(found, precision),
        "note": _note(lowered.layers, found),
        "bytes": len(engine),
        "build_seconds": reading.seconds,
        "cached": reading.cached,
        "gpu": "",
        "sms": [],
        **operator_info(model, can.form),
        **({"weights": form} if (form := stored_form(engine)) else {}),
        "options": asked.to_json(),
        "runs_here": True,
    }
    return Engine({"engine.onnx": engine}, info)


def _known_or_read(
    runtime: Any, engine: bytes, layers: list[HeavyLayer], target: Target, options: BuildOptions
) -> _Reading:
    """Optimise the engine and read it back, unless this was done for the same one before."""
    cache = open_cache(options.cache)
    key = "" if cache is None else _key(runtime.__version__, engine, layers)
    known = None if cache is None else cache.get(key)
    kept = kept_json(known, "found.json", _Kept)
    if kept is not None:
        found = {n: None if p is None else Precision(p) for n, p in kept["found"].items()}
        return _Reading(found, kept["seconds"], True)
    started = time.perf_counter()
    found = _read_back(runtime, engine, layers, target)
    seconds = round(time.perf_counter() - started, 2)
    if cache is not None:
        values = {name: None if got is None else got.value for name, got in found.items()}
        kept = {"found": values, "seconds": seconds}
        cache.put(key, {"found.json": json.dumps(kept).encode()})
    return _Reading(found, seconds, False)


def _key(version: str, engine: bytes, layers: list[HeavyLayer]) -> str:
    """Return the key of a reading: all that it depends on, how it is read included."""
    reader = Path(__file__).with_name("optimised_graph.py").read_bytes()
    return key_of((b"onnxruntime", version.encode(), repr(layers).encode(), reader, engine))


def _read_back(runtime: Any, engine: bytes, layers: list[HeavyLayer], target: Target) -> Found:
    """Return what each layer computes in once ONNX Runtime has optimised the engine."""
    with tempfile.TemporaryDirectory(prefix="maskrt-cpu-") as name:
        folder = Path(name)
        (folder / "engine.onnx").write_bytes(engine)
        try:
            save_optimised(runtime, folder / "engine.onnx", folder / "optimised.onnx")
        except _errors_of(runtime) as error:
            reason = " ".join(str(error).split())
            raise UnsupportedTargetError(
                f"ONNX Runtime {runtime.__version__} does not take the graph for target "
                f"{target.name} ({reason}): export the model again, or build another target."
            ) from error
        return precisions_in(onnx.load(folder / "optimised.onnx"), layers)


def _errors_of(runtime: Any) -> tuple[type[Exception], ...]:
    """Return the errors that ONNX Runtime raises for a graph; they share no base of their own."""
    kinds = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NotImplemented")
    own = runtime.capi.onnxruntime_pybind11_state
    return (*(getattr(own, kind) for kind in kinds), own.RuntimeException)


def _as_asked(layers: list[HeavyLayer], found: Found) -> Found:
    """Return `found`, with FP16 that is only computed in FP32 counted as the FP16 it stands for."""
    widened = _widened(layers, found)
    return {name: Precision.FP16 if name in widened else got for name, got in found.items()}


def _widened(layers: list[HeavyLayer], found: Found) -> set[str]:
    """Return the names of the FP16 layers that compute in FP32."""
    halves = {layer.name for layer in layers if layer.wanted is Precision.FP16}
    return {name for name in halves if found[name] is Precision.FP32}


def _note(layers: list[HeavyLayer], found: Found) -> str:
    if _widened(layers, found):
        return _HALF_NOTE
    return unread(found)
