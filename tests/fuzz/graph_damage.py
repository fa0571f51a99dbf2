"""How an ONNX file is damaged where it still parses: names, shapes, types, attributes, nodes."""

from random import Random
from typing import Any

import onnx
from onnx import TensorProto

from .damage import as_bytes, odd_value

__all__ = ["as_graph"]

_SIDES = (0, 1, -1, 2, 3, 5, 80, 1 << 16, 1 << 31, 1 << 40, (1 << 63) - 1, -(1 << 63))


def as_graph(data: bytes, dice: Random) -> bytes:
    """Change up to three things in a graph."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception:  # damaged already
        return as_bytes(data, dice)
    try:
        for _ in range(dice.choice((1, 1, 2, 3))):
            dice.choice(_CHANGES)(model, dice)
        return model.SerializeToString()
    except Exception:  # a name that is no UTF-8, or more than 2 GB
        return data


def _node(model: Any, dice: Random) -> Any:
    return dice.choice(model.graph.node) if model.graph.node else onnx.NodeProto()


def _attribute(model: Any, dice: Random) -> None:
    node = _node(model, dice)
    if not node.attribute:
        node.attribute.add(name="axis", type=2, i=dice.choice(_SIDES))
        return
    one = dice.choice(node.attribute)
    kind = dice.randrange(6)
    if kind == 0:
        one.i = dice.choice(_SIDES)
    elif kind == 1:
        one.ints[:] = [dice.choice(_SIDES) for _ in range(dice.randrange(6))]
    elif kind == 2:
        one.type = dice.randrange(15)
    elif kind == 3:
        one.name = dice.choice(("axis", "perm", "to", "value", "mode", ""))
    elif kind == 4:
        one.s = str(odd_value(dice)).encode("utf-8", "replace")
    else:
        node.attribute.remove(one)


def _tensor(model: Any, dice: Random) -> None:
    tensors = list(model.graph.initializer)
    tensors += [a.t for n in model.graph.node for a in n.attribute if a.HasField("t")]
    if not tensors:
        return
    one = dice.choice(tensors)
    kind = dice.randrange(7)
    if kind == 0 and one.dims:
        one.dims[dice.randrange(len(one.dims))] = dice.choice(_SIDES)
    elif kind == 1:
        one.dims[:] = [dice.choice(_SIDES) for _ in range(dice.randrange(6))]
    elif kind == 2:
        one.data_type = dice.choice((*range(25), 99, -1))
    elif kind == 3:
        one.raw_data = as_bytes(one.raw_data, dice)
    elif kind == 4:
        one.name = str(odd_value(dice))[:40].encode("utf-8", "replace").decode()
    elif kind == 5:
        one.data_location = TensorProto.EXTERNAL
        one.external_data.add(key="location", value=dice.choice(("w", "../w", "/etc/hosts", "")))
    else:
        one.ClearField("raw_data")


def _wire(model: Any, dice: Random) -> None:
    node, other = _node(model, dice), _node(model, dice)
    names = [*other.input, *other.output, "", "nowhere"]
    side = node.input if dice.random() < 0.7 else node.output
    if side and dice.random() < 0.8:
        side[dice.randrange(len(side))] = dice.choice(names)
    elif dice.random() < 0.5:
        side.append(dice.choice(names))
    else:
        del side[:]


def _kind(model: Any, dice: Random) -> None:
    node, other = _node(model, dice), _node(model, dice)
    kinds = (other.op_type, "If", "Loop", "Reshape", "Gather", "NonMaxSuppression", "RoiAlign",
             "Expand", "Range", "Nope", "")  # fmt: skip
    node.op_type = dice.choice(kinds)
    if dice.random() < 0.1:
        node.domain = dice.choice(("maskrt", "com.microsoft", "x", "ai.onnx.ml"))


def _order(model: Any, dice: Random) -> None:
    nodes = list(model.graph.node)
    if not nodes:
        return
    kind, at = dice.randrange(3), dice.randrange(len(nodes))
    if kind == 0:
        del nodes[at]
    elif kind == 1:
        nodes.insert(dice.randrange(len(nodes)), nodes[at])
    else:
        nodes.insert(dice.randrange(len(nodes)), nodes.pop(at))
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _face(model: Any, dice: Random) -> None:
    """Change inputs, outputs, opsets and metadata."""
    side = dice.choice((model.graph.input, model.graph.output))
    kind = dice.randrange(6)
    if kind < 3 and side:
        one = dice.choice(side).type.tensor_type
        if kind == 0:
            one.elem_type = dice.randrange(25)
        elif kind == 1 and one.shape.dim:
            one.shape.dim[dice.randrange(len(one.shape.dim))].dim_value = dice.choice(_SIDES)
        else:
            one.ClearField("shape")
    elif kind == 3 and side:
        del side[dice.randrange(len(side))]
    elif kind == 4 and model.opset_import:
        model.opset_import[0].version = dice.choice((0, 1, 9, 11, 13, 17, 21, 24, 99, -1))
    elif model.metadata_props:
        one = dice.choice(model.metadata_props)
        one.value = str(odd_value(dice)).encode("utf-8", "replace").decode()
    else:
        model.metadata_props.add(key="names", value=str(odd_value(dice))[:99].encode(
            "utf-8", "replace").decode())  # fmt: skip


_CHANGES = (_attribute, _attribute, _tensor, _tensor, _wire, _wire, _kind, _order, _face)
