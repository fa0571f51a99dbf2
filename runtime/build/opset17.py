"""From opset 19 back to 17, the last that the ONNX parsers of TensorRT 8.5 and 8.6 know.

| operator | 18 and 19 have | 17 has |
|---|---|---|
| `ReduceMax`, `ReduceMin`, `ReduceMean`, `ReduceProd` | axes as an input | axes as an attribute |
| `Resize` | `antialias`, `keep_aspect_ratio_policy` | neither |
| `Cast`, `Constant`, `Equal`, `Identity`, `Reshape`, `ScatterElements`, ... | more types | same |

declines: any other operator whose definition changed, or an attribute with another than its
default value.
"""

import onnx
from onnx import defs, helper, numpy_helper

from ...core import Target, UnsupportedTargetError

__all__ = ["IR_VERSION", "OPSET", "convert_to_opset_17"]

OPSET, IR_VERSION = 17, 8
_REDUCTIONS = {"ReduceMax", "ReduceMin", "ReduceMean", "ReduceProd"}
_MORE_TYPES = {
    "AveragePool", "Cast", "CastLike", "Constant", "ConstantOfShape", "Equal", "Flatten",
    "Identity", "Pad", "Reshape", "ScatterElements", "ScatterND", "Shape", "Size", "Split",
}  # fmt: skip
_DEFAULTS = {
    "antialias": 0, "keep_aspect_ratio_policy": b"stretch", "noop_with_empty_axes": 0,
    "saturate": 1,
}  # fmt: skip


def convert_to_opset_17(model: onnx.ModelProto, target: Target) -> None:
    """Rewrite the nodes of the main graph in place, and say so in the model.

    Raises:
        UnsupportedTargetError: an operator has no equal there.
    """
    (opset,) = (entry for entry in model.opset_import if entry.domain == "")
    constants = {t.name: t for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    for node in model.graph.node:
        if node.domain == "" and opset.version > OPSET:
            _convert(node, opset.version, constants, target)
    opset.version = min(opset.version, OPSET)
    model.ir_version = min(model.ir_version, IR_VERSION)


def _convert(
    node: onnx.NodeProto, version: int, constants: dict[str, onnx.TensorProto], target: Target
) -> None:
    changed = _since(node, OPSET) != _since(node, version)
    if not changed:
        return
    if node.op_type in _REDUCTIONS and len(node.input) > 1 and node.input[1] in constants:
        axes = numpy_helper.to_array(constants[node.input[1]]).tolist()
        del node.input[1:]
        node.attribute.append(helper.make_attribute("axes", axes))
    elif node.op_type in _REDUCTIONS and len(node.input) == 1:
        pass
    elif node.op_type not in _MORE_TYPES and node.op_type != "Resize":
        raise UnsupportedTargetError(
            f"node {node.name!r} ({node.op_type}) of opset {version} has no equal in {OPSET}, the "
            f"last of TensorRT 8, for target {target.name}: choose a JetPack with TensorRT 10."
        )
    _drop_defaults(node, version, target)


def _drop_defaults(node: onnx.NodeProto, version: int, target: Target) -> None:
    """Take away attributes that 17 does not know, if they say what 17 does anyway."""
    known = defs.get_schema(node.op_type, OPSET, "").attributes
    for attribute in list(node.attribute):
        if attribute.name in known:
            continue
        if helper.get_attribute_value(attribute) != _DEFAULTS.get(attribute.name):
            raise UnsupportedTargetError(
                f"node {node.name!r} ({node.op_type}) has {attribute.name}, which opset {OPSET} of "
                f"TensorRT 8 does not know, for target {target.name}: choose a JetPack with "
                "TensorRT 10."
            )
        node.attribute.remove(attribute)


def _since(node: onnx.NodeProto, version: int) -> int:
    """Return since which opset an operator is as it is in `version`; 0 if that has none."""
    if not defs.has(node.op_type, version, ""):
        return 0
    return defs.get_schema(node.op_type, version, "").since_version
