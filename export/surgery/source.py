"""A file as the rules are handed it: FP32, one picture a call, with the outputs that matter."""

from dataclasses import dataclass
from pathlib import Path

import onnx

from ...core import UsageError
from .hints import Hints, hints_of
from .one_pass import FORMS
from .onnx_file import load_onnx
from .picture_input import channels_first, picture_input
from .quantised import check_not_quantised
from .single_precision import in_float32, other_precision, precision_words

__all__ = ["Source", "load_source"]

_FOR_BOXES = ("RoiAlign", "MaxRoiPool", "NonMaxSuppression")


@dataclass(frozen=True)
class Source:
    """A file.

    Attributes:
        model: FP32, for one picture.
        nodes: how many the file has.
        hints: what it says of itself.
        precision: what it computes in, "FP16" or "FP64"; "" for FP32.
        outputs: a form of `FORMS` and the tensors that it names, if they are declared.
        free: the input that takes any number of pictures; "" if the file is for one.
    """

    model: onnx.ModelProto
    nodes: int
    hints: Hints
    precision: str
    outputs: tuple[str, ...] = ()
    free: str = ""

    def of_pictures(self, batch: int) -> onnx.ModelProto:
        """Return the model for `batch` pictures a call; the file has to take any number."""
        return _with_pictures(self.model, self.free, batch)


def load_source(path: Path | str, outputs: str | None = None) -> Source:
    """Read the file `path`.

    Args:
        path: the file.
        outputs: see `export_onnx`.

    Raises:
        InputError, UnsupportedModelError: see `load_onnx`.
        UsageError: `outputs` names no form, or tensors that the file has not.
    """
    model = load_onnx(path)
    check_not_quantised(model, path)
    nodes = len(model.graph.node)
    hints, kind = hints_of(model), other_precision(model)
    model = in_float32(model, kind) if kind else model
    taken = picture_input(model)
    model = model if taken is None else channels_first(model, taken)
    domains = {node.domain for node in model.graph.node}
    pooled = any(node.op_type in _FOR_BOXES for node in model.graph.node)
    free = "" if pooled or not domains <= {"", "ai.onnx"} else _free_input(model)
    model = _with_pictures(model, free, 1) if free else model
    declared = () if outputs is None else _declared(outputs, model, Path(path))
    if declared:
        del model.graph.output[:]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in declared[1:])
    return Source(model, nodes, hints, precision_words(kind), declared, free)


def _declared(outputs: str, model: onnx.ModelProto, path: Path) -> tuple[str, ...]:
    """Return the form and the tensors of `FORM=NAME,NAME…`, or of `FORM` in the file's order."""
    form, _, listed = outputs.partition("=")
    if form not in FORMS:
        raise UsageError(
            f"outputs is {outputs!r}, and must start with {' or '.join(FORMS)}, as in "
            "yolo-seg=PREDICTIONS,PROTOTYPES."
        )
    parts = FORMS[form]
    names = listed.split(",") if listed else [output.name for output in model.graph.output]
    if len(names) != len(parts):
        raise UsageError(
            f"outputs {form} takes {len(parts)} tensors ({', '.join(parts)}), and "
            f"{len(names)} are given: name them as {form}={','.join(parts).upper()}."
        )
    made = {name for node in model.graph.node for name in node.output}
    for name in names:
        if name not in made:
            raise UsageError(
                f"outputs names {name!r}, and no node of {path} makes such a tensor: give names "
                "as a viewer of ONNX files shows them."
            )
    return (form, *names)


def _free_input(model: onnx.ModelProto) -> str:
    """Return the one input that takes any number of pictures; "" if there is none, or several."""
    taken = [i for i in model.graph.input if len(i.type.tensor_type.shape.dim) == 4]
    free = [i for i in taken if not i.type.tensor_type.shape.dim[0].HasField("dim_value")]
    return str(free[0].name) if len(free) == 1 else ""


def _with_pictures(model: onnx.ModelProto, free: str, batch: int) -> onnx.ModelProto:
    """Return `model` for `batch` pictures a call of its input `free`."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    del fixed.graph.value_info[:]
    for info in fixed.graph.input:
        if info.name == free:
            info.type.tensor_type.shape.dim[0].dim_value = batch
    return fixed
