"""A pooling that only picks every second element, as a part of the convolution behind it.

A pyramid's last level is its last but one with every second row and column left out, a MaxPool of
one element, which a detector's head reads:

    y = Conv(x[::s, ::s])   with kernel taps d apart, padded by p

is the convolution of `x` itself with s times the stride, taps s · d apart, and padding s · p: the
same taps read the same elements, and what lies beside one map lies beside the other.

pattern: MaxPool of kernel 1 x 1 without padding, read by Convs alone, in any number.
declines: an output of the graph, any other reader, such as a QuantizeLinear, `ceil_mode`, and a
convolution whose padding the graph leaves to the runtime.
"""

import onnx
from onnx import helper

from .lowered import nodes_within

__all__ = ["stride_convolutions"]


def stride_convolutions(model: onnx.ModelProto) -> list[str]:
    """Rewrite every MaxPool that matches, in place; return the names of those."""
    graph = model.graph
    held = {info.name for info in graph.output}
    held |= {name for node in nodes_within(graph) for name in node.input}
    pools = [n for n in graph.node if n.op_type == "MaxPool" and _picks(n, held)]
    names = []
    for pool in pools:
        readers = [node for node in graph.node if pool.output[0] in node.input]
        if not readers or not all(_can_stride(reader, pool.output[0]) for reader in readers):
            continue
        for reader in readers:
            _stride(reader, pool.input[0], _ints(pool, "strides", [1, 1]))
        graph.node.remove(pool)
        names.append(pool.name)
    return names


def _picks(node: onnx.NodeProto, held: set[str]) -> bool:
    return (
        _ints(node, "kernel_shape", []) == [1, 1]
        and not any(_ints(node, "pads", []))
        and max(_ints(node, "strides", [1, 1])) > 1
        and not any(a.i for a in node.attribute if a.name == "ceil_mode")
        and held.isdisjoint(node.output)
    )


def _can_stride(node: onnx.NodeProto, name: str) -> bool:
    given = {attribute.name: attribute for attribute in node.attribute}
    explicit = "auto_pad" not in given or given["auto_pad"].s == b"NOTSET"
    return node.op_type == "Conv" and node.input[0] == name and explicit


def _stride(node: onnx.NodeProto, source: str, by: list[int]) -> None:
    node.input[0] = source
    for name, default in (("strides", [1, 1]), ("dilations", [1, 1]), ("pads", [0, 0, 0, 0])):
        old = _ints(node, name, default)
        for attribute in [a for a in node.attribute if a.name == name]:
            node.attribute.remove(attribute)
        steps = [by[i % 2] * value for i, value in enumerate(old)]
        node.attribute.append(helper.make_attribute(name, steps))


def _ints(node: onnx.NodeProto, name: str, default: list[int]) -> list[int]:
    return next((list(a.ints) for a in node.attribute if a.name == name), default)
