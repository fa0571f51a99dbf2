"""Surgery: from ONNX that others exported to canonical ONNX, by structure and never by name.

`onnx_file.py` reads the file, `fold.py` computes all that does not depend on the picture, the rules
(`preprocessing`, `pyramid`, `suppression`, `proposals`, `detections`, `masks`) recognise one stage
each, `layers.py` copies backbone and heads, and `canonical.py` writes what lies between them anew.
A graph that holds TensorRT's plugins goes through `plugin_graph.py` instead, node by node.
A rule is pattern, check and what it read; a check that declines says why and at which node.
Nothing here needs torch.
"""

from .declined import Declined, Finding
from .one_pass import CROPS
from .plugin_reference import PluginReference
from .published import PublishedReference
from .reference import OnnxReference
from .stage import Examination, OnnxExport, examine, export_onnx

__all__ = [
    "CROPS",
    "Declined",
    "Examination",
    "Finding",
    "OnnxExport",
    "OnnxReference",
    "PluginReference",
    "PublishedReference",
    "examine",
    "export_onnx",
]
