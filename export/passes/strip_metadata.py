"""Drop what an exporter wrote for debugging: stack traces, scopes, documentation strings.

They hold paths of the exporting machine and make a third of a small model's bytes.
"""

import onnx

__all__ = ["strip_metadata"]


def strip_metadata(model: onnx.ModelProto) -> bool:
    """Clear `metadata_props` and `doc_string` of the model, graph, nodes and values."""
    graph = model.graph
    before = model.ByteSize()
    for item in (model, graph, *graph.node, *graph.initializer, *graph.value_info):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    for info in (*graph.input, *graph.output):
        info.ClearField("metadata_props")
    return model.ByteSize() != before
