"""What INT8 layers of a graph for ONNX Runtime must give, in NumPy's integers, from that graph.

Read from the rendered graph: levels, scales and zero points. Given by the engine under test: the
levels that go into each layer. So each layer is held against integers by itself.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

__all__ = ["expected_levels", "layers_between_levels"]


class Layer:
    """One layer between a DequantizeLinear and a QuantizeLinear."""

    def __init__(self, model: onnx.ModelProto, node: onnx.NodeProto, quantize: onnx.NodeProto):
        made = {name: n for n in model.graph.node for name in n.output}
        constants = {t.name: t for t in model.graph.initializer}

        def value(name: str) -> np.ndarray:
            return numpy_helper.to_array(constants[name])

        data, weight = made[node.input[0]], made[node.input[1]]
        self.node, self.source, self.result = node, data.input[0], quantize.output[0]
        self.data_scale, self.data_zero = value(data.input[1]), int(value(data.input[2]))
        levels = value(weight.input[0]).astype(np.int64)
        self.weight = levels - int(value(weight.input[2]).flat[0])
        self.weight_scale = value(weight.input[1])
        self.bias = None
        if len(node.input) > 2 and node.input[2]:
            self.bias = value(made[node.input[2]].input[0]).astype(np.int64)
        self.scale, self.zero = value(quantize.input[1]), int(value(quantize.input[2]))
        self.attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def layers_between_levels(model: onnx.ModelProto) -> Iterator[Layer]:
    """Yield the layers whose data, weights and results are all levels."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    made = {name: n for n in model.graph.node for name in n.output}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        if any(
            made.get(n) is None or made[n].op_type != "DequantizeLinear" for n in node.input[:2]
        ):
            continue
        after = readers.get(node.output[0], [])
        if len(after) == 1 and after[0].op_type == "Relu":
            after = readers.get(after[0].output[0], [])
        if len(after) == 1 and after[0].op_type == "QuantizeLinear":
            yield Layer(model, node, after[0])


def expected_levels(layer: Layer, levels: np.ndarray) -> np.ndarray:
    """Return the result's levels: int64 sums, one float32 factor, rounded half to even.

    A Relu between is the zero point's work: it is 0 there.
    """
    sums = _sums(layer, levels.astype(np.int64) - layer.data_zero)
    per_channel = (1, -1, 1, 1) if layer.node.op_type == "Conv" else (-1,)
    if layer.bias is not None:
        sums = sums + layer.bias.reshape(per_channel)
    factor = (layer.data_scale * layer.weight_scale / layer.scale).astype(np.float32)
    factor = factor.reshape(per_channel) if factor.ndim else factor
    scaled = sums.astype(np.float32) * factor
    return np.clip(np.rint(scaled) + layer.zero, 0, 255).astype(np.uint8)


def _sums(layer: Layer, data: np.ndarray) -> np.ndarray:
    if layer.node.op_type == "MatMul":
        return data @ layer.weight
    if layer.node.op_type == "Gemm":
        return data @ (layer.weight.T if layer.attributes.get("transB") else layer.weight)
    return _convolved(data, layer.weight, layer.attributes)


def _convolved(data: np.ndarray, weight: np.ndarray, attributes: dict[str, Any]) -> np.ndarray:
    top, left, bottom, right = attributes.get("pads", [0] * 4)
    steps = attributes.get("strides", [1, 1])
    dilations, groups = attributes.get("dilations", [1, 1]), attributes.get("group", 1)
    data = np.pad(data, ((0, 0), (0, 0), (top, bottom), (left, right)))
    kernel = weight.shape[2:]
    spans = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    height, width = (
        (size - span) // step + 1
        for size, span, step in zip(data.shape[2:], spans, steps, strict=True)
    )
    parts = []
    for x, w in zip(np.split(data, groups, 1), np.split(weight, groups, 0), strict=True):
        total = np.zeros((len(x), len(w), height, width), np.int64)
        for row in range(kernel[0]):
            for column in range(kernel[1]):
                y, z = row * dilations[0], column * dilations[1]
                seen = x[:, :, y : y + height * steps[0] : steps[0]]
                seen = seen[:, :, :height, z : z + width * steps[1] : steps[1]][..., :width]
                # float64 holds these integers, and multiplies them faster than int64 does
                wide = seen.astype(np.float64), w[:, :, row, column].astype(np.float64)
                product = np.einsum("nchw,mc->nmhw", *wide, optimize=True)
                total += product.astype(np.int64)
        parts.append(total)
    return np.concatenate(parts, 1)
