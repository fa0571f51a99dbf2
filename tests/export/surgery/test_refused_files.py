"""Files refused from the start: damaged, incomplete, of an old opset, or no whole detector."""

from pathlib import Path

import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper

from maskrt.core import InputError, MaskrtError, UnsupportedModelError
from maskrt.export.surgery import export_onnx

from .graph_edits import nodes

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


def test_broken_graph(graph: onnx.ModelProto, tmp_path: Path) -> None:
    nodes(graph, "Relu")[0].input[0] = "nowhere"
    onnx.save(graph, tmp_path / "near.onnx")
    with pytest.raises(InputError, match="reads 'nowhere', which nothing before it makes"):
        export_onnx(tmp_path / "near.onnx")


def test_truncated_file(small: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.onnx").write_bytes(small.read_bytes()[:-1000])
    with pytest.raises(InputError, match=r"damaged|which nothing before it makes"):
        export_onnx(tmp_path / "cut.onnx")


def test_empty_file(tmp_path: Path) -> None:
    """What detectron2 leaves where torch.onnx.export fails, as it opens the file first."""
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(InputError, match=r"empty\.onnx is empty: the export .* failed") as caught:
        export_onnx(tmp_path / "empty.onnx")
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize("content", [b"this is no model", bytes(range(256)) * 10])
def test_no_onnx_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "no.onnx").write_bytes(content)
    with pytest.raises(InputError, match="damaged or no ONNX file"):
        export_onnx(tmp_path / "no.onnx")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        export_onnx(tmp_path / "nowhere.onnx")


def test_missing_external_data(graph: onnx.ModelProto, tmp_path: Path) -> None:
    onnx.save(graph, tmp_path / "m.onnx", save_as_external_data=True, location="m.data",
              size_threshold=0)  # fmt: skip
    assert export_onnx(tmp_path / "m.onnx").model.graph.node
    (tmp_path / "m.data").unlink()
    with pytest.raises(InputError, match="keeps its weights in another file"):
        export_onnx(tmp_path / "m.onnx")


@pytest.mark.parametrize("kept", [0, 0.5, 0.999])
def test_external_data_cut_short(kept: float, graph: onnx.ModelProto, tmp_path: Path) -> None:
    """A copy that stopped; the message says how far it came."""
    onnx.save(graph, tmp_path / "m.onnx", save_as_external_data=True, location="m.data",
              size_threshold=0)  # fmt: skip
    whole = (tmp_path / "m.data").read_bytes()
    left = whole[: int(kept * len(whole))]
    (tmp_path / "m.data").write_bytes(left)
    with pytest.raises(InputError, match=rf"m\.data, which is cut short: it has {len(left)} bytes"):
        export_onnx(tmp_path / "m.onnx")


def test_external_data_of_another_export(graph: onnx.ModelProto, tmp_path: Path) -> None:
    onnx.save(graph, tmp_path / "m.onnx", save_as_external_data=True, location="m.data",
              size_threshold=0)  # fmt: skip
    bare = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    tensor = next(t for t in bare.graph.initializer if len(t.dims) == 4)
    tensor.dims[0] += 1
    onnx.save(bare, tmp_path / "m.onnx")
    with pytest.raises(InputError, match=r"which is not the file that .* bytes there and needs"):
        export_onnx(tmp_path / "m.onnx")


def test_old_opset(graph: onnx.ModelProto, tmp_path: Path) -> None:
    graph.opset_import[0].version = 9
    onnx.save(graph, tmp_path / "old.onnx")
    with pytest.raises(UnsupportedModelError, match="has opset 9, and surgery reads 11 to"):
        export_onnx(tmp_path / "old.onnx")


_SINGLES = {
    "no detector": ("y = Relu (x)", "no RoiAlign"),
    "RoiAlign alone": (
        "b = Constant <value = float[2,4] {0., 0., 9., 9., 1., 1., 5., 5.}> ()\n"
        "i = Constant <value = int64[2] {0, 0}> ()\n"
        "y = RoiAlign <output_height = 2, output_width = 2> (x, b, i)", "no NonMaxSuppression",
    ),
    "NonMaxSuppression alone": (
        "y = NonMaxSuppression (x, x)", "no RoiAlign, so it is no two-stage detector",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("op", "reason"),
    [
        ("EfficientNMS_ONNX_TRT", "EfficientNMS_ONNX_TRT.*before that step"),
        ("NMS_TRT", "NMS_TRT.*before that step"),
        ("ProposalLayer_TRT", "ProposalLayer_TRT.*before that step"),
        ("DetectionLayer_TRT", "DetectionLayer_TRT.*before that step"),
        ("EfficientNMS_TRT", "preprocessing declined: no layer reads the picture"),
        ("PyramidROIAlign_TRT", "preprocessing declined: no layer reads the picture"),
    ],
)
def test_plugin_that_no_rule_maps_is_refused(op: str, reason: str, tmp_path: Path) -> None:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3, 32, 32]) for n in "xy")
    graph = helper.make_graph([helper.make_node(op, ["x", "x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, tmp_path / "plugin.onnx")
    with pytest.raises(UnsupportedModelError, match=reason):
        export_onnx(tmp_path / "plugin.onnx")


@pytest.mark.parametrize("name", _SINGLES)
def test_part_of_a_detector_is_refused(name: str, tmp_path: Path) -> None:
    body, reason = _SINGLES[name]
    text = (
        '<ir_version: 8, opset_import: ["" : 17]>\n'
        f"g (float[1, 3, 32, 32] x) => (float y) {{\n{body}\n}}"
    )
    onnx.save(onnx.parser.parse_model(text), tmp_path / "part.onnx")
    with pytest.raises(MaskrtError, match=reason):
        export_onnx(tmp_path / "part.onnx")


def test_more_weights_than_a_graph_holds(tmp_path: Path) -> None:
    """Refused by the sizes that the file states: its 2.4 GB beside it are not even there."""
    large = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[600, 1000, 1000])
    large.data_location = TensorProto.EXTERNAL
    large.external_data.add(key="location", value="weights.bin")
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy")
    node = helper.make_node("ReduceSum", ["w"], ["y"], keepdims=0)
    graph = helper.make_graph([node], "large", [x], [y], [large])
    onnx.save(helper.make_model(graph), tmp_path / "large.onnx")
    with pytest.raises(
        UnsupportedModelError, match=r"large\.onnx has 2\.40 GB of weights .* 2\.15"
    ):
        export_onnx(tmp_path / "large.onnx")


def test_a_file_that_protobuf_cannot_read(tmp_path: Path) -> None:
    with (tmp_path / "large.onnx").open("wb") as file:
        file.truncate(2**31)  # of holes: it takes no room
    with pytest.raises(UnsupportedModelError, match=r"2\.15 GB of weights"):
        export_onnx(tmp_path / "large.onnx")
