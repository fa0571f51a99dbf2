"""Files that take uint8, doubles or channels last, and files of opsets without a RoiAlign.

The graph that is made of one is held against two things: the file itself in ONNX Runtime, fed by
hand, and the graph that is made of the same network with a float picture, channels first.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from onnx import TensorProto
from onnx.defs import get_all_schemas_with_history, get_schema

from maskrt.checking.conversion import prove
from maskrt.core import UnsupportedModelError
from maskrt.export.surgery import OnnxExport, export_onnx
from maskrt.export.surgery.runnable import runnable

from .foreign import resized
from .one_pass_files import SIZE, detr_file, yolo11_file
from .picture_forms import as_double, taking

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]
_FLOAT, _UINT8, _DOUBLE = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.DOUBLE
_TYPES = {_FLOAT: np.float32, _UINT8: np.uint8, _DOUBLE: np.float64}
_FORMS: dict[str, tuple[int, bool]] = {
    "uint8": (_UINT8, False),
    "uint8, channels last": (_UINT8, True),
    "channels last": (_FLOAT, True),
    "doubles": (_DOUBLE, False),
    "doubles, channels last": (_DOUBLE, True),
}


def _made(model: onnx.ModelProto, folder: Path, name: str) -> tuple[OnnxExport, Path]:
    path = folder / f"{name}.onnx"
    onnx.save(model, str(path))
    return export_onnx(path), path


def _canonical(made: OnnxExport, picture: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(
        made.model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"images": picture[None]}), strict=True))


def _by_hand(path: Path, x: np.ndarray) -> list[Any]:
    """Run the file on numbers from 0 to 255 `[H, W, 3]`, divided by 255 unless it takes bytes."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (taken,) = session.get_inputs()
    x = x if taken.type == "tensor(uint8)" else x.astype(np.float32) / 255
    x = x if taken.shape[-1] == 3 else x.transpose(2, 0, 1)
    x = x if len(taken.shape) == 3 else x[None]
    kind = next(k for k in _TYPES.values() if taken.type == f"tensor({_word(k)})")
    return list(session.run(None, {taken.name: np.ascontiguousarray(x, kind)}))


def _word(kind: type) -> str:
    return {"float32": "float", "float64": "double"}.get(np.dtype(kind).name, np.dtype(kind).name)


def _photo(photos: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    return resized(photos, size)[0]


@pytest.mark.parametrize("form", _FORMS)
@pytest.mark.parametrize("network", [yolo11_file, detr_file], ids=["yolo", "detr"])
def test_one_pass_file(
    network: Callable[[], onnx.ModelProto],
    form: str,
    photos: list[np.ndarray],
    tmp_path: Path,
) -> None:
    kind, last = _FORMS[form]
    divided = (255.0,) if kind == _UINT8 else ()
    model = network()
    # A DETR's float picture is normalised before the file; this one only divides its bytes.
    bare = kind == _UINT8 and network is detr_file
    float_file = taking(model, _FLOAT, divided=(1.0,)) if bare else model
    plain, plain_path = _made(float_file, tmp_path, "plain")
    other, path = _made(taking(model, kind, last=last, divided=divided), tmp_path, "other")
    picture = _photo(photos, SIZE)
    for expected, found in zip(_by_hand(plain_path, picture), _by_hand(path, picture), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    expected, found = _canonical(plain, picture), _canonical(other, picture)
    assert int(expected["count"][0]) >= 5
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=2e-3, err_msg=name)
    proof = prove(other, [picture])
    assert proof["violations"] == []


@pytest.mark.parametrize("form", _FORMS)
def test_two_stage_file(
    form: str, graph: onnx.ModelProto, photos: list[np.ndarray], tmp_path: Path
) -> None:
    kind, last = _FORMS[form]
    divided = (255.0,) if kind == _UINT8 else ()
    made, path = _made(taking(graph, kind, last=last, divided=divided), tmp_path, "other")
    picture = _photo(photos, (64, 96))
    own = dict(zip([o.name for o in graph.graph.output], _by_hand(path, picture), strict=True))
    found = _canonical(made, picture)
    count = int(found["count"][0])
    scores = next(v for v in own.values() if v.ndim == 1 and v.dtype == np.float32)
    boxes = next(v for v in own.values() if v.ndim == 2)
    assert count == len(scores) >= 10
    np.testing.assert_allclose(found["scores"][0, :count], scores, atol=1e-4)
    np.testing.assert_allclose(found["boxes"][0, :count], boxes, atol=1e-2)
    assert prove(made, [picture])["violations"] == []


def test_bytes_that_are_not_divided_are_taken_as_they_are(
    photos: list[np.ndarray], tmp_path: Path
) -> None:
    """A Cast alone: the network reads 0 to 255, as with a float picture that is multiplied."""
    model = yolo11_file()
    scaled, _ = _made(taking(model, _FLOAT, divided=(1 / 255,)), tmp_path, "scaled")
    made, _ = _made(taking(model, _UINT8), tmp_path, "bytes")
    picture = _photo(photos, SIZE)
    expected, found = _canonical(scaled, picture), _canonical(made, picture)
    assert int(expected["count"][0]) >= 1
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-3)
    divided, _ = _made(taking(model, _UINT8, divided=(255.0,)), tmp_path, "divided")
    assert not np.allclose(_canonical(divided, picture)["scores"], found["scores"], atol=1e-2)


def test_a_network_of_doubles_is_computed_in_single_precision(
    photos: list[np.ndarray], tmp_path: Path
) -> None:
    """ONNX Runtime has no convolution of doubles, so the file is compared with in FP32, too."""
    plain, _ = _made(yolo11_file(), tmp_path, "plain")
    made, path = _made(as_double(yolo11_file()), tmp_path, "double")
    with pytest.raises(Exception, match="Conv"):
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    picture = _photo(photos, SIZE)
    expected, found = _canonical(plain, picture), _canonical(made, picture)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-3, err_msg=name)
    proof = prove(made, [picture])
    assert proof["violations"] == []
    assert "its FP64 weights computed in FP32" in made.reference.name  # type: ignore[union-attr]


def test_a_picture_of_another_type_is_refused(tmp_path: Path) -> None:
    model = yolo11_file()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING
    with pytest.raises(UnsupportedModelError, match=r"'images' is of the type STRING, .* uint8"):
        _made(model, tmp_path, "text")


@pytest.mark.parametrize("side", [0, -1])
def test_a_side_that_is_none_is_not_fixed(
    side: int, graph: onnx.ModelProto, tmp_path: Path
) -> None:
    graph.graph.input[0].type.tensor_type.shape.dim[1].dim_value = side
    with pytest.raises(UnsupportedModelError, match="size of its picture is not fixed"):
        _made(graph, tmp_path, "side")


@pytest.mark.parametrize("opset", [22, pytest.param(23, marks=pytest.mark.slow), 24])
def test_opset_without_a_kernel_for_roi_align(
    opset: int, graph: onnx.ModelProto, photos: list[np.ndarray], tmp_path: Path
) -> None:
    newer = onnx.version_converter.convert_version(graph, opset)
    newer.ir_version = 10
    made, path = _made(newer, tmp_path, "newer")
    with pytest.raises(Exception, match=r"RoiAlign\(22\)"):
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    proof = prove(made, [_photo(photos, (64, 96))])
    assert proof["violations"] == []
    assert proof["instances"] >= 10
    older, _ = _made(graph, tmp_path, "older")
    picture = _photo(photos, (64, 96))
    expected, found = _canonical(older, picture), _canonical(made, picture)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-4, err_msg=name)


_POOLED = """<ir_version: 10, opset_import: ["" : 24]>
g (float[1, 4, 8, 8] x, float[2, 4] b, int64[2] i) => (float[2, 4, 2, 2] y) {
  p = RoiAlign <output_height = 2, output_width = 2> (x, b, i)
  y = LAST (p)
}"""


@pytest.mark.parametrize(("last", "taken"), [
    ("Relu", True), ("Cast <to = 1>", True), ('Cast <to = 1, round_mode = "down">', False),
    ("Swish", False),
])  # fmt: skip
def test_only_what_opset_21_has_is_run_under_it(last: str, taken: bool) -> None:
    model = onnx.parser.parse_model(_POOLED.replace("LAST", last))
    if not taken:
        with pytest.raises(UnsupportedModelError, match=r"its \w+ '' is no operator of opset 21"):
            runnable(model, "a.onnx")
        return
    older = runnable(model, "a.onnx")
    assert older.opset_import[0].version == 21
    assert model.opset_import[0].version == 24
    onnxruntime.InferenceSession(older.SerializeToString(), providers=["CPUExecutionProvider"])


def test_opset_21_is_a_part_of_24() -> None:
    """What `runnable.py` goes by: whatever is in both has the same inputs and attributes."""
    own = {s.name for s in get_all_schemas_with_history() if not s.domain}
    shared = 0
    for name in sorted(own):
        try:
            old, new = (get_schema(name, opset, "") for opset in (21, 24))
        except onnx.defs.SchemaError:
            continue
        shared += 1
        for before, after in zip((old.inputs, old.outputs), (new.inputs, new.outputs), strict=True):
            listed = [[(p.name, p.option) for p in part] for part in (before, after)]
            assert listed[0] == listed[1], name
        for key, declared in old.attributes.items():
            now = new.attributes[key]
            assert (declared.type, declared.required, declared.default_value) == (
                now.type, now.required, now.default_value
            ), (name, key)  # fmt: skip
    assert shared > 150
