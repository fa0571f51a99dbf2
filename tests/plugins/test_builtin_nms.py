"""BatchedNMS made of TensorRT 8's plugins, emulated, against torchvision and the reference."""

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from maskrt.core import UnsupportedTargetError
from maskrt.plugins import lower

from .tensorrt8 import run_lowered

torch = pytest.importorskip("torch")

from maskrt.plugins.batched_nms.reference import batched_nms  # noqa: E402

from .builtin_models import nms_model, run_checked  # noqa: E402
from .test_batched_nms import ATTRIBUTES as NMS  # noqa: E402
from .test_batched_nms import _candidates  # noqa: E402
from .test_batched_nms import _torchvision as torchvision_nms  # noqa: E402

pytestmark = pytest.mark.torch


def _assert_nms(inputs: dict[str, np.ndarray], **attributes: Any) -> list[np.ndarray]:
    """See that labels known and unknown to the graph give what the reference gives."""
    merged = {**NMS, **attributes}
    reference = batched_nms(*(torch.from_numpy(v) for v in inputs.values()), **merged)
    expected = [value.numpy() for value in reference]
    real = np.arange(merged["max_outputs"]) < expected[4][:, None]
    expected[0] = np.where(real[..., None], expected[0], np.float32(0))  # no NaN in the padding
    for constant in (False, True):
        found = run_checked(nms_model(inputs, constant=constant, **attributes), inputs)
        for mine, theirs in zip(found, expected, strict=True):
            assert mine.dtype == theirs.dtype
            np.testing.assert_array_equal(mine, theirs)
    return found


@pytest.mark.parametrize("class_agnostic", [0, 1])
@pytest.mark.parametrize("constant", [False, True])
def test_nms_equals_torchvision(class_agnostic: int, constant: bool) -> None:
    inputs = _candidates(3, 200)
    inputs["scores"] += np.linspace(1e-3, 0, 200, dtype=np.float32)  # no ties: see test_batched_nms
    attributes = {**NMS, "class_agnostic": class_agnostic}
    model = nms_model(inputs, constant=constant, class_agnostic=class_agnostic)
    boxes, scores, labels, indices, count = run_checked(model, inputs)
    for picture in range(3):
        expected = torchvision_nms(inputs, picture, **attributes)
        assert count[picture] == len(expected) > 10
        np.testing.assert_array_equal(indices[picture, : count[picture]], expected)
        for mine, name in ((boxes, "boxes"), (scores, "scores"), (labels, "labels")):
            np.testing.assert_array_equal(
                mine[picture, : count[picture]], inputs[name][picture, expected]
            )
            assert not mine[picture, count[picture] :].any()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(0, 10_000),
    st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]),
    st.sampled_from([0, 1]),
    st.sampled_from([1, 7, 60]),
    st.sampled_from([-1.0, 0.0, 0.001, 0.1, 0.5]),
)
def test_drawn_candidates_with_equal_scores(
    seed: int, iou: float, agnostic: int, most: int, least: float
) -> None:
    """Equal scores come in any order out of the plugin's sort, and in input order out of ours."""
    inputs = _candidates(2, 60, seed=seed)
    _assert_nms(
        inputs, iou_threshold=iou, class_agnostic=agnostic, max_outputs=most, score_threshold=least
    )


_NUMBER = st.one_of(
    st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e30, 1e-30, 3e38, -3e38]),
    st.integers(-4, 4).map(float),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(_NUMBER, _NUMBER, _NUMBER, _NUMBER, _NUMBER, st.integers(-2, 3)),
        min_size=1,
        max_size=8,
    ),
    # Below the least normal number the plugin's threshold is that number (see `builtin.py`).
    st.sampled_from([float(np.finfo(np.float32).tiny), 0.25, 0.5, 1.0]),
    st.sampled_from([0, 1]),
    st.sampled_from([-3.5, 0.0, 2.0]),
)
def test_degenerate_candidates(
    drawn: list[tuple[Any, ...]], iou: float, agnostic: int, least: float
) -> None:
    rows = np.array([row[:5] for row in drawn], np.float32)
    inputs = {
        "boxes": np.ascontiguousarray(rows[None, :, :4]),
        "scores": np.ascontiguousarray(rows[None, :, 4]),
        "labels": np.array([[row[5] for row in drawn]], np.int32),
    }
    _assert_nms(
        inputs, iou_threshold=iou, class_agnostic=agnostic, max_outputs=len(drawn),
        score_threshold=least,
    )  # fmt: skip


def test_boxes_without_area_suppress_nothing() -> None:
    """The plugin would turn inverted boxes around, and see every one of these as the first."""
    boxes = [[0, 0, 9, 9], [9, 9, 0, 0], [9, 0, 0, 9], [0, 9, 9, 0], [9, 9, 0, 0], [0, 0, 9, 9]]
    inputs = {
        "boxes": np.array([boxes], np.float32),
        "scores": np.linspace(0.9, 0.4, 6, dtype=np.float32)[None],
        "labels": np.ones((1, 6), np.int32),
    }
    found = _assert_nms(inputs, max_outputs=6)
    assert found[3][0, : found[4][0]].tolist() == [0, 1, 2, 3, 4]


def test_nothing_is_kept_in_any_or_in_one_picture() -> None:
    inputs = _candidates(3, 20)
    inputs["scores"][1] = 0
    found = _assert_nms(inputs, max_outputs=5)
    assert found[4].tolist() == [5, 0, 5]
    inputs["scores"][:] = 0.1  # not above the threshold
    found = _assert_nms(inputs, max_outputs=5, score_threshold=float(np.float32(0.1)))
    assert not any(np.any(value) for value in found)


def test_all_alike_leaves_one_of_each_label() -> None:
    inputs = {
        "boxes": np.tile(np.array([1, 2, 30, 40], np.float32), (2, 25, 1)),
        "scores": np.full((2, 25), 0.5, np.float32),
        "labels": np.arange(50).reshape(2, 25).astype(np.int32) % 4 * 1000 - 7,
    }
    found = _assert_nms(inputs, max_outputs=25)
    assert found[4].tolist() == [4, 4]
    np.testing.assert_array_equal(found[3][:, :4], [[0, 1, 2, 3]] * 2)
    found = _assert_nms(inputs, max_outputs=25, class_agnostic=1)
    assert found[4].tolist() == [1, 1]


@pytest.mark.parametrize("iou", [0.5, 1 / 3, 0.7, 1.0])
def test_overlaps_at_the_threshold_and_a_bit_beside_it(iou: float) -> None:
    """The plugin suppresses at IoU ≥ t: ours must not, at t itself, and must at the next float."""
    at = np.float32(iou)
    kept = [_kept_of_pair(np.nextafter(at, at - 1), iou), _kept_of_pair(at, iou)]
    assert kept == [2, 2]
    assert iou == 1 or _kept_of_pair(np.nextafter(at, at + 1), iou) == 1


def test_threshold_zero_takes_any_overlap() -> None:
    assert _kept_of_pair(np.float32(0), 0.0) == 2
    assert _kept_of_pair(np.float32(1e-30), 0.0) == 1


def _kept_of_pair(overlap: np.float32, iou: float) -> int:
    """Return how many of two boxes of this very IoU are kept."""
    side = np.float32(1024)  # a power of two, so the quotient of the areas is exact
    inputs = {
        "boxes": np.array([[[0, 0, side, 1], [0, 0, side * overlap, 1]]], np.float32),
        "scores": np.array([[0.9, 0.8]], np.float32),
        "labels": np.ones((1, 2), np.int32),
    }
    return int(_assert_nms(inputs, iou_threshold=iou, max_outputs=2)[4][0])


def test_our_threshold_given_as_it_is_would_suppress_too_much() -> None:
    inputs = {
        "boxes": np.array([[[0, 0, 10, 10], [0, 0, 10, 5]]], np.float32),  # IoU exactly 0.5
        "scores": np.array([[0.9, 0.8]], np.float32),
        "labels": np.ones((1, 2), np.int32),
    }
    lowered = lower(nms_model(inputs, max_outputs=2), "builtin")
    assert run_lowered(lowered, inputs)[4] == 2
    (plugin,) = (node for node in lowered.graph.node if node.domain)
    (threshold,) = (a for a in plugin.attribute if a.name == "iou_threshold")
    assert threshold.f == np.nextafter(np.float32(0.5), np.float32(1))
    threshold.f = 0.5
    assert run_lowered(lowered, inputs)[4] == 1


def test_constant_labels_make_as_many_classes_as_there_are() -> None:
    inputs = _candidates(1, 4819, classes=5)  # the RPN of an 800 x 1344 canvas
    lowered = lower(nms_model(inputs, constant=True, max_outputs=1000), "builtin")
    assert _score_shape(lowered, inputs) == (1, 4819, 5)
    inputs = _candidates(1, 30, classes=5)
    lowered = lower(nms_model(inputs, max_outputs=10), "builtin")
    assert _score_shape(lowered, inputs) == (1, 30, 30)


def _score_shape(lowered: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> tuple[int, ...]:
    (plugin,) = (node for node in lowered.graph.node if node.domain)
    inferred = onnx.shape_inference.infer_shapes(lowered)
    (info,) = (i for i in inferred.graph.value_info if i.name == plugin.input[1])
    return tuple(d.dim_value for d in info.type.tensor_type.shape.dim)


def test_labels_that_a_caller_may_replace_are_not_constant() -> None:
    inputs = _candidates(1, 30, classes=5)
    model = nms_model(inputs, max_outputs=10)
    model.graph.initializer.append(numpy_helper.from_array(inputs["labels"], "labels"))
    assert _score_shape(lower(model, "builtin"), inputs) == (1, 30, 30)


@pytest.mark.parametrize(
    ("batch", "count", "attributes", "words"),
    [
        (1, 5001, {"class_agnostic": 1}, "5001 candidates a picture.*best 5000"),
        (1, 4097, {}, "1 x 4097 candidates of up to 4097 classes"),
        (3, 2400, {}, "3 x 2400 candidates of up to 2400 classes"),
        (1, 4000, {"max_outputs": 3841}, "TopK at most 3840"),
    ],
)
def test_sizes_above_the_limits_are_refused(
    batch: int, count: int, attributes: dict[str, Any], words: str
) -> None:
    with pytest.raises(UnsupportedTargetError, match=words):
        lower(nms_model(_candidates(batch, count), **attributes), "builtin")
