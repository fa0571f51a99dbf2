"""maskrt compiles instance-segmentation models into TensorRT engines and proves their accuracy.

    bundle = maskrt.compile("torchvision:maskrcnn_resnet50_fpn", "out.maskrt", weights="w.pth")
    session = maskrt.load("out.maskrt", target="cpu")
    result = session.predict("street.jpg")
    report = maskrt.check("out.maskrt", images="val/", annotations="val.json")

Importing `maskrt` imports nothing heavy: each name is loaded when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .compiling.inlined import write_inlined
    from .compiling.recipe_edit import set_precisions
    from .core import Bundle, InputSpec, Instances, MaskrtError, Precision, Target
    from .pipeline import build, calibrate, check, compile, load
    from .runtime.build import BuildOptions

__all__ = [
    "BuildOptions",
    "Bundle",
    "InputSpec",
    "Instances",
    "MaskrtError",
    "Precision",
    "Target",
    "build",
    "calibrate",
    "check",
    "compile",
    "load",
    "set_precisions",
    "write_inlined",
]
__version__ = "0.1.0"

_HOME_OF = {
    "BuildOptions": ".runtime.build",
    "set_precisions": ".compiling.recipe_edit",
    "write_inlined": ".compiling.inlined",
    **dict.fromkeys(("build", "calibrate", "check", "compile", "load"), ".pipeline"),
    **dict.fromkeys(
        ("Bundle", "InputSpec", "Instances", "MaskrtError", "Precision", "Target"), ".core"
    ),
}


def __getattr__(name: str) -> Any:
    """Load a public name on first use (PEP 562)."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'maskrt' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name], __name__), name)


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted([*globals(), *__all__])
