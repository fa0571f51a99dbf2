"""The recipe as TensorRT's implicit INT8 takes it: a calibration cache, and a type for each layer.

TensorRT 8 has no strong typing, and its DLA no Q/DQ. There a network is INT8 by a flag, and the
scales of its tensors are in a text file, here for TensorRT 8.5.2:

    TRT-8502-EntropyCalibration2
    images: 3c010a14
    res2.0.conv1: 3c8954be

A number is the scale amax / 127 as float32: its bits in hexadecimal, big end first, leading zeros
left out (3c8954be is 2.12903 / 127). The first line holds the version, major·1000 + minor·100 +
patch before TensorRT 10 and major·10000 + minor·100 + patch from then on.

TensorRT looks for the scale of every tensor that an INT8 layer reads or makes, so a tensor that the
recipe does not list has the scale of the one that it is made of: an operator that moves numbers
keeps their scale, and before a Relu or Clip, what lies beyond its ends is cut off in any case, so
the scale after it is the scale before it.

Which layers are INT8 is told apart from the scales: `layer_types`.

Source: NVIDIA TensorRT, Working with Quantized Types; the format by files that TensorRT 8 wrote.
"""

import struct
from collections.abc import Mapping

import onnx

from ...core import InputError, Precision
from ..graph import GraphIndex, is_standard
from ..layers import ACTIVATIONS, find_layers
from ..placement import moves_data
from ..recipe import Recipe
from .half import half_nodes

__all__ = ["calibration_cache", "implicit_scales", "layer_types"]

_PRODUCTS = ("Gemm", "MatMul")


def calibration_cache(scales: Mapping[str, float], version: tuple[int, int, int]) -> str:
    """Return the text of a cache for one version of TensorRT.

    Args:
        scales: tensor → amax / 127.
        version: major, minor and patch number.

    Raises:
        InputError: a tensor's name or scale cannot stand in a cache.
    """
    major, minor, patch = version
    stamp = major * (1000 if major < 10 else 10000) + minor * 100 + patch
    lines = [f"TRT-{stamp}-EntropyCalibration2"]
    for name, scale in scales.items():
        bits = struct.pack(">f", scale).hex().lstrip("0")
        if not bits or not scale > 0 or "\n" in name:
            raise InputError(
                f"tensor {name!r} with scale {scale} cannot stand in a calibration cache: "
                "calibrate the model again."
            )
        lines.append(f"{name}: {bits}")
    return "\n".join(lines) + "\n"


def implicit_scales(model: onnx.ModelProto, recipe: Recipe) -> dict[str, float]:
    """Return the scale of each tensor of `model` that has one, in graph order; maybe none."""
    graph = GraphIndex(model)
    if all(choice.precision is not Precision.INT8 for choice in recipe.layers.values()):
        return {}
    scales = {name: recipe.scale(name) for name in recipe.tensors}
    passing = [node for node in graph.nodes if moves_data(node) or is_standard(node, *ACTIVATIONS)]
    for node in passing:
        if node.input[0] in scales:
            scales.setdefault(node.output[0], scales[node.input[0]])
    for node in reversed(passing):
        if node.output[0] in scales and node.input[0] in graph.producers:
            scales.setdefault(node.input[0], scales[node.output[0]])
    order = [info.name for info in model.graph.input]
    order += [name for node in graph.nodes for name in node.output]
    return {name: scales[name] for name in order if name in scales}


def layer_types(
    model: onnx.ModelProto, recipe: Recipe
) -> tuple[dict[str, Precision], frozenset[str]]:
    """Return what computes in INT8 and FP16, each node by its first output.

    Returns:
        Layers that compute in INT8 or FP16, with which of the two; and the nodes between them,
        which may take the type of their neighbours. All others are to compute in FP32. So is a
        matrix product of INT8 that FP16 cannot hold: TensorRT 8 has it in FP16 at best.
    """
    recipe.check_fits(model)
    graph = GraphIndex(model)
    layers = {layer.output: layer for layer in find_layers(graph)}
    choices = {output: recipe.layers[layer.name] for output, layer in layers.items()}
    unfit = {output for output, choice in choices.items() if Precision.FP16 in choice.refuses}
    narrow: dict[str, Precision] = {
        output: choice.precision
        for output, choice in choices.items()
        if choice.precision is not Precision.FP32
        and not (output in unfit and layers[output].op_type in _PRODUCTS)
    }
    results = {output: layers[output].result for output in narrow if output not in unfit}
    nodes = half_nodes(graph, results, recipe.beyond_fp16()) if narrow else []
    inside = {node.output[0] for node in nodes}
    return narrow, frozenset(inside - set(layers))
