"""What a node gives whose inputs are all known, by ONNX's own reference implementation."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from .graph import Node

__all__ = ["constant_of", "evaluated", "evaluator", "proto_of"]

_RANDOM = {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial"}
_BODIES = {"If", "Loop", "Scan", "SequenceMap"}
_MOST_ELEMENTS = 1 << 26  # a constant beyond this is left as the nodes that make it


class GatherElements(OpRun):  # type: ignore[misc]
    """ONNX's own implementation stops at 64 indices along the first axis."""

    def _run(
        self, data: np.ndarray, indices: np.ndarray, axis: int | None = None
    ) -> tuple[np.ndarray]:
        return (np.take_along_axis(data, indices, axis=axis or 0),)


def evaluator(model: onnx.ModelProto) -> ReferenceEvaluator:
    """Return ONNX's reference implementation of `model`."""
    return ReferenceEvaluator(model, new_ops=[GatherElements])


def evaluated(
    node: Node, feeds: Mapping[str, np.ndarray], imports: Sequence[onnx.OperatorSetIdProto]
) -> list[np.ndarray] | None:
    """Return the outputs of `node` for `feeds`; None if it has none that are always the same.

    That is, if it draws at random, has a body or no inputs, is no operator of ONNX's, or would give
    more than 2^26 elements.
    """
    if node.op in _BODIES or node.op in _RANDOM or "::" in node.op or not node.inputs:
        return None
    if sum(value.size for value in feeds.values()) > _MOST_ELEMENTS:
        return None
    if node.op in ("Expand", "Tile", "ConstantOfShape") and _too_big(feeds[node.inputs[-1]]):
        return None
    try:
        with np.errstate(all="ignore"):
            graph = helper.make_graph(
                [proto_of(node)], "node",
                [_info(name, value) for name, value in feeds.items()],
                [onnx.ValueInfoProto(name=n) for n in node.outputs if n],
            )  # fmt: skip
            single = helper.make_model(graph, opset_imports=imports)
            found = evaluator(single).run(None, dict(feeds))
    except (NotImplementedError, RuntimeError, TypeError, ValueError, IndexError, KeyError):
        return None
    return [np.asarray(value) for value in found]


def _info(name: str, value: np.ndarray) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(value.dtype)
    return helper.make_tensor_value_info(name, kind, value.shape)


def _too_big(counts: np.ndarray) -> bool:
    return float(np.prod(counts.astype(np.float64))) > _MOST_ELEMENTS


def proto_of(node: Node) -> onnx.NodeProto:
    """Return `node` as ONNX writes it."""
    domain, _, op_type = node.op.rpartition("::")
    attributes = {k: v for k, v in node.attributes.items() if v is not None}
    empty = [key for key, value in attributes.items() if isinstance(value, list) and not value]
    for key in empty:  # whose type the values do not tell; all of ONNX's lists of numbers are ints
        attributes.pop(key)
    made = helper.make_node(op_type, node.inputs, node.outputs, domain=domain, **attributes)
    made.attribute.extend(onnx.AttributeProto(name=k, type=onnx.AttributeProto.INTS) for k in empty)
    return made


def constant_of(node: Node) -> np.ndarray:
    """Return the value of a Constant node."""
    (kind, value), *_ = node.attributes.items()
    if isinstance(value, TensorProto):
        return numpy_helper.to_array(value)
    dtype: Any = {"f": np.float32, "i": np.int64}.get(kind.removeprefix("value_")[:1], object)
    return np.array(value, dtype)
