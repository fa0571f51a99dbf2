"""maskrt compiles instance-segmentation models into TensorRT engines and proves their accuracy.

    bundle = maskrt.compile("torchvision:maskrcnn_resnet50_fpn", "out.maskrt", weights="w.pth")
    session = maskrt.load("out.maskrt", target="cpu")
    result = session.predict("street.jpg")
    report = maskrt.check("out.maskrt", images="val/", annotations="val.json")

Each verb of the command line is a function of the same name here, but for two: `maskrt export` is
`export_bundle`, and `maskrt demo` is `run_demo`. `maskrt.export` and `maskrt.demo` are folders, and
Python sets a folder's name on the package when something in it is imported.

The library prints nothing: it logs to the logger `maskrt`, silent until a program sets it up.

Importing `maskrt` imports nothing heavy: each name is loaded when it is first used.
"""

import importlib
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .catalogue import ModelFacts, TargetFacts, models, targets
    from .checking.accuracy import store_reference
    from .compiling.inlined import write_inlined
    from .compiling.recipe_edit import recipe, set_precisions
    from .core import Bundle, InputSpec, Instances, MaskrtError, Precision, Target
    from .demo.run import run_demo
    from .export.surgery import Examination
    from .inspection import Inspection, inspect
    from .measurement import check
    from .packaging.package import Package, package
    from .packaging.signature import Verification, sign, verify
    from .pipeline import build, calibrate, compile, export_bundle, load
    from .running.bench import Bench, bench
    from .running.bench_engines import Benches, bench_engines
    from .running.pictures import RunResult, run
    from .runtime import Frame, Session
    from .runtime.build import BuildOptions
    from .runtime.check import Report
    from .runtime.doctor import Diagnosis, doctor
    from .side_by_side import Comparison, report

__all__ = [
    "Bench",
    "Benches",
    "BuildOptions",
    "Bundle",
    "Comparison",
    "Diagnosis",
    "Examination",
    "Frame",
    "InputSpec",
    "Inspection",
    "Instances",
    "MaskrtError",
    "ModelFacts",
    "Package",
    "Precision",
    "Report",
    "RunResult",
    "Session",
    "Target",
    "TargetFacts",
    "Verification",
    "bench",
    "bench_engines",
    "build",
    "calibrate",
    "check",
    "compile",
    "doctor",
    "export_bundle",
    "inspect",
    "load",
    "models",
    "package",
    "recipe",
    "report",
    "run",
    "run_demo",
    "set_precisions",
    "sign",
    "store_reference",
    "targets",
    "verify",
    "write_inlined",
]
__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())

# Module → the public names that live there. No name may be that of a folder or file of `maskrt/`.
_NAMES_IN = {
    ".catalogue": "ModelFacts TargetFacts models targets",
    ".checking.accuracy": "store_reference",
    ".compiling.inlined": "write_inlined",
    ".compiling.recipe_edit": "recipe set_precisions",
    ".core": "Bundle InputSpec Instances MaskrtError Precision Target",
    ".demo.run": "run_demo",
    ".export.surgery": "Examination",
    ".inspection": "Inspection inspect",
    ".packaging.package": "Package package",
    ".packaging.signature": "Verification sign verify",
    ".measurement": "check",
    ".pipeline": "build calibrate compile export_bundle load",
    ".running.bench": "Bench bench",
    ".running.bench_engines": "Benches bench_engines",
    ".running.pictures": "RunResult run",
    ".runtime": "Frame Session",
    ".runtime.build": "BuildOptions",
    ".runtime.check": "Report",
    ".runtime.doctor": "Diagnosis doctor",
    ".side_by_side": "Comparison report",
}
_HOME_OF = {name: home for home, names in _NAMES_IN.items() for name in names.split()}

if not TYPE_CHECKING:  # a type checker would take any name at all

    def __getattr__(name: str) -> object:
        """Load a public name on first use (PEP 562)."""
        if name not in _HOME_OF:
            raise AttributeError(f"module 'maskrt' has no attribute {name!r}")
        return getattr(importlib.import_module(_HOME_OF[name], __name__), name)


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted([*globals(), *__all__])
