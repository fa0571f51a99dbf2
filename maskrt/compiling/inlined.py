"""The canonical graph as one plain ONNX file, for programs that read no local functions.

The bodies of all functions stand in the place of their nodes: standard operators alone, the same
inputs and outputs, and in ONNX Runtime the same numbers to the bit. With a precision, it is the
graph that a builder for TensorRT is given: INT8 as explicit symmetric Q/DQ, which OpenVINO takes
for integer kernels, too.
"""

from errno import ENOENT
from os import strerror
from pathlib import Path

import onnx

from .. import calib
from ..calib.bundled import read_model, read_recipe
from ..core import Bundle, Precision, StorageError, UsageError
from ..core.bundle import RECIPE
from ..core.whole_file import whole_file
from ..plugins import inline

__all__ = ["write_inlined"]


def write_inlined(
    bundle: Bundle | Path | str,
    file: Path | str,
    *,
    precision: Precision | str = Precision.FP32,
) -> Path:
    """Write a bundle's graph to an ONNX file that holds standard operators alone.

    Args:
        bundle: the bundle; it is not changed.
        file: where to; a file there is replaced.
        precision: `"fp32"` is the canonical graph, `"int8"`, `"mixed"` and `"fp16"` the recipe's.

    Returns:
        The file.

    Raises:
        UsageError: the bundle was not calibrated for that precision, or ONNX's operators do not
            take it.
        StorageError: the file cannot be written.
    """
    opened, wanted, place = Bundle.open(bundle), Precision.parse(precision), Path(file)
    if wanted in (Precision.BF16, Precision.FP8):
        raise UsageError(
            f"an ONNX file at {wanted} is for TensorRT alone: build an engine of that precision."
        )
    model = read_model(opened)
    if wanted is not Precision.FP32:
        if RECIPE not in opened:
            raise UsageError(f"{opened.path} has no recipe: run maskrt calibrate first.")
        model = calib.render(model, read_recipe(opened, wanted), calib.Style.TENSORRT)
    plain = inline(model)
    plain.producer_name = "maskrt"
    try:
        if not place.parent.is_dir():
            raise FileNotFoundError(ENOENT, strerror(ENOENT))
        with whole_file(place) as written:
            written.write_bytes(plain.SerializeToString())
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(
            f"cannot write {place} ({error.strerror or error}): name a file in a folder that "
            "exists and that you may write to."
        ) from error
    onnx.checker.check_model(plain)
    return place
