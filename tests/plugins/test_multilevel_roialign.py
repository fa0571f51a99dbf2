"""Every body of MultilevelRoIAlign against torchvision, or brute force where it has none."""

import math
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from maskrt.core import UnsupportedModelError, UnsupportedTargetError
from maskrt.plugins import attach_functions, lower

from .bodies import every_body, one_node_model, run

torch = pytest.importorskip("torch")
from torchvision.ops import MultiScaleRoIAlign, roi_align  # noqa: E402

from maskrt.plugins.multilevel_roialign.reference import multilevel_roialign  # noqa: E402

pytestmark = pytest.mark.torch

CANVAS = (64, 96)
SCALES = (0.25, 0.125, 0.0625)
ATTRIBUTES: dict[str, Any] = {
    "output_height": 7,
    "output_width": 7,
    "sampling_ratio": 2,
    "aligned": 0,
    "mode": "avg",
    "spatial_scales": list(SCALES),
    "canonical_scale": 20.0,
    "canonical_level": 3,
    "level_epsilon": 1e-6,
    "min_level": 2,
}


def _features(batch: int, levels: int = 3, seed: int = 0) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    sizes = [(int(CANVAS[0] * s), int(CANVAS[1] * s)) for s in SCALES[:levels]]
    return [generator.normal(size=(batch, 5, *size)).astype(np.float32) for size in sizes]


def _boxes(batch: int, count: int, seed: int = 1) -> np.ndarray:
    generator = np.random.default_rng(seed)
    start = generator.uniform(0, 40, (batch, count, 2))
    sides = generator.uniform(0, 1, (batch, count, 2)) ** 2 * 90
    stop = np.minimum(start + sides, (CANVAS[1], CANVAS[0]))
    return np.concatenate([np.minimum(start, stop), stop], -1).astype(np.float32)


def _inputs(boxes: np.ndarray, features: list[np.ndarray]) -> dict[str, np.ndarray]:
    return {"boxes": boxes, **{f"p{i}": f for i, f in enumerate(features)}}


def _torchvision(boxes: np.ndarray, features: list[np.ndarray], size: int = 7) -> np.ndarray:
    pool = MultiScaleRoIAlign(
        [str(i) for i in range(len(features))],
        size,
        2,
        canonical_scale=20,
        canonical_level=3,
    )
    maps = OrderedDict((str(i), torch.from_numpy(f)) for i, f in enumerate(features))
    rows = [torch.from_numpy(b) for b in boxes]
    pooled = pool(maps, rows, [CANVAS] * len(boxes)).numpy()
    return pooled.reshape(*boxes.shape[:2], *pooled.shape[1:])


def test_every_body_equals_torchvision() -> None:
    boxes, features = _boxes(2, 40), _features(2)
    expected = _torchvision(boxes, features)
    inputs = _inputs(boxes, features)
    model = one_node_model("MultilevelRoIAlign", inputs, {"y": TensorProto.FLOAT}, **ATTRIBUTES)
    assert len(np.unique(_levels(boxes))) == 3  # every level is used
    for name, (found,) in every_body(model, inputs):
        # bilinear weights of coordinates up to 100 carry a float32 error of about 1e-5
        np.testing.assert_allclose(found, expected, atol=5e-5, err_msg=name)
    reference = multilevel_roialign(
        torch.from_numpy(boxes), [torch.from_numpy(f) for f in features], **ATTRIBUTES
    )
    np.testing.assert_allclose(reference.numpy(), expected, atol=1e-5)


def _levels(boxes: np.ndarray) -> np.ndarray:
    side = np.sqrt((boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1]))
    return np.clip(np.floor(3 + np.log2(np.maximum(side, 1e-6) / 20) + 1e-6), 2, 4)


@pytest.mark.parametrize("aligned", [0, 1])
@pytest.mark.parametrize("ratio", [1, 2, 3])
def test_one_level_equals_roi_align(aligned: int, ratio: int) -> None:
    boxes, features = _boxes(1, 30), _features(1, levels=1)
    attributes = {
        **ATTRIBUTES,
        "aligned": aligned,
        "sampling_ratio": ratio,
        "spatial_scales": [0.25],
        "output_height": 5,
        "output_width": 3,
    }
    rois = torch.cat([torch.zeros(30, 1), torch.from_numpy(boxes[0])], 1)
    expected = roi_align(
        torch.from_numpy(features[0]), rois, (5, 3), 0.25, ratio, bool(aligned)
    ).numpy()
    inputs = _inputs(boxes, features)
    model = one_node_model("MultilevelRoIAlign", inputs, {"y": TensorProto.FLOAT}, **attributes)
    for name, (found,) in every_body(model, inputs):
        np.testing.assert_allclose(found[0], expected, atol=5e-5, err_msg=name)


def test_boxes_outside_the_image_and_without_area() -> None:
    boxes = np.array(
        [[[-50, -50, -20, -20], [200, 200, 300, 300], [10, 10, 10, 10], [-30, 5, 30, 50],
          [0, 0, 0, 0], [80, 50, 140, 90]]], np.float32
    )  # fmt: skip
    features = _features(1)
    expected = _torchvision(boxes, features)
    assert (expected[0, 0] == 0).all()  # far outside: zero, not the edge repeated
    inputs = _inputs(boxes, features)
    model = one_node_model("MultilevelRoIAlign", inputs, {"y": TensorProto.FLOAT}, **ATTRIBUTES)
    for name, (found,) in every_body(model, inputs):
        np.testing.assert_allclose(found, expected, atol=5e-5, err_msg=name)


@pytest.mark.parametrize("aligned", [0, 1])
def test_adaptive_sampling(aligned: int) -> None:
    boxes, features = _boxes(2, 20), _features(2, levels=1)
    boxes[0, :6] = [
        [-30, -20, 130, 90], [0, 0, 96, 64], [90, 60, 300, 200], [5, 5, 5, 5], [3, 0, 4, 64],
        [200, 200, 220, 220],
    ]  # fmt: skip
    attributes = {**ATTRIBUTES, "sampling_ratio": 0, "spatial_scales": [0.25], "aligned": aligned}
    rois = torch.from_numpy(np.concatenate([np.repeat([[0], [1]], 20, 0), boxes.reshape(-1, 4)], 1))
    feature = torch.from_numpy(features[0])
    expected = roi_align(feature, rois.float(), 7, 0.25, -1, bool(aligned)).numpy()
    inputs = _inputs(boxes, features)
    model = one_node_model("MultilevelRoIAlign", inputs, {"y": TensorProto.FLOAT}, **attributes)
    for name, (found,) in every_body(model, inputs):
        np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=5e-5, err_msg=name)


def test_adaptive_maximum_without_plugins_is_refused() -> None:
    inputs = _inputs(_boxes(1, 4), _features(1, levels=1))
    attributes = {**ATTRIBUTES, "sampling_ratio": 0, "spatial_scales": [0.25], "mode": "max"}
    model = one_node_model("MultilevelRoIAlign", inputs, {"y": TensorProto.FLOAT}, **attributes)
    with pytest.raises(UnsupportedTargetError, match="sampling_ratio 0"):
        lower(model, "pluginless")


@pytest.mark.parametrize("ratio", [0, 2])
def test_unusable_boxes_pool_zeros(ratio: int) -> None:
    boxes, features = _boxes(1, 6), _features(1)
    for row, (place, value) in enumerate([(0, np.nan), (1, np.inf), (2, -np.inf), (3, 1e10)]):
        boxes[0, row, place] = value
    inputs = _inputs(boxes, features)
    attributes = {**ATTRIBUTES, "sampling_ratio": ratio}
    model = one_node_model("MultilevelRoIAlign", inputs, {"y": TensorProto.FLOAT}, **attributes)
    for name, (found,) in every_body(model, inputs):
        assert (found[0, :4] == 0).all(), name
        assert np.abs(found[0, 4:]).max() > 0.1, name


def test_int8_features_are_dequantised() -> None:
    boxes, features = _boxes(2, 30), _features(2)
    narrow = [np.clip(np.round(f / 0.03), -127, 127).astype(np.int8) for f in features]
    expected = _torchvision(boxes, [n.astype(np.float32) * np.float32(0.03) for n in narrow])
    inputs = _inputs(boxes, narrow)
    attributes = {**ATTRIBUTES, "feature_scale": 0.03}
    model = one_node_model("MultilevelRoIAlign", inputs, {"y": TensorProto.FLOAT}, **attributes)
    for name, (found,) in every_body(model, inputs):
        np.testing.assert_allclose(found, expected, atol=5e-5, err_msg=name)


def test_maximum_equals_brute_force() -> None:
    boxes, features = _boxes(1, 12), _features(1, levels=1)
    attributes = {**ATTRIBUTES, "mode": "max", "spatial_scales": [0.25]}
    inputs = _inputs(boxes, features)
    model = one_node_model("MultilevelRoIAlign", inputs, {"y": TensorProto.FLOAT}, **attributes)
    expected = np.stack([_brute_maximum(features[0][0], box * 0.25) for box in boxes[0]])
    for name, (found,) in every_body(model, inputs):
        np.testing.assert_allclose(found[0], expected, atol=5e-5, err_msg=name)


def _brute_maximum(feature: np.ndarray, box: np.ndarray) -> np.ndarray:
    """RoIAlign with the maximum of 2 x 2 samples a bin, one point after another."""
    x0, y0, x1, y1 = box.astype(np.float64)
    width, height = max(x1 - x0, 1.0) / 7, max(y1 - y0, 1.0) / 7
    result = np.full((feature.shape[0], 7, 7), -np.inf)
    for i in range(7):
        for j in range(7):
            for a in (0.25, 0.75):
                for b in (0.25, 0.75):
                    value = _bilinear(feature, y0 + (i + a) * height, x0 + (j + b) * width)
                    result[:, i, j] = np.maximum(result[:, i, j], value)
    return result


def _bilinear(feature: np.ndarray, y: float, x: float) -> np.ndarray:
    _, height, width = feature.shape
    if y < -1 or y > height or x < -1 or x > width:
        return np.zeros(feature.shape[0])
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    low_y, low_x = math.floor(y), math.floor(x)
    high_y, high_x = min(low_y + 1, height - 1), min(low_x + 1, width - 1)
    dy, dx = y - low_y, x - low_x
    top = feature[:, low_y, low_x] * (1 - dx) + feature[:, low_y, high_x] * dx
    bottom = feature[:, high_y, low_x] * (1 - dx) + feature[:, high_y, high_x] * dx
    return top * (1 - dy) + bottom * dy


def test_worked_example_of_the_literature() -> None:
    feature = np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)
    boxes = np.array([[[1.2, 0.8, 2.8, 2.2]]], np.float32)
    attributes = {
        **ATTRIBUTES, "sampling_ratio": 1, "spatial_scales": [1.0], "output_height": 2,
        "output_width": 2,
    }  # fmt: skip
    inputs = _inputs(boxes, [feature])
    model = one_node_model("MultilevelRoIAlign", inputs, {"y": TensorProto.FLOAT}, **attributes)
    for name, (found,) in every_body(model, inputs):
        assert found[0, 0, 0, 0, 0] == pytest.approx(7.2, abs=1e-5), name


box = st.tuples(*[st.floats(-40, 140, width=32)] * 2, *[st.floats(0, 120, width=32)] * 2)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(box, min_size=4, max_size=4), st.sampled_from([0, 1]))
def test_drawn_boxes(drawn: list[tuple[float, ...]], aligned: int) -> None:
    boxes = np.array([[(x, y, x + w, y + h) for x, y, w, h in drawn]], np.float32)
    features = _features(1)
    attributes = {**ATTRIBUTES, "aligned": aligned}
    inputs = _inputs(boxes, features)
    model = one_node_model("MultilevelRoIAlign", inputs, {"y": TensorProto.FLOAT}, **attributes)
    expected = multilevel_roialign(
        torch.from_numpy(boxes), [torch.from_numpy(f) for f in features], **attributes
    ).numpy()
    for name, (found,) in every_body(model, inputs):
        np.testing.assert_allclose(found, expected, atol=2e-4, err_msg=name)


@st.composite
def pyramids(draw: st.DrawFn) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Features of any levels, sizes and type, degenerate boxes among others, and attributes."""
    generator = np.random.default_rng(draw(st.integers(0, 10_000)))
    batch, levels = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    sizes = [(draw(st.integers(1, 20)), draw(st.integers(1, 20))) for _ in range(levels)]
    features = [generator.normal(size=(batch, 2, *size)) for size in sizes]
    kind = draw(st.sampled_from(["float32", "float16", "int8"]))
    if kind == "int8":
        features = [np.clip(np.rint(f / 0.03), -127, 127) for f in features]
    start = generator.uniform(-30, 110, (batch, 9, 2))
    sides = generator.uniform(0, 1, (batch, 9, 2)) ** 3 * 160
    boxes = np.concatenate([start, start + sides], -1)
    boxes[:, 0] = [5, 5, 5, 5]
    boxes[:, 1] = [30, 40, 10, 20]
    boxes[:, 2, 1] = np.nan
    boxes[:, 3, 2] = 1e10
    boxes[:, 4] = [-300, -200, 400, 500]
    attributes = {
        **ATTRIBUTES,
        "sampling_ratio": draw(st.integers(1, 5)),
        "aligned": draw(st.sampled_from([0, 1])),
        "mode": draw(st.sampled_from(["avg", "max"])),
        "output_height": draw(st.integers(1, 4)),
        "output_width": draw(st.integers(1, 4)),
        "spatial_scales": [float(generator.uniform(0.05, 1)) for _ in range(levels)],
        "feature_scale": 0.03 if kind == "int8" else 1.0,
    }
    return _inputs(boxes.astype(np.float32), [f.astype(kind) for f in features]), attributes


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pyramids())
def test_without_plugins_any_pyramid_is_read_in_its_own_type(
    drawn: tuple[dict[str, np.ndarray], dict[str, Any]],
) -> None:
    inputs, attributes = drawn
    boxes, *features = (torch.from_numpy(value) for value in inputs.values())
    expected = multilevel_roialign(boxes, features, **attributes).numpy()
    kind = {"float16": TensorProto.FLOAT16}.get(str(expected.dtype), TensorProto.FLOAT)
    model = one_node_model("MultilevelRoIAlign", inputs, {"y": kind}, **attributes)
    lowered = lower(model, "pluginless")
    assert not {"RoiAlign", "NonZero", "GridSample"} & {node.op_type for node in lowered.graph.node}
    (found,) = run(lowered, inputs)
    assert found.dtype == expected.dtype
    assert (found[:, 2:4] == 0).all()  # no number, and beyond what is usable
    # as in `test_drawn_boxes`, and one unit in the last place of a float16 below 4
    atol = 2e-3 if expected.dtype == np.float16 else 2e-4
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mode": "sum"}, "mode"),
        ({"aligned": 2}, "aligned"),
        ({"output_height": 0}, "output_height"),
        ({"sampling_ratio": -1}, "sampling_ratio"),
    ],
)
def test_illegal_attributes_are_refused(change: dict[str, Any], words: str) -> None:
    inputs = _inputs(_boxes(1, 3), _features(1))
    attributes = {**ATTRIBUTES, **change}
    model = one_node_model("MultilevelRoIAlign", inputs, {"y": TensorProto.FLOAT}, **attributes)
    with pytest.raises(UnsupportedModelError, match=words):
        attach_functions(model)
