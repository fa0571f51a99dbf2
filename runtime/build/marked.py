"""Engines that also hand out what is computed within: `mark_output`, by way of the graph's outputs.

For divergence alone, never for use. A marked tensor has to be written to memory, so TensorRT fuses
less around it than in the engine that is run; the scales, the precisions and the order of the
layers are the same.
"""

from collections.abc import Sequence

import onnx
import onnx.shape_inference
from onnx import TensorProto, helper

__all__ = ["element_types", "mark_outputs"]


def mark_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """Return a copy of `model` with `names` as its only outputs.

    Args:
        model: canonical graph, as rendered for a target.
        names: tensors of its main graph.
    """
    marked = onnx.ModelProto()
    marked.CopyFrom(model)
    del marked.graph.output[:]
    types = element_types(model)
    marked.graph.output.extend(
        helper.make_tensor_value_info(name, types.get(name) or TensorProto.FLOAT, None)
        for name in names
    )
    return marked


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Return the element types of tensors, as far as ONNX can tell."""
    inferred = onnx.shape_inference.infer_shapes(model)
    known = (*inferred.graph.value_info, *inferred.graph.output)
    return {value.name: value.type.tensor_type.elem_type for value in known}
