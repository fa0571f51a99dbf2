"""Calibration: from an FP32 graph and pictures to a recipe, and from a recipe to a rendered graph.

statistics = collect_statistics(model, batches)         one streaming pass over the pictures
recipe = make_recipe(model, Precision.INT8, statistics) precision as data
graph = render(model, recipe, Style.TENSORRT)           explicit Q/DQ and casts

In: the canonical graph, and batches of pictures. Out: a recipe, and graphs rendered from it.
Imported by the rooms of `maskrt/`; imports `plugins` and `core`.
"""

from .choose import make_recipe
from .equalisation import equalise
from .histogram import Histogram
from .improved import equalised, improved
from .int8_kernels import hold_to_int8_kernels, without_int8_kernel
from .kept import keep_layers, keep_like, parse_kept, with_kept_outputs
from .methods import DEFAULT_METHOD, METHODS
from .observe import Collector, collect_statistics
from .placement import Placement, check_method_fits, place
from .recipe import LayerChoice, Recipe, TensorScale
from .render import (
    Accelerated,
    Style,
    accelerated,
    calibration_cache,
    implicit_scales,
    layer_types,
    render,
)
from .statistics import Range, Statistics
from .target_recipe import hold_to_targets, own_info, recipe_for
from .tensorrt_rtx import suit_tensorrt_rtx

__all__ = [
    "DEFAULT_METHOD",
    "METHODS",
    "Accelerated",
    "Collector",
    "Histogram",
    "LayerChoice",
    "Placement",
    "Range",
    "Recipe",
    "Statistics",
    "Style",
    "TensorScale",
    "accelerated",
    "calibration_cache",
    "check_method_fits",
    "collect_statistics",
    "equalise",
    "equalised",
    "hold_to_int8_kernels",
    "hold_to_targets",
    "implicit_scales",
    "improved",
    "keep_layers",
    "keep_like",
    "layer_types",
    "make_recipe",
    "own_info",
    "parse_kept",
    "place",
    "recipe_for",
    "render",
    "suit_tensorrt_rtx",
    "with_kept_outputs",
    "without_int8_kernel",
]
