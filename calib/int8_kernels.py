"""Which forms of a layer have no INT8 kernel in which runtime: a table, and the recipe held to it.

A layer that its recipe has in INT8 and the runtime computes in float ends the build, since the
engine would not be what was asked for. So a target's recipe is held to this table before: what the
target cannot compute in INT8 gets the recipe's wider precision, with the reason, and the finished
engine is verified against what remains.

The table is what the runtimes do, not what they say: `tests/calib/test_int8_kernels.py` builds each
form once per runtime, reads back what the layer computes in, and compares. It was so with ONNX
Runtime 1.32 and TensorRT-RTX 1.7. Of full TensorRT nothing is claimed: it builds on its device
alone, and says there which layer came back in which precision.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx

from .graph import GraphIndex
from .layers import Layer, find_layers
from .recipe import Recipe
from .render._deconvolution import is_pixelwise

__all__ = ["FORMS", "Form", "hold_to_int8_kernels", "without_int8_kernel"]

_ORT, _RTX = "onnxruntime", "tensorrt_rtx"


@dataclass(frozen=True)
class Form:
    """A form of a layer that some runtime has no INT8 kernel for.

    Attributes:
        name: what it is, in the plural.
        matches: whether a layer has it.
        lacking: backends without such a kernel -> what they are called.
    """

    name: str
    matches: Callable[[GraphIndex, Layer], bool]
    lacking: Mapping[str, str]


def _is_other_deconvolution(graph: GraphIndex, layer: Layer) -> bool:
    if layer.op_type != "ConvTranspose":
        return False
    return not is_pixelwise(graph, graph.producers[layer.output])


def _is_one_dimensional(graph: GraphIndex, layer: Layer) -> bool:
    return layer.op_type == "Conv" and len(graph.constants[layer.weight].dims) == 3


def _has_bias_of_rows(graph: GraphIndex, layer: Layer) -> bool:
    if layer.op_type != "Gemm" or layer.bias not in graph.constants:
        return False
    shape = list(graph.constants[layer.bias].dims)
    return len(shape) == 2 and shape[0] > 1


_EVERYWHERE = {_ORT: "ONNX Runtime", _RTX: "TensorRT-RTX"}
FORMS = (
    Form(
        "deconvolutions that are grouped, padded or dilated, or whose kernel is not their stride",
        _is_other_deconvolution,
        _EVERYWHERE,
    ),
    Form("convolutions of one dimension", _is_one_dimensional, {_RTX: "TensorRT-RTX"}),
    Form("products whose bias differs by row", _has_bias_of_rows, {_ORT: "ONNX Runtime"}),
)


def without_int8_kernel(model: onnx.ModelProto, backend: str) -> dict[str, str]:
    """Return the layers of `model` that `backend` cannot compute in INT8, each with the reason.

    Args:
        model: the canonical FP32 graph.
        backend: as targets name it, such as `"onnxruntime"`.
    """
    graph = GraphIndex(model)
    found: dict[str, str] = {}
    for layer in find_layers(graph):
        for form in FORMS:
            if backend in form.lacking and form.matches(graph, layer):
                found[layer.name] = f"{form.lacking[backend]} has no INT8 kernel for {form.name}"
                break
    return found


def hold_to_int8_kernels(model: onnx.ModelProto, recipe: Recipe, backend: str) -> Recipe:
    """Return `recipe` without INT8 in the layers that `backend` has no INT8 kernel for.

    They are in the recipe's rest, or FP32 where they refuse that. A recipe that asks for nothing
    else is returned as it is.
    """
    narrow = set(recipe.narrow_layers())
    for name, reason in without_int8_kernel(model, backend).items() if narrow else ():
        if name in narrow:
            recipe = recipe.widen([name], reason)
    return recipe
