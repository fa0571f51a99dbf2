"""What a builder hands over: the engine's files, and `engine.json` that says what they really are.

`info` of every engine, whatever its backend:

| key | meaning |
|---|---|
| `target`, `backend`, `backend_version` | who built it, for what |
| `precision` | what was asked: `fp32`, `fp16`, `bf16`, `int8`, `fp8` or `mixed` |
| `layers` | how many layers really compute in `int8`, `fp16`, `fp32`, ..., or are `unknown` |
| `layer_precisions` | the same layer by layer: name → `int8`, ... or `unknown` |
| `wider` | names of the layers that compute wider than `precision` |
| `note` | what a reader of the numbers above has to know, one sentence or empty |
| `bytes`, `build_seconds` | size of the engine, and how long its builder took |
| `cached` | the engine was taken from the cache; `build_seconds` is what it took back then |
| `gpu`, `sms` | the GPU that it was built on, if any, and the compute capabilities that it is for |
| `weights` | ONNX Runtime: the form of the 8-bit weights, `uint8`, if there are any |
| `form`, `operators` | which bodies the `maskrt` operators got, and which operators there are |
| `sha256` | of `graph` and `recipe`, as the bundle has them, and of the operators' `kernels` |
| `options` | what was asked of the builder |
| `runs_here` | whether this machine can run it |

A layer is a Conv, ConvTranspose, Gemm or MatMul with weights (`layers.py`). What a layer computes
in is read back from the finished engine, never taken from the graph that went in; an engine in
which a layer came back other than its graph says is not handed over: `verify` raises
`PrecisionError`.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import onnx

from ...core import LAYER_PRECISIONS, Precision, PrecisionError, Target
from ...plugins.sources import operators_of, sources_digest
from .capabilities import PluginForm
from .layers import WIDTH_BITS, HeavyLayer

__all__ = [
    "Engine", "Found", "operator_info", "precision_info", "shorten", "unread", "verify",
    "verify_graph",
]  # fmt: skip

Found = dict[str, Precision | None]  # layer name → what it computes in; None: could not be read

_NAMES_SHOWN = 4


@dataclass(frozen=True)
class Engine:
    """A finished engine.

    Attributes:
        files: file name → content, such as `engine.trt`.
        info: what `engine.json` says; see the module's text.
    """

    files: dict[str, bytes]
    info: dict[str, Any]


def unread(found: Found) -> str:
    """Return how many layers' precision could not be read, a sentence; empty if all could."""
    unknown = sum(got is None for got in found.values())
    if not unknown:
        return ""
    return f"The precision of {unknown} of {len(found)} layers could not be read."


def precision_info(found: Found, precision: Precision) -> dict[str, Any]:
    """Return what an engine's info says of precisions."""
    counts = Counter("unknown" if got is None else got.value for got in found.values())
    limit = WIDTH_BITS.get(precision, max(WIDTH_BITS.values()))  # mixed: nothing is too wide
    wider = [name for name, got in found.items() if got is not None and WIDTH_BITS[got] > limit]
    kinds = {*(p.value for p in LAYER_PRECISIONS), "unknown", *counts}
    return {
        "precision": precision.value,
        "layers": {kind: counts[kind] for kind in sorted(kinds, key=_narrow_first)},
        "layer_precisions": {
            name: "unknown" if got is None else got.value for name, got in found.items()
        },
        "wider": wider,
    }


def operator_info(model: onnx.ModelProto, form: PluginForm) -> dict[str, Any]:
    """Return what an engine's info says of the `maskrt` operators in a rendered graph."""
    operators = operators_of(model)
    digest = sources_digest(operators, form)
    return {"form": form, "operators": list(operators), "sha256": {"kernels": digest}}


def verify_graph(layers: list[HeavyLayer], precision: Precision, target: Target) -> None:
    """Check, before a build, that the graph is one of `precision`.

    Raises:
        PrecisionError: no layer of the graph has that precision, or one is narrower.
    """
    if precision is Precision.MIXED:
        return  # each layer is held to the graph by `verify`
    narrower = [x.name for x in layers if WIDTH_BITS[x.wanted] < WIDTH_BITS[precision]]
    asked = f"{precision.value} was asked for target {target.name}"
    if narrower:
        raise PrecisionError(
            f"{asked}, but {len(narrower)} layers of the graph are narrower "
            f"({shorten(narrower)}): render the recipe at {precision.value}."
        )
    if precision is not Precision.FP32 and all(x.wanted is not precision for x in layers):
        raise PrecisionError(
            f"{asked}, but none of the {len(layers)} layers of the graph is {precision.value}: "
            f"render the recipe at {precision.value} before building."
        )


def verify(layers: list[HeavyLayer], found: Found, target: Target) -> None:
    """Check, after a build, that every layer whose precision was read has that of its graph.

    Raises:
        PrecisionError: some have not; narrower is as wrong as wider, since nobody checked it.
    """
    other = [
        f"{layer.name} ({layer.op_type}, {layer.wanted.value} came back {got.value})"
        for layer in layers
        if (got := found.get(layer.name)) is not None and got is not layer.wanted
    ]
    if other:
        raise PrecisionError(
            f"{len(other)} of {len(layers)} layers of the engine for target {target.name} do not "
            f"compute in the precision of their graph: {shorten(other)}; keep what came back wider "
            "at that precision with maskrt recipe BUNDLE --set LAYER=PRECISION, or choose another "
            "precision or target."
        )


def shorten(names: list[str]) -> str:
    """Return the first few names, and how many more there are."""
    shown = ", ".join(names[:_NAMES_SHOWN])
    rest = len(names) - _NAMES_SHOWN
    return shown + (f" and {rest} more" if rest > 0 else "")


def _narrow_first(kind: str) -> tuple[int, str]:
    return (WIDTH_BITS[Precision(kind)] if kind != "unknown" else 64), kind
