"""detectron2's structure, restated and exported: surgery's result finds what the original does."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from torchvision.models.detection import MaskRCNN  # noqa: E402
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor  # noqa: E402
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor  # noqa: E402
from torchvision.models.detection.rpn import AnchorGenerator  # noqa: E402
from torchvision.ops import MultiScaleRoIAlign  # noqa: E402

from maskrt.core import UnsupportedModelError  # noqa: E402
from maskrt.core.operator_names import operator_of  # noqa: E402
from maskrt.export.surgery import examine, export_onnx  # noqa: E402
from maskrt.plugins import lower  # noqa: E402
from maskrt.runtime.backends.cpu import CpuBackend  # noqa: E402

from ..detectors import CHANNELS, OneMap, enliven  # noqa: E402
from .foreign import equals_original, lively_detector, resized  # noqa: E402
from .restated_detectron2 import Detectron2Style  # noqa: E402
from .test_robust import CHANGES  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]
SIZE = (96, 128)


def _export(
    photos: Sequence[np.ndarray], path: Path, options: dict[str, Any], *,
    size: tuple[int, int] = SIZE, opset: int = 17, **style: Any,
) -> Path:  # fmt: skip
    """Write a small detector of detectron2's structure."""
    model, shown = lively_detector(photos, size, **options)
    return _written(model, shown, path, opset, size, **style)


def _written(
    model: Any, shown: Sequence[np.ndarray], path: Path, opset: int, size: tuple[int, int],
    **style: Any,
) -> Path:  # fmt: skip
    restated = Detectron2Style(model, size, **style).eval()
    picture = torch.from_numpy(shown[0].copy()).permute(2, 0, 1).float()
    torch.onnx.export(restated, (picture,), str(path), dynamo=False, opset_version=opset)
    return path


class _Mean(torch.nn.Module):
    def forward(self, x: Any) -> Any:
        return x.mean(dim=[2, 3])


def _c4(photos: Sequence[np.ndarray]) -> tuple[Any, list[np.ndarray]]:
    """Return a detector whose heads share one map and `res5`, as those of detectron2's C4 do."""
    torch.manual_seed(0)
    res5 = torch.nn.Sequential(torch.nn.Conv2d(CHANNELS, 20, 3, 2, 1), torch.nn.ReLU())
    pool = MultiScaleRoIAlign(["0"], 14, 2)
    model = MaskRCNN(
        OneMap(), None, min_size=SIZE[0], max_size=SIZE[1],
        rpn_anchor_generator=AnchorGenerator(((16, 32, 64),), ((0.5, 1.0, 2.0),)),
        box_roi_pool=pool, box_head=torch.nn.Sequential(res5, _Mean()),
        box_predictor=FastRCNNPredictor(20, 5), mask_roi_pool=pool, mask_head=res5,
        mask_predictor=MaskRCNNPredictor(20, 12, 5), rpn_pre_nms_top_n_test=150,
        rpn_post_nms_top_n_test=100, box_detections_per_img=25, box_score_thresh=0.1,
    )  # fmt: skip
    shown = resized(photos, SIZE)
    return enliven(model, shown), shown


@pytest.fixture(scope="module")
def plain(photos: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Adaptive RoIAlign, as detectron2's configurations have it."""
    return _export(photos, tmp_path_factory.mktemp("d2") / "d2.onnx", {})


@pytest.fixture(scope="module")
def unaligned(photos: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same at opset 11, detectron2's default, at which the exporter drops `aligned`."""
    return _export(photos, tmp_path_factory.mktemp("d2") / "d2_11.onnx", {}, opset=11)


def test_equals_the_original(plain: Path, photos: list[np.ndarray]) -> None:
    model = equals_original(plain, photos)
    pools = [n for n in model.graph.node if operator_of(n.op_type) == "MultilevelRoIAlign"]
    for pool in pools:
        read = {a.name: a.i for a in pool.attribute}
        assert (read["aligned"], read["sampling_ratio"]) == (1, 0)
    assert len(pools) == 2
    assert not {n.op_type for n in model.graph.node} & {"NonZero", "If", "Loop", "Shape"}
    assert examine(plain).warning is None


_OPERATORS = """
    Add And Cast Clip Concat Constant ConstantOfShape Conv ConvTranspose Div Equal Exp Expand
    Flatten Floor Gather GatherND Gemm Greater Identity If Less Log MaxPool Mod Mul NonZero Not
    OneHot Pad Range ReduceMax ReduceProd Relu Reshape Resize RoiAlign ScatterND Shape Sigmoid
    Slice Softmax Split Sqrt Squeeze Sub Tile TopK Transpose Unsqueeze Where Xor
"""  # of files that detectron2 wrote, at opset 11, 16, 17 and 21 alike


def test_is_what_the_exporter_writes(plain: Path, unaligned: Path) -> None:
    """The restatement has the operators of real files, and cuts at lengths known at run time."""
    for path in (plain, unaligned):
        model = onnx.load(path)
        made = {name for node in model.graph.node for name in node.output if node.op_type == "Add"}
        cut = [n for n in model.graph.node if n.op_type == "Slice" and n.input[2] in made]
        assert {n.op_type for n in model.graph.node} == set(_OPERATORS.split())
        assert len(cut) == 3, "boxes, scores and masks are split by their numbers"


def test_lost_alignment_is_told(
    plain: Path, unaligned: Path, small: Path, photos: list[np.ndarray]
) -> None:
    """A file of opset 11 compiles as it is, and its bundle says that it is not the model."""
    model = equals_original(unaligned, photos)
    pools = [n for n in model.graph.node if operator_of(n.op_type) == "MultilevelRoIAlign"]
    assert [a.i for n in pools for a in n.attribute if a.name == "aligned"] == [0, 0]
    warning = examine(unaligned).warning
    assert warning is not None
    assert "opset_version=17" in warning
    assert export_onnx(unaligned).manifest.source["warning"] == warning
    assert "warning" not in export_onnx(plain).manifest.source
    assert examine(small).warning is None, "torchvision's own is not aligned"


@pytest.mark.slow
@pytest.mark.parametrize("opset", [16, 18, 19, 20, 21])
def test_other_opsets(opset: int, photos: list[np.ndarray], tmp_path: Path) -> None:
    path = _export(photos, tmp_path / "d2.onnx", {}, opset=opset)
    equals_original(path, photos)
    assert examine(path).warning is None


def test_one_map_and_a_shared_res5(photos: list[np.ndarray], tmp_path: Path) -> None:
    path = _written(*_c4(photos), tmp_path / "c4.onnx", 17, SIZE)
    model = equals_original(path, photos)
    pools = [n for n in model.graph.node if operator_of(n.op_type) == "MultilevelRoIAlign"]
    assert [len(n.input) for n in pools] == [2, 2], "boxes and one map"
    assert not {n.op_type for n in onnx.load(path).graph.node} & {"Floor", "ScatterND"}


def test_boxes_are_clipped_to_what_is_not_padding(photos: list[np.ndarray], tmp_path: Path) -> None:
    """A picture of 118 pixels is 128 wide inside; detectron2 clips at 118, and so does the file."""
    size = (90, 118)
    path = _export(photos, tmp_path / "odd.onnx", {}, size=size)
    exported = export_onnx(path)
    found = examine(path).stages
    assert found is not None
    assert found.preprocessing.padded == (96, 128)
    assert found.detections.corner == (118.0, 90.0)
    equals_original(path, photos)
    picture = np.stack(resized(photos[:1], size))
    result = CpuBackend(exported.model.SerializeToString()).run(picture)
    right, below = result["boxes"][0, :, 2].max(), result["boxes"][0, :, 3].max()
    assert (right, below) == (118.0, 90.0)


@pytest.mark.parametrize(
    "tool", ["onnxsim", pytest.param("onnxslim", marks=pytest.mark.slow), "external data"]
)
@pytest.mark.parametrize("name", ["plain", pytest.param("unaligned", marks=pytest.mark.slow)])
def test_simplified(
    tool: str, name: str, request: pytest.FixtureRequest, photos: list[np.ndarray], tmp_path: Path
) -> None:
    path, model = tmp_path / "changed.onnx", onnx.load(request.getfixturevalue(name))
    if tool == "external data":
        onnx.save(model, path, save_as_external_data=True, location="d2.data", size_threshold=0)
        assert (tmp_path / "d2.data").is_file()
    elif tool == "onnxsim":
        onnx.save(pytest.importorskip("onnxsim").simplify(model)[0], path)
    else:
        onnx.save(pytest.importorskip("onnxslim").slim(model), path)
    equals_original(path, photos)


@pytest.mark.slow
@pytest.mark.parametrize(("options", "words"), [({}, "one for all"), ({"num_classes": 2}, "own")])
def test_masks_for_all_classes(
    options: dict[str, Any], words: str, photos: list[np.ndarray], tmp_path: Path
) -> None:
    """`CLS_AGNOSTIC_MASK`: one mask a detection, whatever its class. Of one class it is its own."""
    path = _export(photos, tmp_path / "one.onnx", options, one_mask=True)
    (masks,) = (f for f in examine(path).findings if f.rule == "masks")
    assert masks.text.startswith(words)
    equals_original(path, photos)


def test_a_picture_of_whole_numbers(plain: Path, photos: list[np.ndarray], tmp_path: Path) -> None:
    """detectron2's mapper gives uint8, and a file may be traced with that."""
    graph = onnx.load(plain)
    graph.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    name = graph.graph.input[0].name
    for node in graph.graph.node:
        node.input[:] = ["wide" if n == name else n for n in node.input]
    graph.graph.node.insert(0, onnx.helper.make_node("Cast", [name], ["wide"], to=1))
    onnx.save(graph, tmp_path / "bytes.onnx")
    equals_original(tmp_path / "bytes.onnx", photos)


def test_postprocessing_is_named(photos: list[np.ndarray], tmp_path: Path) -> None:
    path = _export(photos, tmp_path / "d2.onnx", {}, postprocess=True)
    with pytest.raises(UnsupportedModelError, match=r"postprocessing.*do_postprocess=False"):
        export_onnx(path)


def test_logits_survive_without_plugins(plain: Path, photos: list[np.ndarray]) -> None:
    """Proposals are ordered by logits, below zero too, in the form for TensorRT-RTX as well."""
    model = export_onnx(plain).model
    lowered = lower(model, "pluginless")
    assert not {n.op_type for n in lowered.graph.node} & {"NonMaxSuppression", "RoiAlign"}
    picture = np.stack(resized(photos[:1], SIZE))
    ours, other = (CpuBackend(m.SerializeToString()).run(picture) for m in (model, lowered))
    assert ours["count"] > 10
    for name, value in ours.items():
        np.testing.assert_allclose(other[name], value, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "style"),
    [
        pytest.param(
            {"num_classes": 3}, {"masks": False, "ratio": 2, "least": 4.0},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"box_nms_thresh": 0.3, "box_score_thresh": 0.0}, {"bgr": True},
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_other_parameters(
    photos: list[np.ndarray], tmp_path: Path, options: dict[str, Any], style: dict[str, Any]
) -> None:
    path = _export(photos, tmp_path / "d2.onnx", options, **style)
    equals_original(path, photos)


@pytest.mark.parametrize("seed", [0, *(pytest.param(s, marks=pytest.mark.slow) for s in (1, 2))])
def test_form_does_not_matter(seed: int, plain: Path, tmp_path: Path) -> None:
    graph, luck = onnx.load(plain), random.Random(seed)
    for change in luck.sample(CHANGES, len(CHANGES)):
        graph = change(graph, luck)
    onnx.save(graph, tmp_path / "changed.onnx")
    ours = export_onnx(tmp_path / "changed.onnx").model
    assert ours.SerializeToString() == export_onnx(plain).model.SerializeToString()


def test_labels_count_from_one(plain: Path) -> None:
    """Zero is the background everywhere in maskrt; detectron2's class 0 is label 1."""
    found = examine(plain).stages
    assert found is not None
    assert (found.detections.first_label, found.detections.background) == (0, 4)
    exported = export_onnx(plain, class_names=["background", "a", "b", "c", "d"])
    assert exported.manifest.class_names is not None


@pytest.mark.slow
def test_blue_comes_first_where_its_mean_does(photos: list[np.ndarray], tmp_path: Path) -> None:
    path = _export(photos, tmp_path / "d2.onnx", {}, masks=False, bgr=True)
    (preprocessing,) = (f for f in examine(path).findings if f.rule == "preprocessing")
    assert "blue, green, red" in preprocessing.text
    exported = export_onnx(path)
    assert exported.manifest.input.pad_value == (124, 116, 104)
