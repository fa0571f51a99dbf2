"""Name each layer after the module that it came from, and drop unused initializers.

A weight `model.backbone.body.conv1.weight` gives its node the name `backbone.body.conv1`; a layer
used on several levels gets `.2`, `.3`, … These names appear in recipes and reports. Nothing in
maskrt looks a node up by name.
"""

from collections import Counter

import onnx

from .fold_affine_into_conv import FOLDED

__all__ = ["name_nodes"]


def name_nodes(model: onnx.ModelProto) -> bool:
    """Rename nodes, and remove initializers that nothing reads; returns whether anything was."""
    graph = model.graph
    before = [node.name for node in graph.node]
    _rename(graph)
    used = {name for node in graph.node for name in node.input}
    used |= {output.name for output in graph.output}
    unused = [t for t in graph.initializer if t.name not in used]
    for tensor in unused:
        graph.initializer.remove(tensor)
    return bool(unused) or before != [node.name for node in graph.node]


def _rename(graph: onnx.GraphProto) -> None:
    weights = {t.name for t in graph.initializer}
    seen: Counter[str] = Counter()
    taken: set[str] = set()
    for node in graph.node:
        owner = next((n for n in node.input[1:2] if n in weights and ".weight" in n), "")
        stem = _module_of(owner) if owner else node.op_type
        seen[stem] += 1
        name = stem if owner and seen[stem] == 1 else f"{stem}.{seen[stem]}"
        while name in taken:  # a module may itself be called `stem.2`
            seen[stem] += 1
            name = f"{stem}.{seen[stem]}"
        taken.add(name)
        node.name = name


def _module_of(weight: str) -> str:
    return FOLDED.sub("", weight.removeprefix("model.")).removesuffix(".weight")
