"""From a path to an ONNX model with its external data, or a sentence about what is wrong."""

import math
from collections.abc import Iterable
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from ...core import InputError, UnsupportedModelError, UsageError, command
from ...core.bundle import MANIFEST
from ...core.graph_size import check_graph_size
from ...plugins import DOMAIN
from .external_weights import check_external_weights
from .well_formed import malformed

__all__ = ["load_onnx"]

_OLDEST, _NEWEST = 11, 24


def load_onnx(path: Path | str) -> onnx.ModelProto:
    """Return the model in the file `path`.

    Raises:
        InputError: no such file, not ONNX, or its external data is missing or cut short.
        UnsupportedModelError: an opset that surgery does not know, or too many weights.
        UsageError: the graph is one that maskrt wrote.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{file} does not exist: give the path of an ONNX file.")
    if not file.stat().st_size:
        raise InputError(
            f"{file} is empty: the export that should have written it failed; export again, and "
            "with torch.onnx.export name dynamo=False, as its default fails on two-stage detectors."
        )
    check_graph_size(file.stat().st_size, str(file))
    try:
        model = onnx.load(str(file), load_external_data=False)
        elsewhere = [t for t in model.graph.initializer if t.data_location == t.EXTERNAL]
        check_graph_size(_weight_bytes(elsewhere), str(file))
        check_external_weights(model, file)
        onnx.load_external_data_for_model(model, str(file.parent))
    except InputError:
        raise
    except (FileNotFoundError, onnx.checker.ValidationError) as error:
        raise InputError(
            f"{file} keeps its weights in another file, which cannot be read "
            f"({' '.join(str(error).split())}): put that file beside it, under the same name."
        ) from error
    except (DecodeError, ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is damaged or no ONNX file: copy or export it again.") from error
    if not model.graph.node:
        raise InputError(f"{file} is damaged or no ONNX file: it holds no graph.")
    if model.producer_name == "maskrt" or any(o.domain == DOMAIN for o in model.opset_import):
        raise UsageError(_ours(file))
    version = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if not _OLDEST <= version <= _NEWEST:
        raise UnsupportedModelError(
            f"{file} has opset {version}, and surgery reads {_OLDEST} to {_NEWEST}: export it anew "
            "with opset_version=17."
        )
    if (wrong := malformed(model)) is not None:
        raise InputError(f"{file} is damaged ({wrong}): copy or export it again.")
    check_graph_size(_weight_bytes(model.graph.initializer), str(file))
    return model


def _weight_bytes(tensors: Iterable[onnx.TensorProto]) -> int:
    """Return what tensors take at FP32, by their shapes."""
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    return sum(max(0, 4 * math.prod(t.dims)) for t in tensors if t.data_type in floats)


def _ours(file: Path) -> str:
    """Say that `file` needs no surgery, and what to do with the bundle that it lies in."""
    bundle = next((folder for folder in file.parents if (folder / MANIFEST).is_file()), None)
    if bundle is None:
        remedy = "name the bundle that it came from"
    else:
        remedy = (
            f"see it with {command('maskrt', 'inspect', bundle)}, or build from it with "
            f"{command('maskrt', 'build', bundle, '--target', 'TARGET')}"
        )
    return f"{file} is a graph that maskrt wrote, which needs no surgery: {remedy}."
