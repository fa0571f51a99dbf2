"""A deconvolution whose windows do not overlap, as a 1x1 convolution and a rearrangement.

`ConvTranspose` with kernel = stride = r and no padding writes each output pixel from one input
pixel alone:

    y[m, r*i + a, r*j + b] = bias[m] + sum_c x[c, i, j] * W[c, m, a, b]

so it is the convolution with the M*r*r kernels `W[:, m, a, b]` followed by `DepthToSpace`, to the
last bit of the products. ONNX Runtime has an INT8 convolution and no INT8 deconvolution, and
TensorRT-RTX none in BF16 and FP8.
"""

from collections.abc import Collection

import numpy as np
import onnx

from ..graph import GraphIndex, attribute, is_standard
from ..layers import Layer, find_layers
from ._edit import GraphEdit

__all__ = ["is_pixelwise", "split_deconvolutions"]


def split_deconvolutions(
    model: onnx.ModelProto, names: Collection[str]
) -> tuple[onnx.ModelProto, dict[str, str]]:
    """Rewrite the pixelwise deconvolutions among the layers `names`.

    The convolution keeps the layer's name, and an activation function moves before the
    rearrangement, where it can be fused.

    Returns:
        The model, and new tensor -> the tensor of the original graph that it is a rearrangement of.
    """
    edit = GraphEdit(model)
    origin: dict[str, str] = {}
    for layer in find_layers(edit.before):
        if layer.name in names and is_pixelwise(edit.before, edit.before.producers[layer.output]):
            origin.update(_split(edit, layer))
    return (edit.finish() if origin else model), origin


def _split(edit: GraphEdit, layer: Layer) -> dict[str, str]:
    """Replace one deconvolution; return the origin of its new tensors."""
    graph = edit.before
    weight = graph.array(layer.weight)
    kernel = weight.shape[2]
    inputs = [layer.data, edit.constant(f"{layer.weight}_1x1", _kernels(weight))]
    if layer.bias is not None:
        bias = np.tile(graph.array(layer.bias), kernel * kernel)
        inputs.append(edit.constant(f"{layer.bias}_1x1", bias))
    packed = edit.fresh(f"{layer.output}_packed")
    edit.node("Conv", inputs, packed, name=layer.name, kernel_shape=[1, 1])
    edit.remove(graph.producers[layer.output])
    origin = {packed: layer.output}
    if layer.result != layer.output:
        activation = graph.producers[layer.result]
        packed = edit.fresh(f"{layer.result}_packed")
        edit.replace_input(activation, layer.output, next(iter(origin)))
        edit.rename_output(layer.result, packed)
        origin[packed] = layer.result
    edit.node("DepthToSpace", [packed], layer.result, blocksize=kernel, mode="DCR")
    return origin


def is_pixelwise(graph: GraphIndex, node: onnx.NodeProto) -> bool:
    """Whether `node` is a 2-D ConvTranspose whose kernel equals its stride, without padding."""
    if not is_standard(node, "ConvTranspose"):
        return False
    kernel = list(graph.constants[node.input[1]].dims)[2:]
    square = len(kernel) == 2 and kernel[0] == kernel[1]
    return (
        square
        and list(attribute(node, "strides", [1, 1])) == kernel
        and not any(attribute(node, "pads", []))
        and not any(attribute(node, "output_padding", []))
        and all(step == 1 for step in attribute(node, "dilations", []))
        and attribute(node, "group", 1) == 1
        and attribute(node, "auto_pad", "NOTSET") in ("NOTSET", "VALID")
        and attribute(node, "output_shape") is None
    )


def _kernels(weight: np.ndarray) -> np.ndarray:
    """Return `W[C, M, r, r]` as kernels `[r*r*M, C, 1, 1]`, in the DCR order of DepthToSpace."""
    kernels = weight.transpose(2, 3, 1, 0).reshape(-1, weight.shape[0])
    return np.ascontiguousarray(kernels)[:, :, None, None]
