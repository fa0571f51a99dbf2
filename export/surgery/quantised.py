"""Files that are quantised already: refused, since their weights are no longer the FP32 model's.

A canonical graph is what every loss is measured against. From rounded weights it would start with a
loss that nothing shows, and a second rounding would come on top.
"""

from collections.abc import Iterable
from pathlib import Path

import onnx

from ...core import UnsupportedModelError, counted

__all__ = ["check_not_quantised"]

_QUANTISED = {
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger",
    "QLinearConv", "QLinearMatMul",
}  # fmt: skip
_MICROSOFT = ("QLinear", "QGemm", "QAttention", "QMoE", "MatMulInteger", "DynamicQuantize",
              "QuantizeLinear", "DequantizeLinear", "MatMulNBits", "MatMulBnb4")  # fmt: skip


def check_not_quantised(model: onnx.ModelProto, file: Path | str) -> None:
    """Raise `UnsupportedModelError` if nodes of `model` compute with quantised numbers."""
    found = [node for node in _nodes(model.graph.node) if _is_quantised(node)]
    if found:
        kinds = sorted({node.op_type for node in found})
        raise UnsupportedModelError(
            f"{file} is quantised already ({counted(len(found), 'node')}: {', '.join(kinds)}), and "
            "INT8 is measured here against the FP32 model: give the float file that it was made "
            "from, int8 as precision=, and a folder of pictures as calibration=."
        )


def _is_quantised(node: onnx.NodeProto) -> bool:
    if node.domain in ("", "ai.onnx"):
        return node.op_type in _QUANTISED
    return node.domain == "com.microsoft" and node.op_type.startswith(_MICROSOFT)


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterable[onnx.NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g.node)
