"""Casts a uint8 input to float where it enters, and for each of its readers anew.

TensorRT takes uint8 at a network's input and in a Cast, in no other layer. The canonical graph may
transpose the picture first, a quarter of the bytes, and cast afterwards:

    images (uint8) → Transpose → Cast      becomes      images → Cast → Transpose → Cast

Moving numbers and converting them commute, and uint8 is exact in float, so the values are the same;
the second Cast has nothing left to do.

Where two nodes read the float picture, TensorRT-RTX writes it, four times the bytes, for the later
one to read. Casts that differ are a part of what reads them, and FP16 holds every byte:

    images → Cast → f, g      becomes      images → Cast → f;  images → Cast (FP16) → Cast → g

pattern: a uint8 graph input, read by data movement alone until Casts; one that a Cast to FP32
reads, with two readers.
declines: any other reader, such as arithmetic in uint8, or an output that is uint8 itself.
"""

import onnx
from onnx import TensorProto, helper

__all__ = ["cast_for_each_reader", "cast_uint8_inputs"]

_MOVES = {"Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Slice"}


def cast_uint8_inputs(model: onnx.ModelProto) -> list[str]:
    """Cast each uint8 input that matches, in place; return their names."""
    graph = model.graph
    names = [
        info.name
        for info in graph.input
        if info.type.tensor_type.elem_type == TensorProto.UINT8
        and any(info.name in node.input and node.op_type in _MOVES for node in graph.node)
    ]
    matched = {name: moved for name in names if (moved := _moved(graph, name)) is not None}
    for name, moved in matched.items():
        _enter_as_float(graph, name)
        kept = [info for info in graph.value_info if info.name not in moved]
        del graph.value_info[:]  # those tensors are float now
        graph.value_info.extend(kept)
    return list(matched)


def _moved(graph: onnx.GraphProto, name: str) -> set[str] | None:
    """Return the tensors that hold the moved input, or None where the pattern declines."""
    moved, outputs = {name}, {info.name for info in graph.output}
    for node in graph.node:  # in topological order
        if not moved.intersection(node.input):
            continue
        if node.op_type in _MOVES and node.input[0] in moved:
            moved.update(node.output)
        elif node.op_type != "Cast":
            return None
    return None if moved & outputs else moved - {name}


def _enter_as_float(graph: onnx.GraphProto, name: str) -> None:
    entered = f"{name}.entered"
    for node in graph.node:
        node.input[:] = [entered if read == name else read for read in node.input]
    cast = helper.make_node("Cast", [name], [entered], entered, to=int(TensorProto.FLOAT))
    graph.node.insert(0, cast)


def cast_for_each_reader(model: onnx.ModelProto) -> list[str]:
    """Let the first of a float picture's two readers cast it anew; return the names of those."""
    graph = model.graph
    inputs = {i.name for i in graph.input if i.type.tensor_type.elem_type == TensorProto.UINT8}
    names: list[str] = []
    for cast in [n for n in graph.node if n.op_type == "Cast" and n.input[0] in inputs]:
        readers = [node for node in graph.node if cast.output[0] in node.input]
        if cast.attribute[0].i != TensorProto.FLOAT or len(readers) != 2:
            continue
        reader, source, again = readers[0], cast.input[0], f"{cast.output[0]}.again"
        reader.input[:] = [again if name == cast.output[0] else name for name in reader.input]
        index = list(graph.node).index(cast)
        for start, end, kind in (
            (f"{again}.half", again, TensorProto.FLOAT),
            (source, f"{again}.half", TensorProto.FLOAT16),
        ):
            graph.node.insert(index, helper.make_node("Cast", [start], [end], end, to=int(kind)))
        names.append(reader.name)
    return names
