"""An engine as a model of a Triton Inference Server model repository.

    <repository>/<model>/config.pbtxt        inputs, outputs, backend
    <repository>/<model>/labels.txt          class names, if they are known
    <repository>/<model>/1/model.onnx        for Triton's backend `onnxruntime` (target cpu), or
    <repository>/<model>/1/model.plan        for its backend `tensorrt`

The server takes what `Session.run` takes, letterboxed pictures, and gives what it gives: masks are
for the client to paste, and the parameters `mask_frame` and `mask_paste` say how; `pad_value` is
what the canvas is filled with, by which the graph sees where its picture ends. Shapes are static
and the batch is one of them, so `max_batch_size` is 0, with which Triton reads `dims` as whole
shapes.

Source: `ModelConfig` in triton-inference-server/common, protobuf/model_config.proto.
"""

import json
import re
from pathlib import Path

from ..core import Bundle, Precision, Target, UnsupportedTargetError, UsageError
from ..core.folders import check_free, new_folder
from ..core.masks import MaskFrame
from ..core.words import command, lines_of
from ..runtime.backends.fits import check_files
from ..runtime.trust import Trust, check_trusted

__all__ = ["package_triton", "triton_command"]

_TYPES = {"images": "TYPE_UINT8", "labels": "TYPE_INT32", "count": "TYPE_INT32"}
_FILES = {"onnxruntime": ("engine.onnx", "model.onnx"), "tensorrt": ("engine.trt", "model.plan")}
_KINDS = {"onnxruntime": "KIND_CPU", "tensorrt": "KIND_GPU"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def package_triton(
    bundle: Bundle | Path | str,
    repository: Path | str,
    *,
    target: Target | str = "cpu",
    precision: Precision | str | None = None,
    name: str | None = None,
    trust: Trust = False,
) -> Path:
    """Write an engine into a Triton model repository.

    Args:
        bundle: holds the engine.
        repository: the folder that `tritonserver --model-repository` gets.
        target: `"cpu"`, or one whose engine TensorRT made.
        precision: None is the bundle's own.
        name: of the model; None is the bundle's, without its ending.
        trust: as in `maskrt.load`, of an engine that the server is to run.

    Returns:
        The model's folder.

    Raises:
        UsageError: the name is not one for a folder, or is taken in the repository.
        UnsupportedTargetError: Triton has no backend for the engine.
        BundleError: the bundle has no such engine, or one that is not of its graph and recipe, or
            without weights.
        UntrustedError: the engine is machine code that was not built here, and is not trusted.
    """
    opened, place, wanted = _which(bundle, target, precision)
    model = opened.path.stem if name is None else name
    if not _NAME.fullmatch(model):
        raise UsageError(f"{model!r} is no name for a model: use letters, digits, _ . and -.")
    folder = Path(repository) / model
    check_free(folder, "model")
    source, file = _files(opened, place, wanted)
    check_trusted(opened, place, wanted, trust)
    content = opened.read(source)
    names = opened.manifest.class_names
    config = _config(opened, model, place.backend, has_labels=names is not None)
    with new_folder(folder, "model") as staged:
        (staged / "1").mkdir()
        (staged / "1" / file).write_bytes(content)
        if names is not None:
            (staged / "labels.txt").write_text(lines_of(names), encoding="utf-8")
        (staged / "config.pbtxt").write_text(config, encoding="utf-8")
    return folder


def triton_command(
    bundle: Bundle | Path | str,
    repository: Path | str,
    *,
    target: Target | str = "cpu",
    precision: Precision | str | None = None,
) -> str:
    """Return the command that serves what `package_triton` wrote, for these arguments.

    Triton loads a version-compatible engine, which brings code of its own, only where it is told to
    trust it (tensorrt_backend's README, "Command-line Options").
    """
    opened, place, wanted = _which(bundle, target, precision)
    info = opened.read_json(f"{opened.engine_folder(place, wanted)}/engine.json")
    portable = (info.get("options") or {}).get("version_compatible")
    trust = ("--backend-config=tensorrt,version-compatible=true",) if portable else ()
    return command("tritonserver", "--model-repository", repository, *trust)


def _which(
    bundle: Bundle | Path | str, target: Target | str, precision: Precision | str | None
) -> tuple[Bundle, Target, Precision]:
    opened = Bundle.open(bundle)
    wanted = opened.manifest.precision if precision is None else Precision.parse(precision)
    return opened, Target.parse(target), wanted


def _files(bundle: Bundle, target: Target, precision: Precision) -> tuple[str, str]:
    """Return the engine's file in the bundle, and its name in the repository."""
    if target.backend not in _FILES:
        raise UnsupportedTargetError(
            f"Triton has no backend for {target.backend} engines: package target cpu, or one that "
            "TensorRT builds."
        )
    folder = bundle.engine_folder(target, precision)
    engine, file = _FILES[target.backend]
    info = check_files(bundle, target, precision)
    if target.backend == "tensorrt" and info.get("form") == "plugins":
        raise UnsupportedTargetError(
            f"the engine for target {target.name} needs maskrt's Python plugins, which Triton does "
            "not load: build it with TensorRT 10.9 or later, whose engines carry their kernels."
        )
    return f"{folder}/{engine}", file


def _config(bundle: Bundle, model: str, backend: str, *, has_labels: bool) -> str:
    """Return `config.pbtxt`, protobuf's text format of `ModelConfig`."""
    manifest = bundle.manifest
    outputs = [
        _tensor(name, shape, label_file=has_labels and name == "labels")
        for name, shape in manifest.outputs.items()
    ]
    picture = _tensor("images", manifest.input.shape, label_file=False)
    return (
        f"name: {json.dumps(model)}\nbackend: {json.dumps(backend)}\nmax_batch_size: 0\n"
        f"input [\n{picture}\n]\noutput [\n" + ",\n".join(outputs) + "\n]\n"
        f"instance_group [\n  {{ count: 1 kind: {_KINDS[backend]} }}\n]\n"
        + "".join(f"{parameter}\n" for parameter in _parameters(bundle))
    )


def _parameters(bundle: Bundle) -> list[str]:
    """Return what a client has to know: the manifest's words. The backends skip them."""
    manifest = bundle.manifest
    said = {"pad_value": " ".join(map(str, manifest.input.pad_value))}
    if not manifest.input.is_plain:
        said["placing"] = manifest.input.placing.value
        said["resampling"] = manifest.input.resampling.value
    if "masks" in manifest.outputs:
        said["mask_frame"] = manifest.mask_frame.value
        if manifest.mask_frame is MaskFrame.BOX:
            said["mask_paste"] = manifest.mask_paste.value
    return [
        f"parameters {{ key: {json.dumps(key)} value {{ string_value: {json.dumps(value)} }} }}"
        for key, value in said.items()
    ]


def _tensor(name: str, shape: tuple[int, ...], *, label_file: bool) -> str:
    dims = ", ".join(map(str, shape))
    kind = _TYPES.get(name, "TYPE_FP32")
    labels = ' label_filename: "labels.txt"' if label_file else ""
    return f"  {{ name: {json.dumps(name)} data_type: {kind} dims: [ {dims} ]{labels} }}"
