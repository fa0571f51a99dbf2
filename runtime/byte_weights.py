"""Weights of 8 bits in an engine for ONNX Runtime, and the two forms that hold the same integers.

int8, zero point 0        w
uint8, zero point 128     w + 128, the same byte with its highest bit flipped
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.paired_products import pairs_fit

__all__ = ["WEIGHT_FORMS", "ZERO_POINTS", "ByteWeight", "weights_of"]

WEIGHT_FORMS = ("int8", "uint8")  # the faster one first, where both are exact
ZERO_POINTS = {"int8": 0, "uint8": 128}


@dataclass
class ByteWeight:
    """A constant that DequantizeLinears read, and the layers behind them.

    Attributes:
        tensor: of 8-bit integers.
        zero_point: all 0 or all 128.
        form: of `WEIGHT_FORMS`.
        readers: the nodes that read what a DequantizeLinear makes of it.
    """

    tensor: Any
    zero_point: Any
    form: str
    readers: list[Any]

    def fits_in_pairs(self) -> bool:
        """Whether no pair of products can leave 16 bits, in the order that the layers have."""
        import onnx

        levels = onnx.numpy_helper.to_array(self.tensor)
        if self.form == "uint8":
            levels = (levels ^ np.uint8(0x80)).view(np.int8)
        return bool(self.readers) and all(_fits(levels, node) for node in self.readers)

    def flip(self, form: str) -> None:
        """Give tensor and zero point the other form, in place."""
        import onnx

        for tensor in (self.tensor, self.zero_point):
            levels = onnx.numpy_helper.to_array(tensor).view(np.uint8) ^ np.uint8(0x80)
            tensor.CopyFrom(onnx.numpy_helper.from_array(levels.view(np.dtype(form)), tensor.name))
        self.form = form


def _fits(levels: np.ndarray, node: Any) -> bool:
    if node.op_type not in ("Conv", "Gemm", "MatMul") or levels.ndim < 2:
        return False
    if node.op_type == "Conv" and levels.shape[1] == 1:
        return True  # depthwise kernels widen first, as the probe of pairs makes sure
    if levels.ndim != (4 if node.op_type == "Conv" else 2):
        return False  # of no order that was probed
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    return pairs_fit(levels, node.op_type, transposed=transposed)


def weights_of(model: Any) -> list[ByteWeight]:
    """Return the constants of 8 bits that DequantizeLinears read."""
    import onnx

    kinds = {onnx.TensorProto.INT8: "int8", onnx.TensorProto.UINT8: "uint8"}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found: dict[str, ByteWeight] = {}
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear" or len(node.input) < 3:
            continue
        weight, zero_point = constants.get(node.input[0]), constants.get(node.input[2])
        if weight is None or zero_point is None or weight.data_type not in kinds:
            continue
        form = kinds[weight.data_type]
        if weight.name in found:
            found[weight.name].readers += readers.get(node.output[0], [])
        elif np.all(onnx.numpy_helper.to_array(zero_point) == ZERO_POINTS[form]):
            behind = readers.get(node.output[0], [])
            found[weight.name] = ByteWeight(weight, zero_point, form, list(behind))
    return list(found.values())
