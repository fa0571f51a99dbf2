"""Graphs that hold TensorRT's plugins: rewritten, and compared with what the plugins document."""

import json
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from maskrt.cli import main  # noqa: E402
from maskrt.core import Bundle, UnsupportedModelError  # noqa: E402
from maskrt.core.operator_names import operator_of  # noqa: E402
from maskrt.export.surgery import examine, export_onnx  # noqa: E402
from maskrt.export.surgery.graph import Node  # noqa: E402
from maskrt.export.surgery.plugin_behaviour import behave  # noqa: E402

from ..detectors import enliven, tiny_mask_rcnn  # noqa: E402
from .foreign import equals_original, resized  # noqa: E402
from .restated_mmdeploy_plugins import MMDeployPluginStyle  # noqa: E402
from .restated_plugins import AbsoluteStyle, PluginStyle  # noqa: E402
from .test_robust import CHANGES  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]
SIZE = (128, 192)
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


@pytest.fixture(scope="module")
def files(photos: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> dict[type, Path]:
    """A file of each style, all with the layers of one Mask R-CNN of four levels."""
    torch.manual_seed(0)
    shown, folder = resized(photos, SIZE), tmp_path_factory.mktemp("plugins")
    model = tiny_mask_rcnn(4, min_size=SIZE[0], max_size=SIZE[1])
    enliven(model, shown)
    picture = torch.from_numpy(shown[0].copy()).permute(2, 0, 1).float()[None]
    found = {}
    for style in (PluginStyle, AbsoluteStyle):
        found[style] = _write(style(model, SIZE, 80), picture, folder / f"{style.__name__}.onnx")
    model.rpn._post_nms_top_n = {"training": 80, "testing": 80}
    mmdeploys = MMDeployPluginStyle(model, SIZE, finest=14)
    normalised = (picture - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    found[MMDeployPluginStyle] = _write(mmdeploys, normalised, folder / "mmdeploy.onnx", 11)
    (folder / "pipeline.json").write_text(
        json.dumps({"type": "Normalize", "mean": MEAN, "std": STD})
    )
    return found


def _write(style: Any, picture: Any, path: Path, opset: int = 17) -> Path:
    torch.onnx.export(
        style.eval(), (picture,), str(path), dynamo=False, opset_version=opset,
        autograd_inlining=False, custom_opsets={"TRT": 1, "mmdeploy": 1},
    )  # fmt: skip
    return path


@pytest.mark.parametrize("style", [PluginStyle, MMDeployPluginStyle])
def test_with_masks(style: type, files: dict[type, Path], photos: list[np.ndarray]) -> None:
    model = equals_original(files[style], photos)
    kinds = [operator_of(n.op_type) for n in model.graph.node if n.domain]
    assert kinds == ["BatchedNMS", "MultilevelRoIAlign"] * 2
    findings = examine(files[style]).findings
    named = [f.text.split()[0] for f in findings if f.rule == "plugin"]
    assert [f.rule for f in findings] == ["preprocessing"] + ["plugin"] * len(named)
    if style is MMDeployPluginStyle:
        own = ["TRTBatchedNMS", "MMCVMultiLevelRoiAlign"]
        assert named == ["GatherTopk", *own, *own]
        assert len(findings[1].nodes) == 2 * 5  # deltas and scores of five levels
    else:
        assert named == ["EfficientNMS_TRT", "PyramidROIAlign_TRT"] * 2


def test_mmdeploys_labels_are_added_to_int64(files: dict[type, Path]) -> None:
    """As it writes them: no Cast lies between its int32 labels and the Add that chooses masks."""
    nodes = onnx.load(files[MMDeployPluginStyle]).graph.node
    makers = {name: node for node in nodes for name in node.output}
    labels = [n for n in nodes if n.op_type == "TRTBatchedNMS"][-1].output[1]
    added = [
        n for n in nodes if n.op_type == "Add" and any(_from(makers, i, labels) for i in n.input)
    ]
    assert added
    assert not any(_cast(makers, i) for n in added for i in n.input if _from(makers, i, labels))


def _from(makers: dict[str, Any], name: str, origin: str) -> bool:
    while name in makers and name != origin and makers[name].op_type in ("Reshape", "Cast"):
        name = makers[name].input[0]
    return name == origin


def _cast(makers: dict[str, Any], name: str) -> bool:
    while name in makers and makers[name].op_type in ("Reshape", "Cast"):
        if makers[name].op_type == "Cast":
            return True
        name = makers[name].input[0]
    return False


@pytest.mark.slow
def test_mmdeploys_without_masks_at_opset_17(photos: list[np.ndarray], tmp_path: Path) -> None:
    torch.manual_seed(0)
    shown = resized(photos, SIZE)
    model = tiny_mask_rcnn(2, num_classes=2, min_size=SIZE[0], max_size=SIZE[1])
    enliven(model, shown)
    style = MMDeployPluginStyle(model, SIZE, masks=False, ratio=2, finest=14)
    path = _write(style, torch.zeros(1, 3, *SIZE), tmp_path / "m.onnx")
    equals_original(path, photos, mean=MEAN, std=STD)


def test_pixels_batched_nms_and_one_map(files: dict[type, Path], photos: list[np.ndarray]) -> None:
    model = equals_original(files[AbsoluteStyle], photos)
    assert [o.name for o in model.graph.output] == ["boxes", "scores", "labels", "count"]


def test_inspect_names_plugins_and_nodes(
    files: dict[type, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["inspect", str(files[PluginStyle])])
    out = " ".join(capsys.readouterr().out.split())
    assert "plugin: EfficientNMS_TRT background_class -1, box_coding 1" in out
    assert "plugin: PyramidROIAlign_TRT" in out
    assert "rewrites it whole" in out


@pytest.mark.slow
def test_compile(files: dict[type, Path], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as left:
        main(["compile", str(files[PluginStyle]), "-o", str(tmp_path / "p.maskrt")])
    assert not left.value.code
    fidelity = Bundle.open(tmp_path / "p.maskrt").manifest.fidelity
    assert "the original ONNX" in fidelity["compared"]


@pytest.mark.slow
def test_nearest_resizing(files: dict[type, Path], photos: list[np.ndarray]) -> None:
    """The pyramid's doubling as a plugin, too, as the sample has it."""
    graph = onnx.load(files[PluginStyle])
    resizes = [n for n in graph.graph.node if n.op_type == "Resize"]
    for node in resizes:
        node.op_type, node.domain = "ResizeNearest_TRT", "TRT"
        del node.input[1:], node.attribute[:]
        node.attribute.append(onnx.helper.make_attribute("scale", 2.0))
    path = files[PluginStyle].parent / "nearest.onnx"
    onnx.save(graph, path)
    model = equals_original(path, photos)
    assert len(resizes) == sum(n.op_type == "Resize" for n in model.graph.node) == 3


def test_a_wrong_threshold_is_seen(files: dict[type, Path], photos: list[np.ndarray]) -> None:
    """The comparison rejects a graph whose first suppression takes another overlap."""
    from maskrt.checking.conversion import prove

    right = export_onnx(files[PluginStyle])
    changed = _changed(files[PluginStyle], "EfficientNMS_TRT", {"iou_threshold": 0.2})
    wrong = export_onnx(changed)
    assert prove(replace(wrong, reference=right.reference), resized(photos, SIZE))["violations"]


def test_form_does_not_matter(files: dict[type, Path], tmp_path: Path) -> None:
    graph, luck = onnx.load(files[AbsoluteStyle]), random.Random(0)
    for change in CHANGES:
        graph = change(graph, luck)
    onnx.save(graph, tmp_path / "changed.onnx")
    ours = export_onnx(tmp_path / "changed.onnx").model
    assert ours.SerializeToString() == export_onnx(files[AbsoluteStyle]).model.SerializeToString()


def _changed(path: Path, op: str, attributes: dict[str, Any]) -> Path:
    graph = onnx.load(path)
    for node in (n for n in graph.graph.node if n.op_type == op):
        kept = [a for a in node.attribute if a.name not in attributes]
        del node.attribute[:]
        node.attribute.extend(kept)
        node.attribute.extend(onnx.helper.make_attribute(k, v) for k, v in attributes.items())
    other = path.parent / f"changed_{path.name}"
    onnx.save(graph, other)
    return other


@pytest.mark.parametrize(
    ("style", "op", "attributes", "reason"),
    [
        (PluginStyle, "PyramidROIAlign_TRT", {"roi_coords_transform": 0}, "transform is 0"),
        (PluginStyle, "PyramidROIAlign_TRT", {"roi_coords_plusone": 1}, "are a pixel larger"),
        (PluginStyle, "PyramidROIAlign_TRT", {"legacy": 1}, "samples at corners of bins"),
        (PluginStyle, "PyramidROIAlign_TRT", {"image_size": [64, 64]}, "image_size is .64, 64."),
        (PluginStyle, "EfficientNMS_TRT", {"box_coding": 0}, "box_coding is 0 with 3 inputs"),
        (AbsoluteStyle, "ROIAlign_TRT", {"mode": 0}, "mode is 0, so it takes the maximum"),
        (AbsoluteStyle, "ROIAlign_TRT", {"spatial_scale": 1.0}, "spatial_scale is 1, and its map"),
        (AbsoluteStyle, "BatchedNMSDynamic_TRT", {"isNormalized": 0}, "isNormalized is 0"),
        (AbsoluteStyle, "BatchedNMSDynamic_TRT", {"backgroundLabelId": 2}, "the background 2"),
        (MMDeployPluginStyle, "MMCVMultiLevelRoiAlign", {"roi_scale_factor": 1.2}, "boxes larger"),
        (MMDeployPluginStyle, "TRTBatchedNMS", {"return_index": 1}, "candidates were kept"),
    ],
)
def test_what_no_operator_does_is_refused(
    style: type, op: str, attributes: dict[str, Any], reason: str, files: dict[type, Path]
) -> None:
    path = _changed(files[style], op, attributes)
    first, *_ = examine(path).declined
    assert re.search(f"rule plugin declined at .*::{op} .*{reason}", str(first)), str(first)
    with pytest.raises(UnsupportedModelError, match="is not understood"):
        export_onnx(path)


def test_other_plugins_are_refused(files: dict[type, Path], tmp_path: Path) -> None:
    graph = onnx.load(files[PluginStyle])
    for node in graph.graph.node:
        node.op_type = node.op_type.replace("EfficientNMS_TRT", "EfficientNMS_ONNX_TRT")
    onnx.save(graph, tmp_path / "p.onnx")
    with pytest.raises(UnsupportedModelError, match="no rule maps it to an operator of maskrt"):
        export_onnx(tmp_path / "p.onnx")


def test_several_pictures_a_call_are_refused(files: dict[type, Path]) -> None:
    with pytest.raises(UnsupportedModelError, match="one picture a call, and batch is 2"):
        export_onnx(files[AbsoluteStyle], batch=2)


def _random_boxes(generator: np.random.Generator, count: int, side: float) -> np.ndarray:
    low = generator.random((count, 2)) * side * 0.7
    return np.float32(np.concatenate([low, low + 1 + generator.random((count, 2)) * side * 0.3], 1))


@pytest.mark.parametrize(("aligned", "ratio"), [(0, 2), (1, 0), (1, 3)])
def test_documented_roialign_is_torchvisions(aligned: int, ratio: int) -> None:
    from torchvision.ops import roi_align

    generator = np.random.default_rng(0)
    features = generator.random((1, 3, 20, 30), np.float32)
    boxes = _random_boxes(generator, 25, 60)
    node = Node("ROIAlign_TRT", ("x", "r", "b"), ("y",), {
        "output_height": 4, "output_width": 3, "sampling_ratio": ratio, "spatial_scale": 0.5,
        "coordinate_transformation_mode": aligned,
    })  # fmt: skip
    (found,) = behave(node, [features, boxes, np.zeros(25, np.int32)])
    rois = torch.from_numpy(np.pad(boxes, ((0, 0), (1, 0))))
    expected = roi_align(
        torch.from_numpy(features), rois, (4, 3), 0.5, ratio, bool(aligned)
    )  # fmt: skip
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize(("aligned", "ratio"), [(1, 0), (0, 0), (1, 2)])
def test_documented_pyramid_of_mmdeploy_is_torchvisions(aligned: int, ratio: int) -> None:
    """Empty boxes included, which have no samples where as many are taken as fit."""
    from torchvision.ops import roi_align

    generator = np.random.default_rng(0)
    maps = [generator.random((1, 3, side, side), np.float32) for side in (24, 12)]
    boxes = np.concatenate([_random_boxes(generator, 25, 90), [[9, 9, 9, 40], [7, 7, 7, 7]]])
    rois = np.pad(boxes, ((0, 0), (1, 0))).astype(np.float32)
    node = Node("mmdeploy::MMCVMultiLevelRoiAlign", ("r", "a", "b"), ("y",), {
        "output_height": 3, "output_width": 3, "pool_mode": 1, "sampling_ratio": ratio,
        "roi_scale_factor": 1.0, "finest_scale": 10, "featmap_strides": [4.0, 8.0],
        "aligned": aligned,
    })  # fmt: skip
    with np.errstate(divide="ignore"):
        (found,) = behave(node, [rois, *maps])
    side = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], 1))
    for level, chosen in enumerate((side < 20, side >= 20)):
        expected = roi_align(
            torch.from_numpy(maps[level]), torch.from_numpy(rois[chosen]), 3, 0.25 / (level + 1),
            ratio, bool(aligned),
        )  # fmt: skip
        assert chosen.sum() > 3
        np.testing.assert_allclose(found[chosen], expected.numpy(), atol=1e-5)


def test_documented_gather_is_torchs() -> None:
    generator = np.random.default_rng(0)
    data, place = generator.random((2, 9, 4), np.float32), generator.integers(0, 9, (2, 5))
    (found,) = behave(Node("mmdeploy::GatherTopk", ("d", "i"), ("y",)), [data, place])
    wide = torch.from_numpy(place)[..., None].expand(-1, -1, 4)
    np.testing.assert_array_equal(found, torch.from_numpy(data).gather(1, wide).numpy())


def test_documented_suppression_is_torchvisions() -> None:
    from torchvision.ops import batched_nms

    generator = np.random.default_rng(0)
    boxes = _random_boxes(generator, 200, 60)[None]
    scores = generator.random((1, 200, 3), np.float32)
    node = Node("TRT::EfficientNMS_TRT", ("b", "s"), ("n", "o", "c", "l"), {
        "score_threshold": 0.3, "iou_threshold": 0.4, "max_output_boxes": 50,
    })  # fmt: skip
    count, kept, best, labels = behave(node, [boxes, scores])
    row, label = np.nonzero(scores[0] > 0.3)
    flat, own = boxes[0][row], scores[0][row, label]
    order = batched_nms(*(torch.from_numpy(v) for v in (flat, own, label)), 0.4)[:50].numpy()
    assert count.tolist() == [[len(order)]]
    np.testing.assert_array_equal(kept[0, : len(order)], flat[order])
    np.testing.assert_array_equal(best[0, : len(order)], own[order])
    np.testing.assert_array_equal(labels[0, : len(order)], label[order])
