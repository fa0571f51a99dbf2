"""Heavy imports, made where they are used, with the install command in the error.

A Jetson needs numpy, onnx and its own TensorRT; a workstation that only checks accuracy needs no
torch. So nothing heavy is imported at module level: `require("torch", ...)` is the one door.

It is also where packages are told not to call home. ONNX Runtime 1.32 reads that when it is loaded,
and later calls do not undo what it has begun by then: a device id and a database of events in the
user's cache folder, sent away from a thread of its own. Programs that maskrt starts inherit it.
"""

import importlib
import os
from types import ModuleType

from .errors import MissingDependencyError
from .jetpack import is_jetson

__all__ = ["require"]

_EXTRA_OF = {
    "torch": "export",
    "torchvision": "export",
    "onnxscript": "export",
    "safetensors": "export",
    "onnxruntime": "cpu",
    "tensorrt_rtx": "rtx",
    "cuda": "rtx",
    "pycocotools": "check",
    "skimage": "demo",
    "cv2": "video",
    "distributed": "dask",
    "timm": "timm",
    "minisign": "sign",
    "trackers": "track",
    "supervision": "track",
}
_SILENT = {
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",  # timm imports huggingface_hub
}
_DISTRIBUTION_OF = {"PIL": "pillow"}
_ON_A_JETSON = {
    "tensorrt": "sudo apt install python3-libnvinfer and install maskrt in an environment that "
    "python3 -m venv --system-site-packages made, since JetPack's TensorRT is the system's"
}


def require(module: str, purpose: str) -> ModuleType:
    """Import `module` now, or say which command installs it.

    Args:
        module: dotted name, such as `"pycocotools.mask"`.
        purpose: what needs it, as the end of "... is needed to <purpose>".

    Raises:
        MissingDependencyError: the package is not installed or does not load.
    """
    package = module.partition(".")[0]
    for name, value in _SILENT.items():
        os.environ.setdefault(name, value)  # who has set it otherwise has decided
    try:
        return importlib.import_module(module)
    except (ImportError, RuntimeError, OSError) as error:  # torchvision beside another torch's
        extra = _EXTRA_OF.get(package)
        install = f"maskrt[{extra}]" if extra else _DISTRIBUTION_OF.get(package, package)
        absent = isinstance(error, ImportError) and error.name == package
        reason = "is not installed" if absent else f"does not load ({error})"
        remedy = _ON_A_JETSON.get(package) if is_jetson() else None
        remedy = remedy or f"pip install '{install}'"
        message = f"{package} is needed to {purpose} but {reason}: run {remedy}."
        raise MissingDependencyError(message, name=package) from error
