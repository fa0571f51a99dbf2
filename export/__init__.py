"""From a PyTorch model to canonical ONNX.

`source.py` finds the model and its weights, `families/` knows each kind of model, `trace.py`
exports, `passes/` clean the graph, `stage.py` does it all in order; `surgery/` rewrites the ONNX
files of other exporters.

In: a PyTorch model and its weights, or an ONNX file. Out: the canonical graph, its manifest, and
the original as a reference.
Imported by the rooms of `maskrt/`; imports `plugins` and `core`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .families.family import Reference
    from .stage import Export, export_model, load_reference

__all__ = ["Export", "Reference", "export_model", "load_reference"]


def __getattr__(name: str) -> Any:
    """Load the stage on first use: it needs torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ..core import require

    for package in ("torch", "torchvision", "onnxscript"):
        require(package, "export a PyTorch model")
    from . import stage

    return getattr(stage, name)
