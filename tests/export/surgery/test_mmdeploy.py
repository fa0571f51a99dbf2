"""mmdeploy's structure for ONNX Runtime, restated and exported: the result finds what it finds."""

import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

torch = pytest.importorskip("torch")

from maskrt.cli import main  # noqa: E402
from maskrt.core import InputError, UnsupportedModelError, UsageError  # noqa: E402
from maskrt.core.operator_names import operator_of  # noqa: E402
from maskrt.export.surgery import Declined, examine, export_onnx  # noqa: E402
from maskrt.export.surgery.fold import fold  # noqa: E402
from maskrt.export.surgery.walk import compute  # noqa: E402

from .foreign import equals_original, lively_detector  # noqa: E402
from .restated_mmdeploy import MMDeployStyle  # noqa: E402
from .test_robust import CHANGES  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]
SIZE = (96, 128)
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def _pipeline(**changed: Any) -> str:
    """Return what mmdeploy writes with --dump-info, as far as it matters here."""
    step = {"type": "Normalize", "mean": MEAN, "std": STD, "to_rgb": True, **changed}
    steps = [{"type": "LoadImageFromFile"}, {"type": "Resize"}, step, {"type": "Pad"}]
    return json.dumps({"pipeline": {"tasks": [{"module": "Transform", "transforms": steps}]}})


def _export(
    photos: Sequence[np.ndarray], folder: Path, options: dict[str, Any], opset: int = 11,
    **style: Any,
) -> Path:  # fmt: skip
    """Write a small detector of mmdeploy's structure, and its pipeline beside it.

    Opset 11 is the one that mmdeploy's configurations have.
    """
    model, shown = lively_detector(photos, SIZE, **options)
    restated = MMDeployStyle(model, SIZE, **{"finest": 20, **style}).eval()
    picture = (shown[0].astype(np.float32) - MEAN) / STD
    given = torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1)[None]
    folder.mkdir(exist_ok=True)
    torch.onnx.export(
        restated, (given,), str(folder / "end2end.onnx"), dynamo=False, opset_version=opset,
        autograd_inlining=False,
    )  # fmt: skip
    (folder / "pipeline.json").write_text(_pipeline())
    return folder / "end2end.onnx"


@pytest.fixture(scope="module")
def plain(photos: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With masks, adaptive RoIAlign, and fewer proposals than there may be: one of zeros."""
    return _export(photos, tmp_path_factory.mktemp("mm"), {})


def test_equals_the_original(plain: Path, photos: list[np.ndarray]) -> None:
    """At opset 11, where boxes are moved before an unaligned RoiAlign."""
    pooling = [n for n in onnx.load(plain).graph.node if n.op_type == "RoiAlign"]
    assert not [a for n in pooling for a in n.attribute if a.name.startswith("coordinate")]
    assert {_maker(plain, n.input[1]).op_type for n in pooling} == {"Add"}
    model = equals_original(plain, photos)
    aligned = [a.i for n in model.graph.node for a in n.attribute if a.name == "aligned"]
    assert aligned == [1, 1]
    first, second = (n for n in model.graph.node if operator_of(n.op_type) == "BatchedNMS")
    assert {a.name: a.i for a in first.attribute}["class_agnostic"] == 1
    assert {a.name: a.i for a in second.attribute}["class_agnostic"] == 0
    assert not {n.op_type for n in model.graph.node} & {"NonZero", "If", "Range", "Shape"}


def _maker(path: Path, name: str) -> onnx.NodeProto:
    return next(n for n in onnx.load(path).graph.node if name in n.output)


@pytest.mark.parametrize(
    ("options", "style"),
    [
        ({}, {"opset": 17}),
        pytest.param({}, {"opset": 16, "masks": False}, marks=pytest.mark.slow),
        pytest.param(
            {"num_classes": 2}, {"masks": False, "ratio": 2, "rpn_score": 0.9},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"box_nms_thresh": 0.3, "rpn_post_nms_top_n_test": 40},
            {"rpn_score": 0.0, "aligned": False}, marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_other_parameters(
    photos: list[np.ndarray], tmp_path: Path, options: dict[str, Any], style: dict[str, Any]
) -> None:
    path = _export(photos, tmp_path, options, **style)
    equals_original(path, photos)


def test_form_does_not_matter(plain: Path, tmp_path: Path) -> None:
    graph, luck = onnx.load(plain), random.Random(0)
    for change in CHANGES:
        graph = change(graph, luck)
    onnx.save(graph, tmp_path / "end2end.onnx")
    (tmp_path / "pipeline.json").write_text(_pipeline())
    ours = export_onnx(tmp_path / "end2end.onnx").model
    assert ours.SerializeToString() == export_onnx(plain).model.SerializeToString()


def _without_maximum_of_one(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Do what onnxsim does to what the proposals are sorted by: a maximum over one class goes."""
    nodes = graph.graph.node
    greatest = next(n for n in nodes if n.op_type == "ReduceMax")
    squeeze = next(n for n in nodes if n.op_type == "Squeeze" and greatest.output[0] in n.input)
    readers = [n for n in nodes if greatest.output[0] in n.input and n is not squeeze]
    assert {n.op_type for n in readers} <= {"Shape"}
    for node in readers:  # that ask for the length that `Squeeze` gives too
        node.input[0] = greatest.input[0]
    squeeze.input[0] = greatest.input[0]
    squeeze.attribute[0].CopyFrom(onnx.helper.make_attribute("axes", [0, 2]))
    nodes.remove(greatest)
    return graph


@pytest.mark.parametrize(
    "how",
    ["as onnxsim", "external data", pytest.param("onnxslim", marks=pytest.mark.slow)],
)
def test_simplified(how: str, plain: Path, tmp_path: Path) -> None:
    graph, path = onnx.load(plain), tmp_path / "end2end.onnx"
    if how == "as onnxsim":
        graph = _without_maximum_of_one(graph)
    elif how == "onnxslim":
        graph = pytest.importorskip("onnxslim").slim(graph)
    outside = {"location": "weights.bin", "size_threshold": 0} if "data" in how else {}
    onnx.save(graph, path, save_as_external_data=bool(outside), **outside)
    (tmp_path / "pipeline.json").write_text(_pipeline())
    ours = export_onnx(path).model.SerializeToString()
    assert ours == export_onnx(plain).model.SerializeToString()


def test_normalisation_must_be_known(plain: Path, tmp_path: Path) -> None:
    """A wrong mean costs AP and raises nothing, so none is assumed, and all else is told."""
    (tmp_path / "end2end.onnx").write_bytes(plain.read_bytes())
    with pytest.raises(UsageError, match=r"no pipeline\.json beside it says how: give mean= and"):
        export_onnx(tmp_path / "end2end.onnx")
    found = examine(tmp_path / "end2end.onnx")
    rules = [finding.rule for finding in found.findings]
    assert rules == ["preprocessing", "pyramid", "pyramid", "proposals", "detections", "masks"]
    assert "how is not known" in found.findings[0].text
    assert not found.declined
    assert (found.normalised, examine(plain).normalised) == (False, True)


def test_normalisation_is_given(plain: Path, tmp_path: Path) -> None:
    bare = tmp_path / "end2end.onnx"
    bare.write_bytes(plain.read_bytes())
    given = export_onnx(bare, mean=MEAN, std=STD, channel_order="rgb")
    assert given.model.SerializeToString() == export_onnx(plain).model.SerializeToString()
    assert given.manifest.input == export_onnx(plain).manifest.input
    turned = export_onnx(bare, mean=MEAN[::-1], std=STD[::-1], channel_order="bgr")
    assert turned.manifest.input == given.manifest.input  # padded with the mean colour
    assert "Gather" in {n.op_type for n in turned.model.graph.node[:5]}
    (tmp_path / "pipeline.json").write_text(_pipeline(mean=[1.0, 2.0, 3.0]))
    again = export_onnx(bare, mean=MEAN, std=STD)
    assert again.model.SerializeToString() == given.model.SerializeToString()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"mean": MEAN}, "mean= and std= belong together"),
        ({"mean": MEAN, "std": [1.0, 0.0, 1.0]}, "three numbers above 0"),
        ({"mean": MEAN[:2], "std": STD}, "mean= is .* three numbers, one a channel"),
        ({"mean": [0.4] * 3, "std": [0.2] * 3}, "of pictures from 0 to 1.*255 times as much"),
        ({"mean": [np.nan] * 3, "std": STD}, "mean= is .*must be three numbers"),
        ({"channel_order": "gbr"}, "channel_order is 'gbr', and must be rgb or bgr"),
        ({"channel_order": "bgr"}, "give mean= and std="),
    ],
)
def test_normalisation_that_cannot_be_right(
    plain: Path, tmp_path: Path, given: dict[str, Any], sentence: str
) -> None:
    (tmp_path / "end2end.onnx").write_bytes(plain.read_bytes())
    with pytest.raises(UsageError, match=sentence):
        export_onnx(tmp_path / "end2end.onnx", **given)


def test_a_graph_that_normalises_itself(small: Path) -> None:
    """It is told nothing but in which order its channels are."""
    with pytest.raises(UsageError, match="normalises its pictures itself"):
        export_onnx(small, mean=MEAN, std=STD)
    plain, turned = export_onnx(small), export_onnx(small, channel_order="bgr")
    assert turned.manifest.input.pad_value == plain.manifest.input.pad_value[::-1]


def test_commands_name_the_options(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "end2end.onnx").write_bytes(plain.read_bytes())
    words = ["export", str(tmp_path / "end2end.onnx"), "-o", str(tmp_path / "x.maskrt")]
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 2
    assert "give --mean and --std of pictures" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(SystemExit):
        main(["inspect", str(tmp_path / "end2end.onnx")])
    assert "--mean A B C --std A B C" in capsys.readouterr().out
    numbers = [["--mean", *map(str, MEAN)], ["--std", *map(str, STD)], ["--channel-order", "rgb"]]
    with pytest.raises(SystemExit) as left:
        main([*words, *(word for option in numbers for word in option)])
    assert not left.value.code
    with pytest.raises(SystemExit) as left:
        main(["export", "maskrt:solo", "-o", str(tmp_path / "y.maskrt"), *numbers[0]])
    assert left.value.code == 2
    assert "--mean says how pictures are normalised for an ONNX file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ([2, 3, 96, 128], "takes 2 pictures a call"),
        (["batch", 3, 96, 128], "takes any number of pictures a call"),
        ([1, 3, "height", "width"], r"its input is \[1, 3, \?, \?\]"),
    ],
)
def test_other_inputs_are_refused(
    plain: Path, tmp_path: Path, shape: list[Any], sentence: str
) -> None:
    graph = onnx.load(plain)
    old = graph.graph.input[0]
    old.CopyFrom(onnx.helper.make_tensor_value_info(old.name, onnx.TensorProto.FLOAT, shape))
    onnx.save(graph, tmp_path / "end2end.onnx")
    with pytest.raises(UnsupportedModelError, match=sentence):
        export_onnx(tmp_path / "end2end.onnx", mean=MEAN, std=STD)


def test_pasting_is_refused_with_its_remedy(plain: Path, tmp_path: Path) -> None:
    graph = onnx.load(plain)
    graph.graph.node[-1].op_type, graph.graph.node[-1].domain = "grid_sampler", "mmdeploy"
    graph.opset_import.append(onnx.helper.make_opsetid("mmdeploy", 1))
    onnx.save(graph, tmp_path / "end2end.onnx")
    with pytest.raises(UnsupportedModelError, match="export_postprocess_mask=False"):
        export_onnx(tmp_path / "end2end.onnx", mean=MEAN, std=STD)


def test_channel_order_is_read(plain: Path, tmp_path: Path, photos: list[np.ndarray]) -> None:
    (tmp_path / "end2end.onnx").write_bytes(plain.read_bytes())
    (tmp_path / "pipeline.json").write_text(_pipeline(to_rgb=False))
    (first, *_) = examine(tmp_path / "end2end.onnx").findings
    assert "blue, green, red" in first.text
    model = equals_original(tmp_path / "end2end.onnx", photos)
    assert model.SerializeToString() != export_onnx(plain).model.SerializeToString()


@pytest.mark.parametrize("text", ["{", "[]", _pipeline(mean=[1.0]), _pipeline(std=[0.0] * 3)])
def test_damaged_pipeline_is_refused(plain: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "end2end.onnx").write_bytes(plain.read_bytes())
    (tmp_path / "pipeline.json").write_text(text)
    with pytest.raises(InputError, match="does not say how pictures are normalised"):
        export_onnx(tmp_path / "end2end.onnx")


def _constants(graph: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    found = {n.output[0]: n.attribute[0].t for n in graph.graph.node if n.op_type == "Constant"}
    return {**found, **{t.name: t for t in graph.graph.initializer}}


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        (2, np.array(5), "keeps 5 of a class at most, and 30 of all"),
        (0, None, "suppression.*(only the best|also depends|do not become)"),
    ],
)
def test_near_misses(
    plain: Path, tmp_path: Path, place: int, value: np.ndarray | None, reason: str
) -> None:
    graph = onnx.load(plain)
    last = [n for n in graph.graph.node if n.op_type == "NonMaxSuppression"][-1]
    if value is not None:
        _constants(graph)[last.input[place]].CopyFrom(onnx.numpy_helper.from_array(value))
    else:  # the labels become the numbers of the boxes
        columns = [n for n in graph.graph.node if n.op_type == "Gather"
                   and n.input[0] == last.output[0]]  # fmt: skip
        columns[0].input[1], columns[1].input[1] = columns[1].input[1], columns[0].input[1]
    onnx.save(graph, tmp_path / "end2end.onnx")
    (tmp_path / "pipeline.json").write_text(_pipeline())
    first, *_ = examine(tmp_path / "end2end.onnx").declined
    assert re.search(reason, str(first)), str(first)


def test_boxes_moved_otherwise(plain: Path, tmp_path: Path) -> None:
    graph = onnx.load(plain)
    pooling = next(n for n in graph.graph.node if n.op_type == "RoiAlign")
    move = next(n for n in graph.graph.node if pooling.input[1] in n.output)
    third = onnx.numpy_helper.from_array(np.float32([-1.0]))
    _constants(graph)[move.input[1]].CopyFrom(third)
    onnx.save(graph, tmp_path / "end2end.onnx")
    first, *_ = examine(tmp_path / "end2end.onnx").declined
    assert re.search("pyramid declined at Add .*moved by -1 pixels", str(first)), str(first)


def test_what_a_search_strayed_to_is_named() -> None:
    """The node where it left the piece, and not the picture far behind."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 4] picture, float[4] boxes) => (float y) {
        [first] a = Relu (picture)
        [second] b = Exp (a)
        [third] c = Neg (boxes)
        [fourth] y = Add (c, b) }"""
    graph = fold(onnx.parser.parse_model(text))
    with pytest.raises(Declined, match="at Add 'fourth': it also depends on what Exp 'second'"):
        compute(graph, "rule", graph.outputs[0], {"boxes": np.zeros(4, np.float32)})
