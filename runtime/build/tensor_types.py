"""What shape inference knows of a graph's tensors, without copying its weights."""

import onnx
from onnx import helper, shape_inference

__all__ = ["static_types"]

_SMALL = 64  # elements: shapes and axes are no larger


def static_types(model: onnx.ModelProto) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Return element type and shape of every tensor of the main graph that has a static one."""
    graph = model.graph
    light = onnx.ModelProto(ir_version=model.ir_version)
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    light.graph.name = graph.name
    light.graph.node.extend(graph.node)
    light.graph.input.extend(graph.input)
    light.graph.output.extend(graph.output)
    light.graph.value_info.extend(graph.value_info)
    inputs = {info.name for info in graph.input}
    for tensor in graph.initializer:
        if tensor.name not in inputs:
            shape = list(tensor.dims)
            info = helper.make_tensor_value_info(tensor.name, tensor.data_type, shape)
            light.graph.input.append(info)
        size = 1
        for length in tensor.dims:
            size *= length
        if size <= _SMALL:
            light.graph.initializer.append(tensor)
    inferred = shape_inference.infer_shapes(light, data_prop=True).graph
    known = {}
    for info in (*inferred.value_info, *inferred.input, *inferred.output):
        kind = info.type.tensor_type
        if kind.HasField("shape") and all(d.HasField("dim_value") for d in kind.shape.dim):
            known[info.name] = (kind.elem_type, tuple(d.dim_value for d in kind.shape.dim))
    return known
