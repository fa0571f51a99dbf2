"""One recipe, written into the graph in the form that each runtime fuses best."""

import enum

import onnx

from ...core import Precision, UnsupportedTargetError
from ..graph import is_standard
from ..improved import improved
from ..recipe import Recipe
from ._deconvolution import split_deconvolutions
from .calibration_cache import calibration_cache, implicit_scales, layer_types
from .dla import Accelerated, accelerated
from .explicit_qdq import render_explicit_qdq
from .half import render_half
from .host_qdq import render_host_qdq

__all__ = [
    "Accelerated",
    "Style",
    "accelerated",
    "calibration_cache",
    "implicit_scales",
    "layer_types",
    "render",
]


class Style(str, enum.Enum):
    """Who is to read the graph."""

    ORT = "onnxruntime"
    TENSORRT = "tensorrt"


def render(
    model: onnx.ModelProto, recipe: Recipe, style: Style, *, full_range: bool = True
) -> onnx.ModelProto:
    """Return `model` with the precisions of `recipe` as explicit Q/DQ and casts.

    Args:
        model: the canonical FP32 graph; it is not changed.
        recipe: made for this graph.
        style: ONNX Runtime's form, or that of TensorRT 10, 11 and RTX.
        full_range: for `Style.ORT`, spread tensors without negative numbers over 255 levels; False
            keeps them on TensorRT's 127, to predict on a CPU what an engine will compute.

    Returns:
        A graph with the same inputs, outputs, `maskrt` nodes and functions; `model` itself where
        the recipe leaves every layer FP32.

    Raises:
        InputError: the recipe is for another graph, or has no scale for a tensor that needs one.
        UnsupportedTargetError: BF16 or FP8 for ONNX Runtime.
    """
    recipe.check_fits(model)
    if style is Style.ORT:
        _refuse_on_host(recipe)
    model = improved(model, recipe)
    chosen = {name: choice.precision for name, choice in recipe.layers.items()}
    new = {n for n, p in chosen.items() if p in (Precision.BF16, Precision.FP8)}
    rendered = model = split_deconvolutions(model, new)[0] if new else model
    if Precision.FP8 in chosen.values():
        rendered = render_explicit_qdq(model, recipe, Precision.FP8)
    if Precision.INT8 in chosen.values():
        if style is Style.ORT:
            rendered = render_host_qdq(model, recipe, full_range=full_range)
        else:
            rendered = render_explicit_qdq(model, recipe)
    half = {name for name, precision in chosen.items() if precision is Precision.FP16}
    if style is Style.TENSORRT and recipe.rest is Precision.FP16:
        half |= {
            name
            for name, choice in recipe.layers.items()
            if choice.precision is Precision.INT8 and Precision.FP16 not in choice.refuses
        }
    brain = {name for name, precision in chosen.items() if precision is Precision.BF16}
    if brain:
        rendered = render_half(rendered, brain, Precision.BF16)
    wide = recipe.beyond_fp16()
    if style is Style.ORT:  # whose integer kernels read and write float32 around Q and DQ
        wide |= {name for n in rendered.graph.node if _is_border(n) for name in n.output}
    plain = model if style is Style.TENSORRT else None
    return render_half(rendered, half, wide=wide, plain=plain) if half else rendered


def _is_border(node: onnx.NodeProto) -> bool:
    return is_standard(node, "QuantizeLinear", "DequantizeLinear")


def _refuse_on_host(recipe: Recipe) -> None:
    kinds = {choice.precision for choice in recipe.layers.values()}
    for precision in kinds & {Precision.BF16, Precision.FP8}:
        raise UnsupportedTargetError(
            f"ONNX Runtime has no {precision.value.upper()} layers for a CPU: render the recipe at "
            "fp16 or int8."
        )
