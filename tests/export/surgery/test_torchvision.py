"""torchvision's detectors from the old exporter: surgery's result finds what the original does."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from maskrt.calib.placement import place  # noqa: E402
from maskrt.core import UnsupportedModelError, UsageError  # noqa: E402
from maskrt.core.operator_names import operator_of  # noqa: E402
from maskrt.export import export_model  # noqa: E402
from maskrt.export.surgery import examine, export_onnx  # noqa: E402
from maskrt.plugins import lower  # noqa: E402
from maskrt.runtime.backends.cpu import CpuBackend  # noqa: E402
from maskrt.runtime.check.fidelity import box_iou, pair_up  # noqa: E402

from ..detectors import tiny_mask_rcnn, tiny_one_map  # noqa: E402
from .foreign import equals_original, export_old, resized  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]
_SIZE = {"levels": 2, "min_size": 96, "max_size": 128}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def mask_rcnn(photos: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Mask R-CNN of 96 x 128 that does not resize."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("onnx") / "mask.onnx"
    return export_old(tiny_mask_rcnn(**_SIZE), photos, (96, 128), path)


def test_mask_rcnn_equals_the_original(mask_rcnn: Path, photos: list[np.ndarray]) -> None:
    model = equals_original(mask_rcnn, photos)
    kinds = {node.op_type for node in model.graph.node}
    kinds = {operator_of(n.op_type) for n in model.graph.node if n.domain}
    assert kinds == {"MultilevelRoIAlign", "BatchedNMS"}
    assert not kinds & {"NonZero", "NonMaxSuppression", "If", "Loop", "RoiAlign", "Shape"}
    assert len(onnx.load(mask_rcnn).graph.node) > 1500
    assert len(model.graph.node) < 300


def _expanded(boxes: np.ndarray, side: int) -> np.ndarray:
    """Return the corners that torchvision truncates before it pastes a mask of `side` cells."""
    middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    half = half * np.float32((side + 2) / side)
    return np.concatenate([middle - half, middle + half], 1)


def test_masks_agree_before_the_threshold(mask_rcnn: Path, photos: list[np.ndarray]) -> None:
    """Mask IoU says little of a mask of noise, whose probabilities lie about one half.

    So the pasted probabilities themselves are compared, the original's with those that torchvision
    pastes of ours. Pasting truncates corners to whole pixels: a pair whose corners fall on
    different sides of one is left out, if both lie within 1e-3 of it.
    """
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    exported = export_onnx(mask_rcnn)
    generator = np.random.default_rng(0)
    noise = [generator.integers(0, 256, (96, 128, 3), np.uint8) for _ in range(4)]
    session = CpuBackend(exported.model.SerializeToString())
    places = exported.reference._stages.outputs
    pairs = at_edge = 0
    for picture in [*resized(photos, (96, 128)), *noise]:
        original = exported.reference._run(picture)
        boxes, masks = original[places["boxes"]], original[places["masks"]][:, 0]
        found = {k: v[0] for k, v in session.run(picture[None]).items()}
        count = int(found["count"])
        first, second = pair_up(box_iou(boxes, found["boxes"][:count]))
        ours, small = found["boxes"][second], found["masks"][second]
        pasted = paste_masks_in_image(
            torch.from_numpy(small[:, None]), torch.from_numpy(ours), (96, 128), padding=1
        )[:, 0].numpy()
        edges = [_expanded(b, small.shape[-1]) for b in (boxes[first], ours)]
        same = (np.trunc(edges[0]) == np.trunc(edges[1])).all(1)
        apart = np.abs(edges[0] - np.round(edges[0]))[~same].min(-1, initial=0.0)
        assert (apart < 1e-3).all()
        pairs, at_edge = pairs + len(same), at_edge + int((~same).sum())
        np.testing.assert_allclose(pasted[same], masks[first][same], atol=1e-4)
    assert pairs > 50
    assert at_edge <= 0.05 * pairs


@pytest.mark.parametrize(
    ("options", "size", "batch"),
    [
        ({"levels": 2, "num_classes": 3, "min_size": 150, "max_size": 400}, (100, 130), 2),
        pytest.param(
            {**_SIZE, "levels": 4, "box_nms_thresh": 0.3, "rpn_score_thresh": 0.4}, (128, 96), 1,
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"box_score_thresh": 0.0, "image_mean": [0.0] * 3, "image_std": [1.0] * 3, **_SIZE},
            (96, 96), 3, marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_other_parameters(
    photos: list[np.ndarray], tmp_path: Path, options: dict[str, Any], size: tuple[int, int],
    batch: int,
) -> None:  # fmt: skip
    path = export_old(tiny_mask_rcnn(**options), photos, size, tmp_path / "m.onnx")
    model = equals_original(path, photos, batch=batch)
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert shape == [batch, *size, 3]


def test_one_feature_map_without_masks(photos: list[np.ndarray], tmp_path: Path) -> None:
    model = tiny_one_map()
    model.transform.min_size, model.transform.max_size = (96,), 128
    path = export_old(model, photos, (96, 128), tmp_path / "m.onnx")
    rewritten = equals_original(path, photos)
    assert [o.name for o in rewritten.graph.output] == ["boxes", "scores", "labels", "count"]


@pytest.mark.slow
def test_same_graph_as_from_the_model_itself(photos: list[np.ndarray], tmp_path: Path) -> None:
    """Layers and operators' attributes are those that tracing the model gives.

    One is written otherwise: the mask head's transposed convolution stays one here.
    """
    model = tiny_mask_rcnn(**_SIZE)
    path = export_old(model, photos, (96, 128), tmp_path / "m.onnx")
    ours, traced = export_onnx(path).model, export_model(model, input_size=(96, 128)).model
    assert _nodes_of_maskrt(ours) == _nodes_of_maskrt(traced)
    layers = [sorted(layer.op_type for layer in place(m).layers) for m in (ours, traced)]
    assert layers[0].count("ConvTranspose") == 1
    layers[0] = sorted(kind.removesuffix("Transpose") for kind in layers[0])
    assert layers[0] == layers[1]
    assert len(layers[0]) > 20
    shapes = [[tuple(d.dim_value for d in o.type.tensor_type.shape.dim) for o in m.graph.output]
              for m in (ours, traced)]  # fmt: skip
    assert shapes[0] == shapes[1]


def _nodes_of_maskrt(model: onnx.ModelProto) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for node in model.graph.node:
        if node.domain == "maskrt":
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            for name, value in attributes.items():
                if isinstance(value, float):
                    attributes[name] = pytest.approx(value, rel=1e-6)
            found.append((node.op_type, attributes))
    return found


def test_lowers_without_plugins(mask_rcnn: Path) -> None:
    lowered = lower(export_onnx(mask_rcnn).model, "pluginless")
    kinds = {node.op_type for node in lowered.graph.node}
    assert not kinds & {"RoiAlign", "NonMaxSuppression", "NonZero"}
    assert {node.domain for node in lowered.graph.node} == {""}


def test_another_size_is_refused(mask_rcnn: Path) -> None:
    with pytest.raises(UsageError, match="exported for pictures of 96 x 128"):
        export_onnx(mask_rcnn, input_size=(128, 128))


def test_wrong_number_of_names_is_refused(mask_rcnn: Path) -> None:
    with pytest.raises(UsageError, match="has 2 names, and the model 5"):
        export_onnx(mask_rcnn, class_names=["background", "thing"])


def test_examination_names_rules_and_nodes(mask_rcnn: Path) -> None:
    found = examine(mask_rcnn)
    assert found.declined == ()
    rules = [finding.rule for finding in found.findings]
    assert rules == ["preprocessing", "pyramid", "pyramid", "proposals", "detections", "masks"]
    assert all(finding.nodes for finding in found.findings)


def test_a_wrong_rewrite_is_seen(mask_rcnn: Path, photos: list[np.ndarray]) -> None:
    """The comparison rejects a graph whose last suppression has another threshold."""
    from maskrt.checking.conversion import prove

    exported = export_onnx(mask_rcnn)
    last = [n for n in exported.model.graph.node if operator_of(n.op_type) == "BatchedNMS"][-1]
    next(a for a in last.attribute if a.name == "iou_threshold").f = 0.9
    (function,) = [f for f in exported.model.functions if f.name == last.op_type]
    for node in function.node:
        for attribute in node.attribute:
            value = attribute.t
            if attribute.HasField("t") and onnx.numpy_helper.to_array(value).size == 1:
                number = onnx.numpy_helper.to_array(value)
                if number.dtype == np.float32 and number.item() == 0.5:
                    changed = np.full(number.shape, 0.9, np.float32)
                    attribute.t.CopyFrom(onnx.numpy_helper.from_array(changed))
    assert prove(exported, resized(photos, (96, 128)))["violations"]


def test_classification_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "c.onnx"
    torch.onnx.export(
        torch.nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 32, 32), str(path), dynamo=False
    )  # fmt: skip
    with pytest.raises(UnsupportedModelError, match="no RoiAlign, so it is no two-stage detector"):
        export_onnx(path)
