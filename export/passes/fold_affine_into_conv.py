"""Fold `Mul` and `Add` by per-channel constants into the convolution before them.

    s · (W * x + b) + t  =  (s W) * x + (s b + t)

torchvision's FrozenBatchNorm2d leaves this pattern; without folding, every convolution of a
pretrained backbone would keep two extra nodes, and none could be quantised with its bias.

Convolutions that share W (a head used on every level) part ways here: each gets a folded weight
`W.folded`, `W.folded2`, … and a bias of its own, since each may have another affine after it.
"""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import count

import numpy as np
import onnx
from onnx import numpy_helper

__all__ = ["FOLDED", "fold_affine_into_conv"]

FOLDED = re.compile(r"\.folded\d*$")  # what this pass appends to a weight's name


def fold_affine_into_conv(model: onnx.ModelProto) -> bool:
    """Fold until nothing matches; returns whether anything did."""
    changed = False
    while _fold_once(model):
        changed = True
    return changed


def _fold_once(model: onnx.ModelProto) -> bool:
    graph = model.graph
    constants = {t.name: t for t in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(output.name for output in graph.output)
    dropped: list[onnx.NodeProto] = []
    done: set[str] = set()
    for node in graph.node:
        match = _match(node, constants, producers, uses)
        if match is None or match[0].output[0] in done:
            continue
        conv, factor = match
        _apply(graph, conv, node.op_type, factor, constants, uses)
        conv.output[0] = node.output[0]
        done.add(conv.output[0])
        dropped.append(node)
    for node in dropped:
        graph.node.remove(node)
    return bool(dropped)


def _match(
    node: onnx.NodeProto,
    constants: dict[str, onnx.TensorProto],
    producers: dict[str, onnx.NodeProto],
    uses: Counter[str],
) -> tuple[onnx.NodeProto, np.ndarray] | None:
    """Return the convolution before `node` and the per-channel vector, if `node` can be folded."""
    if node.op_type not in ("Mul", "Add") or len(node.input) != 2:
        return None
    for data, constant in (tuple(node.input), tuple(reversed(node.input))):
        conv = producers.get(data)
        if conv is None or conv.op_type != "Conv" or constant not in constants or uses[data] != 1:
            continue
        if conv.input[1] not in constants or any(b not in constants for b in conv.input[2:] if b):
            continue
        vector = _per_channel(numpy_helper.to_array(constants[constant]), conv, constants)
        if vector is not None:
            return conv, vector
    return None


def _per_channel(
    value: np.ndarray, conv: onnx.NodeProto, constants: dict[str, onnx.TensorProto]
) -> np.ndarray | None:
    """Return `value` as a vector over output channels if it broadcasts as one, else None."""
    weight = constants[conv.input[1]]
    channels, axes = weight.dims[0], len(weight.dims)
    if value.size == 1:
        return np.full(channels, value.reshape(()), np.float32)
    shape = (1,) * (axes - value.ndim) + value.shape
    return value.reshape(-1) if shape == (1, channels, *[1] * (axes - 2)) else None


def _apply(
    graph: onnx.GraphProto,
    conv: onnx.NodeProto,
    op_type: str,
    vector: np.ndarray,
    constants: dict[str, onnx.TensorProto],
    uses: Counter[str],
) -> None:
    """Give `conv` weights and a bias of its own; shared ones are left to their other users."""
    weight = numpy_helper.to_array(constants[conv.input[1]])
    has_bias = len(conv.input) > 2 and conv.input[2]
    zero = np.zeros(weight.shape[0], weight.dtype)
    bias = numpy_helper.to_array(constants[conv.input[2]]) if has_bias else zero
    if op_type == "Mul":
        weight = weight * vector.reshape(-1, *[1] * (weight.ndim - 1)).astype(weight.dtype)
        bias = bias * vector
    else:
        bias = bias + vector
    root = FOLDED.sub("", conv.input[1])
    _release(graph, conv.input[1:], constants, uses)
    names = _free_names(root, constants)
    for name, value in zip(names, (weight, bias.astype(weight.dtype)), strict=True):
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        constants[name] = graph.initializer[-1]
    del conv.input[1:]
    conv.input.extend(names)
    uses.update(names)


def _release(
    graph: onnx.GraphProto,
    names: Sequence[str],
    constants: dict[str, onnx.TensorProto],
    uses: Counter[str],
) -> None:
    """Take one reader from each of `names`, and remove those initializers that lost their last."""
    for name in names:
        uses[name] -= 1
        if name in constants and uses[name] == 0:
            graph.initializer.remove(constants.pop(name))


def _free_names(root: str, constants: dict[str, onnx.TensorProto]) -> tuple[str, str]:
    """Return names for a folded weight and its bias that no initializer has."""
    for number in count(1):
        name = f"{root}.folded{number if number > 1 else ''}"
        if not {name, f"{name}_bias"} & constants.keys():
            break
    return name, f"{name}_bias"
