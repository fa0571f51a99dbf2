"""What a layer costs at a precision: a roofline of operations and bytes, for ranking alone.

    t(layer, p) = max(2 * MACs / (peak * 32 / bits(p)),  bytes(p) / bandwidth)

with the numbers of an Orin NX 16 GB (NVIDIA's data sheet: 100 TOPS sparse INT8, so 50 dense and a
quarter of that for FP32 through TF32; 102.4 GB/s). It says which layer is worth quantising on a
device that is not here; it is no prediction of milliseconds.
"""

import math
from collections.abc import Mapping

import onnx

from ..core import Precision
from .graph import GraphIndex
from .layers import Layer
from .placement import place
from .recipe import Recipe

__all__ = ["layer_seconds", "recipe_seconds"]

BITS = {Precision.FP32: 32, Precision.FP16: 16, Precision.INT8: 8}
_FP32_OPERATIONS = 12.5e12
_BANDWIDTH = 102.4e9


def layer_seconds(model: onnx.ModelProto) -> dict[str, dict[Precision, float]]:
    """Return layer name -> precision -> modelled seconds, for every layer of a static graph."""
    graph = GraphIndex(model)
    return {layer.name: _seconds(graph, layer) for layer in place(model).layers}


def recipe_seconds(recipe: Recipe, seconds: Mapping[str, Mapping[Precision, float]]) -> float:
    """Return the modelled seconds of all layers together."""
    return sum(seconds[name][choice.precision] for name, choice in recipe.layers.items())


def _seconds(graph: GraphIndex, layer: Layer) -> dict[Precision, float]:
    weight = math.prod(graph.constants[layer.weight].dims)
    data, result = (math.prod(graph.shape(name)) for name in (layer.data, layer.output))
    operations = 2 * _multiplications(graph, layer, weight)
    elements = weight + data + result
    return {
        precision: max(
            operations / (_FP32_OPERATIONS * 32 / bits), elements * bits / 8 / _BANDWIDTH
        )
        for precision, bits in BITS.items()
    }


def _multiplications(graph: GraphIndex, layer: Layer, weight: int) -> int:
    """Return the multiply-accumulates: each weight meets each position of the map that it scans."""
    scanned = layer.data if layer.op_type == "ConvTranspose" else layer.output
    shape = graph.shape(scanned)
    if layer.op_type in ("Conv", "ConvTranspose"):
        return weight * shape[0] * math.prod(shape[2:])
    return weight * math.prod(shape[:-1])
