"""MultilevelRoIAlign made of TensorRT 8's plugins, emulated, against torchvision and ours."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from maskrt.core import UnsupportedTargetError
from maskrt.plugins import lower

torch = pytest.importorskip("torch")
from torchvision.ops import roi_align  # noqa: E402

from maskrt.plugins.multilevel_roialign.reference import multilevel_roialign  # noqa: E402

from .builtin_models import pool_model, run_checked  # noqa: E402
from .test_multilevel_roialign import ATTRIBUTES as ROI  # noqa: E402
from .test_multilevel_roialign import _boxes, _features, _inputs  # noqa: E402
from .test_multilevel_roialign import _torchvision as torchvision_pool  # noqa: E402

pytestmark = pytest.mark.torch


def test_pooling_equals_torchvision() -> None:
    boxes, features = _boxes(2, 40), _features(2)
    inputs = _inputs(boxes, features)
    (found,) = run_checked(pool_model(inputs), inputs)
    np.testing.assert_allclose(found, torchvision_pool(boxes, features), atol=1e-5)


@pytest.mark.parametrize("aligned", [0, 1])
@pytest.mark.parametrize("ratio", [0, 1, 2, 3])
def test_one_level_equals_roi_align(aligned: int, ratio: int) -> None:
    boxes, features = _boxes(1, 30), _features(1, levels=1)
    size = {"output_height": 5, "output_width": 3, "spatial_scales": [0.25]}
    rois = torch.cat([torch.zeros(30, 1), torch.from_numpy(boxes[0])], 1)
    expected = roi_align(
        torch.from_numpy(features[0]), rois, (5, 3), 0.25, ratio or -1, bool(aligned)
    ).numpy()
    inputs = _inputs(boxes, features)
    model = pool_model(inputs, aligned=aligned, sampling_ratio=ratio, **size)
    (found,) = run_checked(model, inputs)
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


DEGENERATE = np.array(
    [[[-50, -50, -20, -20], [200, 200, 300, 300], [10, 10, 10, 10], [-30, 5, 30, 50],
      [0, 0, 0, 0], [80, 50, 140, 90], [30, 30, 10, 50], [30, 30, 10, 10], [5, 9, 60, 9],
      [np.nan, 0, 9, 9], [0, 0, np.inf, 9], [-np.inf, 0, np.inf, 9], [0, 0, 2e9, 2e9],
      [90, 60, 90 + 2**-17, 64], [96, 64, 96 + 2**-17, 64 + 2**-18], [-1e6, -1e6, -1e6, -1e6]]],
    np.float32,
)  # fmt: skip


@pytest.mark.parametrize("aligned", [0, 1])
@pytest.mark.parametrize("ratio", [0, 2])
def test_degenerate_boxes(aligned: int, ratio: int) -> None:
    features = _features(1)
    attributes = {**ROI, "aligned": aligned, "sampling_ratio": ratio}
    maps = [torch.from_numpy(f) for f in features]
    expected = multilevel_roialign(torch.from_numpy(DEGENERATE), maps, **attributes).numpy()
    if aligned and ratio == 0:
        expected[0, 13:15] = 0  # sides that can vanish: the one stated difference
    inputs = _inputs(DEGENERATE, features)
    (found,) = run_checked(pool_model(inputs, aligned=aligned, sampling_ratio=ratio), inputs)
    np.testing.assert_allclose(found, expected, atol=1e-5)


_PLACE = st.integers(-40 * 256, 140 * 256).map(lambda v: v / 256)
_SIDE = st.integers(-5 * 256, 120 * 256).map(lambda v: v / 256)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(_PLACE, _PLACE, _SIDE, _SIDE), min_size=4, max_size=4),
    st.sampled_from([0, 1]),
    st.sampled_from([0, 2, 3]),
)
def test_drawn_boxes(drawn: list[tuple[float, ...]], aligned: int, ratio: int) -> None:
    boxes = np.array([[(x, y, x + w, y + h) for x, y, w, h in drawn]], np.float32)
    features = _features(1, levels=1)
    rois = torch.cat([torch.zeros(4, 1), torch.from_numpy(boxes[0])], 1)
    expected = roi_align(
        torch.from_numpy(features[0]), rois, 7, 0.25, ratio or -1, bool(aligned)
    ).numpy()
    inputs = _inputs(boxes, features)
    attributes = {"aligned": aligned, "sampling_ratio": ratio, "spatial_scales": [0.25]}
    (found,) = run_checked(pool_model(inputs, **attributes), inputs)
    np.testing.assert_allclose(found[0], expected, atol=2e-5)


def test_a_level_without_numbers_spoils_its_own_boxes_alone() -> None:
    boxes, features = _boxes(1, 40), _features(1)
    clean = torchvision_pool(boxes, features)
    features[1][:] = np.nan
    inputs = _inputs(boxes, features)
    (found,) = run_checked(pool_model(inputs), inputs)
    spoilt = np.isnan(torchvision_pool(boxes, features))
    assert 0 < spoilt.mean() < 1
    np.testing.assert_array_equal(np.isnan(found), spoilt)
    np.testing.assert_allclose(found[~spoilt], clean[~spoilt], atol=1e-5)


def test_half_precision_features_are_pooled_in_fp32() -> None:
    """The emulator takes FP32 alone; a box beyond 1024 keeps its fractions of a pixel."""
    generator = np.random.default_rng(0)
    features = [generator.normal(size=(1, 3, 16, 600)).astype(np.float32)]
    boxes = np.array([[[2040.3, 4.1, 2070.7, 40.9], [1100.6, 0, 1500.2, 60]]], np.float32)
    inputs = _inputs(boxes, features)
    model = pool_model(inputs, spatial_scales=[0.25])
    for info in (*model.graph.input[1:], *model.graph.output):
        info.type.tensor_type.elem_type = TensorProto.FLOAT16
    inputs["p0"] = features[0].astype(np.float16)
    (found,) = run_checked(model, inputs)
    assert found.dtype == np.float16
    rois = torch.cat([torch.zeros(2, 1), torch.from_numpy(boxes[0])], 1)
    rounded = torch.from_numpy(inputs["p0"].astype(np.float32))
    expected = roi_align(rounded, rois, 7, 0.25, 2, False).numpy()
    np.testing.assert_allclose(found[0].astype(np.float32), expected, atol=1e-3)
    moved = roi_align(rounded, rois.half().float(), 7, 0.25, 2, False).numpy()
    assert np.abs(moved - expected).max() > 0.05  # what FP16 RoIs would have cost


def test_int8_features_are_dequantised() -> None:
    boxes, features = _boxes(1, 20), _features(1)
    steps = [np.clip(np.round(f / 0.02), -128, 127).astype(np.int8) for f in features]
    inputs = _inputs(boxes, steps)
    (found,) = run_checked(pool_model(inputs, feature_scale=0.02), inputs)
    worth = [s.astype(np.float32) * np.float32(0.02) for s in steps]
    np.testing.assert_allclose(found, torchvision_pool(boxes, worth), atol=1e-5)


def test_maximum_is_refused() -> None:
    inputs = _inputs(_boxes(1, 3), _features(1))
    with pytest.raises(UnsupportedTargetError, match=r"mode 'max'.*weighted corners"):
        lower(pool_model(inputs, mode="max"), "builtin")
