"""Name each layer after the module that it came from, and drop unused initializers.

A weight `model.backbone.body.conv1.weight` gives its node the name `backbone.body.conv1`; a layer
used on several levels gets `.1`, `.2`, … These names appear in recipes and reports. Nothing in
maskrt looks a node up by name.
"""

from collections import Counter

import onnx

__all__ = ["name_nodes"]

_ENDINGS = (".folded", ".weight")


def name_nodes(model: onnx.ModelProto) -> bool:
    """Rename nodes, and remove initializers that nothing reads."""
    graph = model.graph
    weights = {t.name for t in graph.initializer}
    seen: Counter[str] = Counter()
    for node in graph.node:
        owner = next((n for n in node.input[1:2] if n in weights and ".weight" in n), "")
        name = _module_of(owner) if owner else node.op_type
        seen[name] += 1
        node.name = name if owner and seen[name] == 1 else f"{name}.{seen[name]}"
    used = {name for node in graph.node for name in node.input}
    unused = [t for t in graph.initializer if t.name not in used]
    for tensor in unused:
        graph.initializer.remove(tensor)
    return True


def _module_of(weight: str) -> str:
    name = weight.removeprefix("model.")
    for ending in _ENDINGS:
        name = name.removesuffix(ending)
    return name
