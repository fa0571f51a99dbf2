"""A product over channels before DepthToSpace instead of after it.

A mask head multiplies each pixel of its upsampled features by the weights of one class:

    y[d, n, p] = sum_m a[d, n, m] * DepthToSpace(x)[d, m, p]

The sum runs over channels and DepthToSpace only moves pixels, so the product may come first, on the
r*r positions of `x` apart, and what is left to move is N channels instead of M, often 1 instead of
256. The sums have the same terms.
"""

from dataclasses import dataclass

import numpy as np
import onnx

from ..graph import GraphIndex, attribute, is_standard
from ._edit import GraphEdit

__all__ = ["shuffle_late"]


@dataclass(frozen=True)
class _Match:
    """`shuffle -> reshape -> product`, with `rows = N` and an upsampled map of `height x width`."""

    shuffle: onnx.NodeProto
    reshape: onnx.NodeProto
    product: onnx.NodeProto
    rows: int
    channels: int
    height: int
    width: int
    block: int


def shuffle_late(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model` with every `MatMul(a, Reshape(DepthToSpace(x)))` computed the other way."""
    graph = GraphIndex(model)
    found = [_match(graph, node) for node in graph.nodes if is_standard(node, "DepthToSpace")]
    matches = [match for match in found if match is not None]
    if not matches:
        return model
    edit = GraphEdit(model)
    for match in matches:
        _rewrite(edit, match)
    return edit.finish()


def _match(graph: GraphIndex, shuffle: onnx.NodeProto) -> _Match | None:
    """Return the pattern that starts at `shuffle`, or None."""
    reshape = graph.only_consumer(shuffle.output[0])
    if reshape is None or not is_standard(reshape, "Reshape"):
        return None
    product = graph.only_consumer(reshape.output[0])
    if product is None or not is_standard(product, "MatMul"):
        return None
    whole = graph.shape(shuffle.output[0])
    flat = graph.shape(reshape.output[0])
    result = graph.shape(product.output[0])
    factor = graph.shape(product.input[0])
    if not (len(whole) == 4 and len(flat) == len(result) == len(factor) == 3):
        return None
    depth, channels, height, width = whole
    plain = attribute(shuffle, "mode", "DCR") == "DCR"
    if not plain or flat != (depth, channels, height * width) or result[0] != depth:
        return None
    if product.input[1] != reshape.output[0] or product.input[0] == reshape.output[0]:
        return None
    block = attribute(shuffle, "blocksize")
    return _Match(shuffle, reshape, product, result[1], channels, height, width, block)


def _rewrite(edit: GraphEdit, match: _Match) -> None:
    """Replace the three nodes; `x` is `[D, r*r*M, H/r, W/r]` and the result `[D, N, H*W]`."""
    block, name = match.block, match.product.output[0]
    height, width, positions = match.height // block, match.width // block, match.block**2
    for node in (match.shuffle, match.reshape, match.product):
        edit.remove(node)

    def reshaped(tensor: str, output: str, *shape: int) -> str:
        sizes = edit.constant(f"{output}_shape", np.array(shape, np.int64))
        return edit.node("Reshape", [tensor, sizes], output)

    apart = edit.fresh(f"{name}_positions")
    reshaped(match.shuffle.input[0], apart, -1, positions, match.channels, height * width)
    axis = edit.constant(f"{name}_axis", np.array([1], np.int64))
    rows = edit.node("Unsqueeze", [match.product.input[0], axis], edit.fresh(f"{name}_rows"))
    sums = edit.node("MatMul", [rows, apart], edit.fresh(f"{name}_sums"), name=match.product.name)
    packed = reshaped(sums, edit.fresh(f"{name}_packed"), -1, positions * match.rows, height, width)
    shuffled = edit.fresh(f"{name}_shuffled")
    edit.node("DepthToSpace", [packed], shuffled, blocksize=block, mode="DCR")
    reshaped(shuffled, name, -1, match.rows, match.height * match.width)
