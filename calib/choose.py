"""From a graph and its statistics to a recipe: scales of all methods, a precision a layer."""

import functools
from collections.abc import Mapping
from typing import Any

import onnx

from ..core import InputError, Precision
from .fingerprint import fingerprint
from .graph import GraphIndex
from .histogram import Histogram
from .layers import Layer
from .methods import METHODS, thresholds
from .others import find_others
from .placement import Placement, place
from .recipe import MINMAX, LayerChoice, Recipe, TensorScale
from .render._deconvolution import is_pixelwise
from .scales import LARGEST_FP16, SMALLEST_NORMAL_FP16, symmetric_scale
from .statistics import Range, Statistics

__all__ = ["make_recipe"]


def make_recipe(
    model: onnx.ModelProto,
    precision: Precision,
    statistics: Statistics | None = None,
    *,
    rest: Precision = Precision.FP32,
    method: str = MINMAX,
) -> Recipe:
    """Choose a precision for every layer of `model`, and scales for every tensor.

    Args:
        model: the canonical FP32 graph.
        precision: what is asked for; a layer that refuses it stays FP32, with the reason.
        statistics: ranges from `collect_statistics`; needed for INT8, and for FP16 it keeps layers
            whose values would overflow in FP32.
        rest: what an INT8 model computes in where it is not INT8.
        method: whose scales are used, one of `METHODS`; the recipe holds those of all.

    Raises:
        UsageError: INT8 without statistics, or an unknown method.
        InputError: statistics of another graph, or without a tensor that has to be quantised.
    """
    placement = place(model)
    tensors: dict[str, TensorScale] = {}
    calibration: dict[str, Any] = {}
    if statistics is not None:
        tensors = _tensor_scales(model, placement, statistics)
        calibration = {"pictures": statistics.pictures}
    graph = GraphIndex(model)
    layers = {
        layer.name: LayerChoice(Precision.FP32, refuses=_refusals(graph, placement, layer, tensors))
        for layer in placement.layers
    }
    draft = Recipe(
        fingerprint(model), Precision.FP32, layers, tensors, calibration=calibration,
        others=find_others(model),
    )  # fmt: skip
    return draft.with_method(method).with_precision(precision, rest=rest)


def _tensor_scales(
    model: onnx.ModelProto, placement: Placement, statistics: Statistics
) -> dict[str, TensorScale]:
    found = fingerprint(model)
    if statistics.graph != found:
        raise InputError(
            f"the statistics are of graph {statistics.graph} and the model is graph {found}: "
            "calibrate this model."
        )
    missing = [name for name in placement.tensors if name not in statistics.tensors]
    if missing:
        raise InputError(f"tensor {missing[0]} was not observed in calibration: calibrate again.")
    found_scales: dict[frozenset[str], dict[str, float]] = {}
    tensors = {}
    for name in placement.tensors:
        group = frozenset(placement.group(name))
        if group not in found_scales:
            found_scales[group] = _scales_of(group, statistics)
        own = statistics.tensors[name]
        tensors[name] = TensorScale(own.minimum, own.maximum, found_scales[group])
    return tensors


def _scales_of(group: frozenset[str], statistics: Statistics) -> dict[str, float]:
    """Return each method's scale for tensors that share one, from all their values together."""
    members = sorted(group)
    amax = functools.reduce(Range.union, (statistics.tensors[n] for n in members)).amax
    if not statistics.histograms:
        return {MINMAX: float(symmetric_scale(amax))}
    counted = functools.reduce(Histogram.merge, (statistics.histograms[n] for n in members))
    found = thresholds(counted, amax)
    return {method: float(symmetric_scale(found[method])) for method in METHODS}


def _refusals(
    graph: GraphIndex, placement: Placement, layer: Layer, tensors: Mapping[str, TensorScale]
) -> dict[Precision, str]:
    """Return the layer's own refusals, and FP16's where calibration saw what FP16 cannot hold.

    That is a magnitude beyond 65504, or a tensor all of whose magnitudes are below 2^-14: they are
    subnormal, and have fewer than FP16's 11 bits. Small values among larger ones do no harm.
    """
    reasons = dict(placement.refusals.get(layer.name, {}))
    if layer.op_type == "ConvTranspose" and not is_pixelwise(graph, graph.producers[layer.output]):
        for precision in (Precision.BF16, Precision.FP8):
            reasons[precision] = f"TensorRT has no {precision.value.upper()} deconvolution"
    for tensor in (layer.data, layer.result):
        if (seen := tensors.get(tensor)) is None:
            continue
        largest = seen.amax
        if largest > LARGEST_FP16:
            reasons[Precision.FP16] = (
                f"tensor {tensor} reached {largest:g} in calibration, more than FP16's "
                f"{LARGEST_FP16:g}"
            )
        elif 0 < largest < SMALLEST_NORMAL_FP16:
            reasons[Precision.FP16] = (
                f"tensor {tensor} stayed within {largest:g} in calibration, where FP16 is subnormal"
            )
    return reasons
