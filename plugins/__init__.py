"""The operators, one folder each, and the adapters that bring them to a backend.

Each folder `plugins/<operator>/` has the same files: `schema.py` (the signature), `reference.py`
(the definition, in PyTorch), `function.py` (the ONNX local function), `pluginless.py` (for TensorRT
without plugins).

In: a node's attributes and static shapes. Out: its body for a backend, or its kernels' launches.
Imported by `export`, `calib`, `runtime` and the rooms of `maskrt/`; imports `core`.
"""

from .bodies import OPERATORS, attach_functions, inline, lower
from .operator import DOMAIN

__all__ = ["DOMAIN", "OPERATORS", "attach_functions", "inline", "lower"]
