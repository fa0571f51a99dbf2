"""Bodies of `If`: which one to take, and renaming what stands in them."""

from collections.abc import Callable

import onnx

from .graph import Node

__all__ = ["rename_all", "rename_outer", "suppressing_branch"]


def suppressing_branch(node: Node) -> bool | None:
    """Return which branch suppresses where the other one gives nothing at all, or None.

    torchvision suppresses only if there are boxes; suppressing none gives none, too.
    """
    for taken, other in (("then_branch", "else_branch"), ("else_branch", "then_branch")):
        suppresses = any(n.op_type == "NonMaxSuppression" for n in node.attributes[taken].node)
        if suppresses and _gives_nothing(node.attributes[other]):
            return taken == "then_branch"
    return None


def _gives_nothing(body: onnx.GraphProto) -> bool:
    held = {t.name: t for t in body.initializer}
    for inner in body.node:
        for attribute in inner.attribute:
            if inner.op_type == "Constant" and attribute.HasField("t"):
                held[inner.output[0]] = attribute.t
        if inner.op_type == "Identity" and inner.input[0] in held:
            held[inner.output[0]] = held[inner.input[0]]
    return all(o.name in held and 0 in held[o.name].dims for o in body.output)


def rename_outer(body: onnx.GraphProto, resolve: Callable[[str], str]) -> None:
    """Rename what `body` and the bodies within it take from outside."""
    own = {t.name for t in body.initializer} | {i.name for i in body.input}
    for node in body.node:
        own.update(node.output)

    def rename(name: str) -> str:
        return name if name in own else resolve(name)

    _apply(body, rename)


def rename_all(body: onnx.GraphProto, names: dict[str, str]) -> None:
    """Rename the tensors of `body` that are in `names`, made or read."""
    _apply(body, lambda name: names.get(name, name))
    for tensor in body.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in body.node:
        node.output[:] = [names.get(name, name) for name in node.output]


def _apply(body: onnx.GraphProto, rename: Callable[[str], str]) -> None:
    """Rename what the nodes and outputs of `body` read, those of nested bodies included."""
    for node in body.node:
        node.input[:] = [rename(name) if name else name for name in node.input]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                rename_outer(attribute.g, rename)
    for output in body.output:
        output.name = rename(output.name)
