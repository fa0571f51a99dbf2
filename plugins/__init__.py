"""The operators, one folder each, and the adapters that bring them to a backend.

Each folder `plugins/<operator>/` has the same files: `schema.py` (the signature), `reference.py`
(the definition, in PyTorch), `function.py` (the ONNX local function), `pluginless.py` (for TensorRT
without plugins).
"""

from .bodies import OPERATORS, attach_functions, inline, lower
from .operator import DOMAIN

__all__ = ["DOMAIN", "OPERATORS", "attach_functions", "inline", "lower"]
