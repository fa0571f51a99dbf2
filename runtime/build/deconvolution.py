"""Rewrites an INT8 ConvTranspose as Conv and DepthToSpace, because TensorRT-RTX has no INT8 one.

TensorRT-RTX 1.7 accepts Q/DQ around a ConvTranspose and computes it in float, with two more kernels
for the rounding. Where kernel size equals stride no two taps meet in one output pixel, so

    y[m, s·i + a, s·j + b] = bias[m] + Σ_c W[c, m, a, b] · x[c, i, j]

is a 1x1 Conv with M·s² outputs, output m·s² + a·s + b made of W[:, m, a, b], followed by a
DepthToSpace (mode CRD) of blocks of s, which a stride of 1 needs none of. It is the same sum over
the same INT8 products.

pattern: ConvTranspose(x, DequantizeLinear(W int8), bias?), square kernel = stride, no padding.
declines: groups, dilations, padding, output padding; weights or bias that are not constant; a zero
    point other than 0; scales along an axis other than the output channels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

__all__ = ["rewrite_int8_deconvolutions"]


@dataclass(frozen=True)
class _Match:
    """A ConvTranspose that can be rewritten.

    Attributes:
        node: the ConvTranspose.
        weight: int8 `[C, M, s, s]`.
        scale: `[M]`.
        bias: `[M]`, or None.
    """

    node: onnx.NodeProto
    weight: np.ndarray
    scale: np.ndarray
    bias: np.ndarray | None


def rewrite_int8_deconvolutions(model: onnx.ModelProto) -> list[str]:
    """Rewrite every INT8 ConvTranspose that can be, in place; return the names of those.

    The new Conv keeps the node's name, so it still counts as the layer that it was.
    """
    graph = model.graph
    matches = {match.node.name: match for match in _matches(graph)}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        match = matches.get(node.name) if node.op_type == "ConvTranspose" else None
        nodes.extend(_replacement(match, graph) if match else [node])
    del graph.node[:]
    graph.node.extend(nodes)
    return list(matches)


def _matches(graph: onnx.GraphProto) -> Iterator[_Match]:
    constants = {tensor.name: tensor for tensor in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        source = producers.get(node.input[1]) if node.op_type == "ConvTranspose" else None
        if source is None or source.op_type != "DequantizeLinear":
            continue
        bias = node.input[2] if len(node.input) > 2 else ""
        needed = [*source.input, *([bias] if bias else [])]
        if all(name in constants for name in needed):
            values = [numpy_helper.to_array(constants[name]) for name in needed]
            match = _match(node, source, values, has_bias=bool(bias))
            if match is not None:
                yield match


def _match(
    node: onnx.NodeProto, source: onnx.NodeProto, values: list[np.ndarray], *, has_bias: bool
) -> _Match | None:
    """Return the match, or None where shapes or values rule it out."""
    weight, scale = values[:2]
    zero_points = values[2 : len(source.input)]
    outputs = weight.shape[1]
    axis = _attributes(source).get("axis", 1)
    scaled = scale.size == 1 or (scale.shape == (outputs,) and axis in (1, 1 - weight.ndim))
    if not scaled or weight.dtype != np.int8 or any(zero.any() for zero in zero_points):
        return None
    if not _taps_never_meet(_attributes(node), weight.shape[2:]):
        return None
    bias = values[-1] if has_bias else None
    return _Match(node, weight, np.broadcast_to(scale.reshape(-1), outputs), bias)


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _taps_never_meet(given: dict[str, Any], kernel: tuple[int, ...]) -> bool:
    """Whether kernel = stride, and nothing shifts or crops the output."""
    square = len(kernel) == 2 and kernel[0] == kernel[1]
    return (
        square
        and list(given.get("strides", (1, 1))) == list(kernel)
        and given.get("group", 1) == 1
        and given.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID")
        and "output_shape" not in given
        and not any(given.get("pads", ()))
        and not any(given.get("output_padding", ()))
        and all(step == 1 for step in given.get("dilations", ()))
    )


def _replacement(match: _Match, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the nodes that compute what `match.node` does; their constants join `graph`."""
    node, stride = match.node, match.weight.shape[-1]
    deep = f"{node.output[0]}.deep" if stride > 1 else node.output[0]
    inputs = [node.input[0], f"{node.name}.as_conv"]
    for role, array in _constants_of(match).items():
        graph.initializer.append(numpy_helper.from_array(array, f"{node.name}.as_conv.{role}"))
    if match.bias is not None:
        inputs.append(f"{node.name}.as_conv.bias")
    shuffle = helper.make_node(
        "DepthToSpace",
        [deep],
        list(node.output),
        f"{node.name}.to_space",
        blocksize=stride,
        mode="CRD",
    )
    return [
        helper.make_node(
            "DequantizeLinear",
            [f"{node.name}.as_conv.weight", f"{node.name}.as_conv.scale"],
            [inputs[1]],
            inputs[1],
            axis=0,
        ),
        helper.make_node("Conv", inputs, [deep], node.name, kernel_shape=[1, 1]),
        *([shuffle] if stride > 1 else []),
    ]


def _constants_of(match: _Match) -> dict[str, np.ndarray]:
    channels, outputs, side, _ = match.weight.shape
    taps = side * side
    weight = match.weight.transpose(1, 2, 3, 0).reshape(outputs * taps, channels, 1, 1)
    constants = {"weight": np.ascontiguousarray(weight), "scale": np.repeat(match.scale, taps)}
    if match.bias is not None:
        constants["bias"] = np.repeat(match.bias, taps)
    return constants
