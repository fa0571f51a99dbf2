"""`maskrt doctor`: what is installed, what it is for, and what this machine can do."""

import importlib.metadata
import platform

import click
from rich.table import Table

from .options import console

__all__ = ["command"]

_PACKAGES = (
    ("numpy", "everything"),
    ("onnx", "everything"),
    ("torch", "compile: export of PyTorch models"),
    ("torchvision", "compile: its detectors"),
    ("onnxscript", "compile: export of PyTorch models"),
    ("safetensors", "compile: .safetensors weights"),
    ("onnxruntime", "target cpu, calibration"),
    ("tensorrt-rtx", "targets rtx and rtx-SM"),
    ("cuda-bindings", "running on target rtx"),
    ("pycocotools", "check, run"),
    ("scikit-image", "demo"),
    ("opencv-python-headless", "demo"),
)


@click.command("doctor")
def command() -> None:
    """Show what is installed and what this machine can do."""
    from .. import __version__
    from ..runtime.cuda_device import compute_capabilities

    screen = console()
    screen.print(f"maskrt {__version__}, Python {platform.python_version()}, {platform.machine()}")
    table = Table(box=None, padding=(0, 2), header_style="bold")
    for heading in ("package", "version", "needed for"):
        table.add_column(heading)
    for package, purpose in _PACKAGES:
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            version = "not installed"
        table.add_row(package, version, purpose)
    screen.print(table)
    found = ", ".join(f"SM {sm // 10}.{sm % 10}" for sm in compute_capabilities())
    screen.print(f"CUDA devices: {found or 'none, so rtx engines can be built here but not run'}")
