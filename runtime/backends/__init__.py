"""Backends: what executes an engine. One contract (`base.py`), one file a backend.

| backend of a target | file | executes |
|---|---|---|
| `onnxruntime` | `cpu.py` | `engine.onnx` with ONNX Runtime on the CPU |
| `tensorrt_rtx` | `tensorrt.py` | `engine.trt` with TensorRT-RTX on a GPU |
| `tensorrt` | `tensorrt.py` | `engine.trt` with TensorRT on a GPU |
| `null` | `null.py` | nothing: finds no objects, needs no engine |

`open_backend` finds the engine in a bundle and opens the backend that its target names.
"""

from .base import Backend
from .loader import choose_target, gpu_of, open_backend, open_engine
from .null import NullBackend

__all__ = ["Backend", "NullBackend", "choose_target", "gpu_of", "open_backend", "open_engine"]
