"""From a graph and its statistics to a recipe: min-max scales, and a precision for every layer."""

import functools
from collections.abc import Mapping
from typing import Any

import onnx

from ..core import InputError, Precision
from .graph import fingerprint
from .placement import Placement, place
from .recipe import MINMAX, LayerChoice, Recipe, TensorScale
from .scales import LARGEST_FP16, symmetric_scale
from .statistics import Range, Statistics

__all__ = ["make_recipe"]


def make_recipe(
    model: onnx.ModelProto,
    precision: Precision,
    statistics: Statistics | None = None,
    *,
    rest: Precision = Precision.FP32,
) -> Recipe:
    """Choose a precision for every layer of `model`, and a min-max scale for every tensor.

    Args:
        model: the canonical FP32 graph.
        precision: what is asked for; a layer that refuses it stays FP32, with the reason.
        statistics: ranges from `collect_statistics`; needed for INT8, and for FP16 it keeps layers
            whose values would overflow in FP32.
        rest: what an INT8 model computes in where it is not INT8.

    Raises:
        UsageError: INT8 without statistics.
        InputError: statistics of another graph, or without a tensor that has to be quantised.
    """
    placement = place(model)
    tensors: dict[str, TensorScale] = {}
    calibration: dict[str, Any] = {}
    if statistics is not None:
        tensors = _tensor_scales(model, placement, statistics)
        calibration = {"pictures": statistics.pictures}
    layers = {
        layer.name: LayerChoice(Precision.FP32, refuses=_refusals(placement, layer.name, tensors))
        for layer in placement.layers
    }
    draft = Recipe(fingerprint(model), Precision.FP32, layers, tensors, calibration=calibration)
    return draft.with_precision(precision, rest=rest)


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
    shared = _shared_ranges(placement, statistics.tensors)
    return {
        name: TensorScale(
            statistics.tensors[name].minimum,
            statistics.tensors[name].maximum,
            {MINMAX: float(symmetric_scale(shared[name].amax))},
        )
        for name in placement.tensors
    }


def _shared_ranges(placement: Placement, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """Return each tensor's range, widened to those it shares a scale with."""
    shared = {}
    for tensor in placement.tensors:
        members = [ranges[name] for name in placement.group(tensor)]
        shared[tensor] = functools.reduce(Range.union, members)
    return shared


def _refusals(
    placement: Placement, name: str, tensors: Mapping[str, TensorScale]
) -> dict[Precision, str]:
    """Return the layer's own refusals, and FP16's where calibration saw a value too large."""
    reasons = dict(placement.refusals.get(name, {}))
    layer = next(layer for layer in placement.layers if layer.name == name)
    for tensor in (layer.data, layer.result):
        seen = tensors.get(tensor)
        if seen is not None and max(abs(seen.minimum), abs(seen.maximum)) > LARGEST_FP16:
            reasons[Precision.FP16] = f"tensor {tensor} reached {seen.maximum:g}"
    return reasons
