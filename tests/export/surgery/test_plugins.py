"""Graphs that hold TensorRT's plugins: rewritten, and compared with what the plugins document."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from maskrt.core import UnsupportedModelError  # noqa: E402
from maskrt.export.surgery import examine, export_onnx  # noqa: E402
from maskrt.export.surgery.graph import Node  # noqa: E402
from maskrt.export.surgery.plugin_behaviour import behave  # noqa: E402

from ..detectors import enliven, tiny_mask_rcnn  # noqa: E402
from .foreign import equals_original, resized  # noqa: E402
from .restated_plugins import AbsoluteStyle, PluginStyle  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]
SIZE = (128, 192)


@pytest.fixture(scope="module")
def detector(photos: list[np.ndarray]) -> Any:
    """A Mask R-CNN of four levels."""
    torch.manual_seed(0)
    model = tiny_mask_rcnn(4, min_size=SIZE[0], max_size=SIZE[1])
    return enliven(model, resized(photos, SIZE)).eval()


def _export(
    style: type, detector: Any, photos: Sequence[np.ndarray], path: Path, **changed: Any
) -> Path:
    picture = torch.from_numpy(resized(photos, SIZE)[0].copy()).permute(2, 0, 1).float()[None]
    torch.onnx.export(
        style(detector, SIZE, 80, **changed).eval(), (picture,), str(path), dynamo=False,
        opset_version=17, autograd_inlining=False, custom_opsets={"TRT": 1},
    )  # fmt: skip
    return path


def test_detectron2_sample(detector: Any, photos: list[np.ndarray], tmp_path: Path) -> None:
    path = _export(PluginStyle, detector, photos, tmp_path / "p.onnx")
    model = equals_original(path, photos)
    kinds = [n.op_type for n in model.graph.node if n.domain]
    assert kinds == ["BatchedNMS", "MultilevelRoIAlign"] * 2
    rules = [finding.rule for finding in examine(path).findings]
    assert rules == ["preprocessing"] + ["plugin"] * 4


def test_pixels_batched_nms_and_one_map(
    detector: Any, photos: list[np.ndarray], tmp_path: Path
) -> None:
    path = _export(AbsoluteStyle, detector, photos, tmp_path / "p.onnx")
    model = equals_original(path, photos)
    assert [o.name for o in model.graph.output] == ["boxes", "scores", "labels", "count"]


@pytest.mark.parametrize(
    ("style", "changed", "reason"),
    [
        (PluginStyle, {"pool": {"roi_coords_transform_i": 0}}, "roi_coords_transform is 0"),
        (PluginStyle, {"pool": {"roi_coords_plusone_i": 1}}, "boxes are a pixel larger"),
        (PluginStyle, {"pool": {"legacy_i": 1}}, "legacy is 1, which samples at corners"),
        (PluginStyle, {"pool": {"image_size_i": [64, 64]}}, "image_size is .64, 64., and the pic"),
        (PluginStyle, {"nms": {"box_coding_i": 0}}, "box_coding is 0 with 3 inputs"),
        (AbsoluteStyle, {"pool": {"mode_i": 0}}, "mode is 0, so it takes the maximum"),
        (AbsoluteStyle, {"pool": {"spatial_scale_f": 1.0}}, "spatial_scale is 1, and its map has"),
        (AbsoluteStyle, {"nms": {"isNormalized_i": 0}}, "isNormalized is 0, so boxes are a pixel"),
        (AbsoluteStyle, {"nms": {"backgroundLabelId_i": 2}}, "the background 2"),
    ],
)
def test_what_no_operator_does_is_refused(
    style: type, changed: dict[str, Any], reason: str, detector: Any, photos: list[np.ndarray],
    tmp_path: Path,
) -> None:  # fmt: skip
    path = _export(style, detector, photos, tmp_path / "p.onnx", **changed)
    first, *_ = examine(path).declined
    assert re.search(f"rule plugin declined at .*_TRT .*{reason}", str(first)), str(first)
    with pytest.raises(UnsupportedModelError, match="is not understood"):
        export_onnx(path)


def test_several_pictures_a_call_are_refused(
    detector: Any, photos: list[np.ndarray], tmp_path: Path
) -> None:
    path = _export(AbsoluteStyle, detector, photos, tmp_path / "p.onnx")
    with pytest.raises(UnsupportedModelError, match="one picture a call, and batch is 2"):
        export_onnx(path, batch=2)


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
