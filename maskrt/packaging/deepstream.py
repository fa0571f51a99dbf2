"""A folder for DeepStream: a graph, a configuration and a parser for its element `nvinfer`.

    <folder>/model.onnx                 nvinfer's input and outputs; TensorRT 10 and later builds it
    <folder>/config_infer_primary.txt   for `config-file-path` of nvinfer
    <folder>/labels.txt                 a class name a line, background first
    <folder>/nvdsinfer_maskrt.cpp       nvinfer's custom parser for these outputs, and its Makefile
    <folder>/README.md                  the commands, and what differs from `Session`

nvinfer has no parser for these outputs, so it needs the one that lies in the folder. Masks over the
canvas (SOLO, YOLACT, CondInst) are laid over boxes in the graph. The engine is built by `trtexec
--stronglyTyped`, not by nvinfer, which would choose precisions of its own; so the configuration
names no `onnx-file`, and nvinfer says so if the engine is missing.

Source: "Gst-nvinfer File Configuration Specifications" in the DeepStream developer guide, and
gstnvinfer_property_parser.h. Tested with the parser compiled here; has not run in DeepStream.
"""

from pathlib import Path

from ..core import (
    FILLING,
    Bundle,
    Placing,
    Precision,
    Target,
    UnsupportedModelError,
    UnsupportedTargetError,
)
from ..core.folders import check_free, new_folder
from ..core.jetpack import TRTEXEC
from ..core.masks import MaskFrame, MaskPaste
from ..core.words import lines_of

__all__ = ["PARSER", "package_deepstream"]

PARSER = "NvDsInferParseMaskrt"
_LIBRARY = "libnvdsinfer_maskrt.so"
_SOURCE = "nvdsinfer_maskrt.cpp"
_NETWORK_MODES = {  # 3 is "best": nvinfer has no word for the others, and builds nothing here
    Precision.FP32: 0, Precision.INT8: 1, Precision.FP16: 2, Precision.MIXED: 1,
    Precision.BF16: 3, Precision.FP8: 3,
}  # fmt: skip
_PASTES = {  # what a session does instead of nvinfer's stretching
    MaskPaste.TORCHVISION: "torchvision's rule, which maskrt follows for\n  this model, rounds the "
    "box outwards to whole pixels first",
    MaskPaste.DETECTRON2: "detectron2's rule, which maskrt follows for\n  this model, samples it "
    "at the centres of the pixels",
}
_FIRST = (10, 0)  # TensorRT whose networks are strongly typed


def package_deepstream(
    bundle: Bundle | Path | str,
    folder: Path | str,
    *,
    target: Target | str = "gpu",
    precision: Precision | str | None = None,
    min_score: float = 0.5,
) -> Path:
    """Write what DeepStream needs to run a bundle's model in `nvinfer`.

    Args:
        bundle: holds the canonical graph and a recipe; no engine is needed.
        folder: must not exist.
        target: one whose engines TensorRT 10 or later builds.
        precision: None is the bundle's own.
        min_score: instances below it are left out; `pre-cluster-threshold` in the configuration.

    Returns:
        The folder.

    Raises:
        UsageError: the folder exists.
        UnsupportedTargetError: another kind of target, or one without that arithmetic.
        UnsupportedModelError: nvinfer cannot show what the model finds, or give it its batch.
    """
    from .. import calib
    from ..calib.bundled import read_model, read_recipe
    from ..runtime.build.nvinfer_graph import nvinfer_graph

    opened, place, into = Bundle.open(bundle), Target.parse(target), Path(folder)
    _check_target(place)
    names = _class_names(opened)
    _check_batch(opened)
    check_free(into, "folder")
    wanted = opened.manifest.precision if precision is None else Precision.parse(precision)
    place.check_computes(wanted)
    recipe = read_recipe(opened, wanted)
    rendered = calib.render(read_model(opened), recipe, calib.Style.TENSORRT)
    model = nvinfer_graph(rendered, place, opened.manifest.mask_frame)
    texts = {
        "config_infer_primary.txt": _configuration(opened, wanted, len(names), min_score),
        "labels.txt": lines_of(names),
        _SOURCE: Path(__file__).with_name(_SOURCE).read_text(encoding="utf-8"),
        "Makefile": _makefile(),
        "README.md": _readme(
            opened, wanted, any(t.name == FILLING for t in model.graph.initializer)
        ),
    }
    with new_folder(into, "folder") as staged:
        (staged / "model.onnx").write_bytes(model.SerializeToString())
        for name, text in texts.items():
            (staged / name).write_text(text, encoding="utf-8")
    return into


def _check_target(target: Target) -> None:
    packs = target.jetpacks
    if target.backend != "tensorrt" or (packs and all(p.tensorrt < _FIRST for p in packs)):
        raise UnsupportedTargetError(
            f"DeepStream gets an engine that TensorRT 10 or later builds, and target {target.name} "
            "has none: package for target gpu, orin-nano, orin-nx, agx-orin or thor."
        )


def _class_names(bundle: Bundle) -> tuple[str, ...]:
    """Return the class names of a model that nvinfer can show."""
    manifest = bundle.manifest
    if "masks" not in manifest.outputs:
        raise UnsupportedModelError(
            f"{bundle.path} has no masks, and the parser for DeepStream is one of instance masks: "
            "run it with maskrt run or package it for Triton."
        )
    if manifest.class_names is None:
        raise UnsupportedModelError(
            f"{bundle.path} has no class names, and nvinfer wants to know how many classes there "
            "are: compile the model with --class-names."
        )
    return tuple(manifest.class_names)


def _check_batch(bundle: Bundle) -> None:
    """Refuse a batch of several pictures: at a source's end nvinfer has fewer, and no shape for it.

    nvinfer then asks an engine of static shapes for a batch that it does not have, and stops.
    """
    batch = bundle.manifest.input.batch
    if batch != 1:
        raise UnsupportedModelError(
            f"{bundle.path} computes {batch} pictures a call, and nvinfer stops as soon as its "
            "sources give it fewer: compile the model with --batch 1, which nvinfer calls once a "
            "picture."
        )


def _configuration(bundle: Bundle, precision: Precision, classes: int, min_score: float) -> str:
    spec = bundle.manifest.input
    properties = {
        "gpu-id": 0,
        "gie-unique-id": 1,
        "process-mode": 1,  # whole frames
        "interval": 0,
        "batch-size": spec.batch,
        "model-engine-file": "model.engine",
        "network-mode": _NETWORK_MODES[precision],
        "labelfile-path": "labels.txt",
        "num-detected-classes": classes,
        "infer-dims": f"3;{spec.height};{spec.width}",
        "network-input-order": 0,  # NCHW
        "model-color-format": 0,  # RGB
        "net-scale-factor": 1.0,  # the graph normalises
        "maintain-aspect-ratio": int(spec.placing is not Placing.SQUASH),
        "symmetric-padding": int(spec.placing is Placing.CENTRE),
        "scaling-filter": 1,  # bilinear
        "network-type": 3,  # instance segmentation
        "cluster-mode": 4,  # none: NMS is in the graph
        "output-instance-mask": 1,
        "segmentation-threshold": 0.5,
        "custom-lib-path": _LIBRARY,
        "parse-bbox-instance-mask-func-name": PARSER,
    }
    lines = [f"{key}={value}" for key, value in properties.items()]
    classes_of = ["[class-attrs-all]", f"pre-cluster-threshold={min_score:g}", "topk=-1"]
    return "\n".join(["[property]", *lines, "", *classes_of]) + "\n"


def _makefile() -> str:
    return (
        "DEEPSTREAM ?= /opt/nvidia/deepstream/deepstream\n"
        "CUDA ?= /usr/local/cuda\n\n"
        f"{_LIBRARY}: {_SOURCE}\n"
        "\t$(CXX) -std=c++17 -O2 -Wall -shared -fPIC -I$(DEEPSTREAM)/sources/includes "
        "-I$(CUDA)/include -o $@ $<\n"
    )


def _readme(bundle: Bundle, precision: Precision, reads_end: bool) -> str:
    return f"""# {bundle.path.stem} at {precision.value} for DeepStream

On the device, in this folder (DeepStream 7.1 or later, which has TensorRT 10):

    {TRTEXEC} --onnx=model.onnx --saveEngine=model.engine --stronglyTyped
    make
    … ! nvinfer config-file-path=$PWD/config_infer_primary.txt ! nvdsosd display-mask=1 ! …

nvinfer has no parser of its own for these outputs: `make` compiles the one that it needs from
`nvdsinfer_maskrt.cpp`. None of this has run in DeepStream yet; the parser was compiled and tested
against nvinfer's published structures.

What differs from maskrt's own `Session`:

{_about_filling(bundle, reads_end)}
- nvinfer scales pictures in its own way. A picture as large as the network's input is left as it is
  by both.
{_about_masks(bundle)}"""


def _about_masks(bundle: Bundle) -> str:
    from ..runtime.build.canvas_to_boxes import SIDE

    if bundle.manifest.mask_frame is MaskFrame.BOX:
        rule = _PASTES[bundle.manifest.mask_paste]
        return f"""- nvinfer stretches each mask over its box, and {rule}:
  outlines differ by up to a pixel.
"""
    return f"""- This model's masks cover the whole picture. Here each is cut at its box and sampled
  at {SIDE} x {SIDE} points of it: what lies outside the box is lost, finer outlines are blurred.
"""


def _about_filling(bundle: Bundle, reads_end: bool) -> str:
    red, green, blue = bundle.manifest.input.pad_value
    beside = f"""- nvinfer fills the canvas beside a picture of another shape with black, and maskrt
  with {red}, {green}, {blue}"""
    if reads_end:
        return f"""{beside}. The graph in this folder takes black for the filling: it ends pictures
  there, and finds what maskrt finds. A frame whose own last rows or columns are all black (0, 0, 0)
  ends before them, and they count as filling."""
    return f"""{beside}, so scores near such an edge differ a little.
- Boxes on the filling alone are not dropped, because a parser does not know the frame's size."""
