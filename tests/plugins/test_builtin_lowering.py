"""The form for TensorRT 8.5 and 8.6, its plugins emulated, against torchvision and the reference.

What the emulators compute is in `tensorrt8.py`; no device has run these graphs yet.
"""

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from maskrt.core import UnsupportedTargetError
from maskrt.plugins import OPERATORS, attach_functions, lower
from maskrt.plugins.builtin import FLOAT32_PREFIX

from .bodies import one_node_model, run
from .tensorrt8 import CREATORS, DOMAIN, run_lowered

torch = pytest.importorskip("torch")
from torchvision.ops import roi_align  # noqa: E402

from maskrt.export import export_model  # noqa: E402
from maskrt.plugins.batched_nms.reference import batched_nms  # noqa: E402
from maskrt.plugins.mask_iou.reference import mask_iou  # noqa: E402
from maskrt.plugins.matrix_nms.reference import matrix_nms  # noqa: E402
from maskrt.plugins.multilevel_roialign.reference import multilevel_roialign  # noqa: E402

from ..export.detectors import enliven, tiny_mask_rcnn  # noqa: E402
from .test_batched_nms import ATTRIBUTES as NMS  # noqa: E402
from .test_batched_nms import OUTPUTS, _candidates  # noqa: E402
from .test_batched_nms import _torchvision as torchvision_nms  # noqa: E402
from .test_multilevel_roialign import ATTRIBUTES as ROI  # noqa: E402
from .test_multilevel_roialign import _boxes, _features, _inputs  # noqa: E402
from .test_multilevel_roialign import _torchvision as torchvision_pool  # noqa: E402

pytestmark = pytest.mark.torch

PARSER_OPSET = 17  # the last that the parsers of 8.5 and 8.6 know

# Of the operators that both parsers import (onnx-tensorrt, docs/operators.md), those in use, and
# the types of their first input, as far as 8.5 restricts them. int64 becomes INT32 there.
NUMBERS = {TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64}
IMPORTED = {
    "Abs": NUMBERS, "Add": NUMBERS, "And": {TensorProto.BOOL}, "Cast": {*NUMBERS, TensorProto.BOOL},
    "Constant": set(), "Equal": NUMBERS, "Expand": NUMBERS, "GatherElements": NUMBERS,
    "Greater": NUMBERS, "GreaterOrEqual": NUMBERS, "Identity": NUMBERS, "Less": NUMBERS,
    "LessOrEqual": NUMBERS, "Max": NUMBERS, "Mul": NUMBERS, "Or": {TensorProto.BOOL},
    "ReduceSum": {TensorProto.FLOAT}, "Reshape": NUMBERS, "ScatterElements": {TensorProto.FLOAT},
    "Slice": NUMBERS, "Sqrt": {TensorProto.FLOAT}, "Sub": NUMBERS, "TopK": {TensorProto.FLOAT},
    "Unsqueeze": {*NUMBERS, TensorProto.BOOL}, "Where": {TensorProto.BOOL},
    "DequantizeLinear": {TensorProto.INT8},
}  # fmt: skip


def _nms_model(
    inputs: dict[str, np.ndarray], *, constant: bool = False, **attributes: Any
) -> onnx.ModelProto:
    """Return a model of one BatchedNMS; `constant` labels are held by the graph."""
    merged = {**NMS, **attributes}
    model = one_node_model("BatchedNMS", inputs, OUTPUTS, **merged)
    batch, kept = len(inputs["scores"]), merged["max_outputs"]
    _state_outputs(model, [(batch, kept, 4), *[(batch, kept)] * 3, (batch,)])
    if constant:
        del model.graph.input[2]
        model.graph.initializer.append(numpy_helper.from_array(inputs["labels"], "labels"))
    return model


def _pool_model(inputs: dict[str, np.ndarray], **attributes: Any) -> onnx.ModelProto:
    merged = {**ROI, **attributes}
    model = one_node_model("MultilevelRoIAlign", inputs, {"y": TensorProto.FLOAT}, **merged)
    size = (merged["output_height"], merged["output_width"])
    _state_outputs(model, [(*inputs["boxes"].shape[:2], inputs["p0"].shape[1], *size)])
    return model


def _state_outputs(model: onnx.ModelProto, shapes: list[tuple[int, ...]]) -> None:
    stated = [
        helper.make_tensor_value_info(o.name, o.type.tensor_type.elem_type, shape)
        for o, shape in zip(model.graph.output, shapes, strict=True)
    ]
    del model.graph.output[:]
    model.graph.output.extend(stated)


def _run(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Lower, check and run a model."""
    lowered = lower(model, "builtin")
    onnx.checker.check_model(lowered, full_check=True)
    given_ = {i.name: inputs[i.name] for i in lowered.graph.input}
    return run_lowered(lowered, given_)


def _assert_nms(inputs: dict[str, np.ndarray], **attributes: Any) -> list[np.ndarray]:
    """See that labels known and unknown to the graph give what the reference gives."""
    merged = {**NMS, **attributes}
    reference = batched_nms(*(torch.from_numpy(v) for v in inputs.values()), **merged)
    expected = [value.numpy() for value in reference]
    real = np.arange(merged["max_outputs"]) < expected[4][:, None]
    expected[0] = np.where(real[..., None], expected[0], np.float32(0))  # no NaN in the padding
    for constant in (False, True):
        found = _run(_nms_model(inputs, constant=constant, **attributes), inputs)
        for mine, theirs in zip(found, expected, strict=True):
            assert mine.dtype == theirs.dtype
            np.testing.assert_array_equal(mine, theirs)
    return found


# What the graph is made of


def _lowered_examples() -> list[onnx.ModelProto]:
    candidates, pooled = _candidates(2, 30), _inputs(_boxes(2, 5), _features(2))
    return [
        *(
            lower(_nms_model(candidates, constant=c, max_outputs=9, class_agnostic=a), "builtin")
            for c in (False, True)
            for a in (0, 1)
        ),
        *(
            lower(_pool_model(pooled, aligned=a, sampling_ratio=r), "builtin")
            for a in (0, 1)
            for r in (0, 2)
        ),
    ]


def test_attributes_are_those_of_the_published_creators() -> None:
    seen = set()
    for model in _lowered_examples():
        plugins = [node for node in model.graph.node if node.domain]
        assert plugins
        for node in plugins:
            assert node.domain == DOMAIN
            fields = {a.name: a.type for a in node.attribute}
            assert fields.pop("plugin_version") == AttributeProto.STRING
            assert fields == CREATORS[node.op_type]
            seen.add(node.op_type)
    assert seen == set(CREATORS)


def test_the_rest_is_what_both_parsers_import() -> None:
    for model in _lowered_examples():
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        kinds = {
            info.name: info.type.tensor_type.elem_type
            for info in (*inferred.graph.value_info, *inferred.graph.input)
        }
        kinds |= {t.name: t.data_type for t in model.graph.initializer}
        for node in model.graph.node:
            if node.domain:
                continue
            kind = kinds.get(node.input[0]) if node.input else None
            if kind is not None:
                assert kind in IMPORTED[node.op_type], node
            assert node.op_type in IMPORTED
            assert node.name.startswith(FLOAT32_PREFIX)


def test_the_graph_means_the_same_in_the_parsers_opset() -> None:
    inputs = _candidates(2, 40)
    lowered = lower(_nms_model(inputs, max_outputs=15), "builtin")
    expected = run_lowered(lowered, inputs)
    assert expected[4].min() > 1
    (standard,) = (o for o in lowered.opset_import if o.domain == "")
    standard.version = PARSER_OPSET
    onnx.checker.check_model(lowered, full_check=True)
    for mine, theirs in zip(run_lowered(lowered, inputs), expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_attached_functions_hold_plugins_too() -> None:
    inputs = _candidates(1, 20)
    attached = attach_functions(_nms_model(inputs, max_outputs=5), "builtin")
    (function,) = attached.functions
    assert {o.domain for o in function.opset_import} == {"", DOMAIN}


def test_other_operators_have_no_such_form() -> None:
    lacking = {name for name, operator in OPERATORS.items() if operator.builtin is None}
    assert set(OPERATORS) - lacking == {
        "BatchedNMS",
        "MaskIoU",
        "MatrixNMS",
        "MultilevelRoIAlign",
    }
    inputs = {
        "probabilities": np.zeros((1, 2, 8, 8), np.float32),
        "boxes": np.zeros((1, 2, 4), np.float32),
    }
    attributes = {"height": 20, "width": 20, "threshold": 0.5, "packed": 0}
    model = one_node_model("PasteMasks", inputs, {"m": TensorProto.UINT8}, **attributes)
    with pytest.raises(UnsupportedTargetError, match="PasteMasks cannot be made of the plugins"):
        lower(model, "builtin")


# MaskIoU, MatrixNMS


def test_mask_operators_need_no_plugin() -> None:
    """Standard operators alone, every node kept in FP32, and the numbers of the reference."""
    generator = np.random.default_rng(0)
    masks = {"masks": generator.uniform(0, 1, (2, 20, 13, 9)).astype(np.float32)}
    kinds = {"iou": TensorProto.FLOAT, "area": TensorProto.FLOAT}
    iou_model = one_node_model("MaskIoU", masks, kinds, threshold=0.5)
    iou, area = _run_standard(iou_model, masks)
    expected = mask_iou(torch.from_numpy(masks["masks"]), threshold=0.5)
    assert np.array_equal(iou, expected[0].numpy())
    assert np.array_equal(area, expected[1].numpy())
    inputs = {
        "iou": iou,
        "scores": generator.uniform(0, 1, (2, 20)).astype(np.float32),
        "labels": generator.integers(0, 2, (2, 20)).astype(np.int32),
    }
    options = {"method": "gaussian", "sigma": 2.0, "class_agnostic": 0}
    kind = {"decayed": TensorProto.FLOAT}
    (decayed,) = _run_standard(one_node_model("MatrixNMS", inputs, kind, **options), inputs)
    tensors = (torch.from_numpy(value) for value in inputs.values())
    reference = matrix_nms(*tensors, **options).numpy()
    assert (reference < inputs["scores"]).any()
    assert np.allclose(decayed, reference, rtol=1e-6)  # an exponential may round otherwise


def _run_standard(model: onnx.ModelProto, inputs: dict[str, Any]) -> list[np.ndarray]:
    (function,) = attach_functions(model, "builtin").functions
    assert all(node.name.startswith(FLOAT32_PREFIX) for node in function.node)
    assert {o.domain for o in function.opset_import} == {""}
    return run(lower(model, "builtin"), inputs)


# BatchedNMS


@pytest.mark.parametrize("class_agnostic", [0, 1])
@pytest.mark.parametrize("constant", [False, True])
def test_nms_equals_torchvision(class_agnostic: int, constant: bool) -> None:
    inputs = _candidates(3, 200)
    inputs["scores"] += np.linspace(1e-3, 0, 200, dtype=np.float32)  # no ties: see test_batched_nms
    attributes = {**NMS, "class_agnostic": class_agnostic}
    model = _nms_model(inputs, constant=constant, class_agnostic=class_agnostic)
    boxes, scores, labels, indices, count = _run(model, inputs)
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
    lowered = lower(_nms_model(inputs, max_outputs=2), "builtin")
    assert run_lowered(lowered, inputs)[4] == 2
    (plugin,) = (node for node in lowered.graph.node if node.domain)
    (threshold,) = (a for a in plugin.attribute if a.name == "iou_threshold")
    assert threshold.f == np.nextafter(np.float32(0.5), np.float32(1))
    threshold.f = 0.5
    assert run_lowered(lowered, inputs)[4] == 1


def test_constant_labels_make_as_many_classes_as_there_are() -> None:
    inputs = _candidates(1, 4819, classes=5)  # the RPN of an 800 x 1344 canvas
    lowered = lower(_nms_model(inputs, constant=True, max_outputs=1000), "builtin")
    assert _score_shape(lowered, inputs) == (1, 4819, 5)
    inputs = _candidates(1, 30, classes=5)
    lowered = lower(_nms_model(inputs, max_outputs=10), "builtin")
    assert _score_shape(lowered, inputs) == (1, 30, 30)


def _score_shape(lowered: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> tuple[int, ...]:
    (plugin,) = (node for node in lowered.graph.node if node.domain)
    inferred = onnx.shape_inference.infer_shapes(lowered)
    (info,) = (i for i in inferred.graph.value_info if i.name == plugin.input[1])
    return tuple(d.dim_value for d in info.type.tensor_type.shape.dim)


def test_labels_that_a_caller_may_replace_are_not_constant() -> None:
    inputs = _candidates(1, 30, classes=5)
    model = _nms_model(inputs, max_outputs=10)
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
        lower(_nms_model(_candidates(batch, count), **attributes), "builtin")


def test_half_precision_boxes_are_refused() -> None:
    for model, place in (
        (_nms_model(_candidates(1, 10), max_outputs=5), 1),
        (_pool_model(_inputs(_boxes(1, 3), _features(1))), 0),
    ):
        model.graph.input[place].type.tensor_type.elem_type = TensorProto.FLOAT16
        with pytest.raises(UnsupportedTargetError, match=r"are FLOAT16.*whole pixels"):
            lower(model, "builtin")


# MultilevelRoIAlign


def test_pooling_equals_torchvision() -> None:
    boxes, features = _boxes(2, 40), _features(2)
    inputs = _inputs(boxes, features)
    (found,) = _run(_pool_model(inputs), inputs)
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
    model = _pool_model(inputs, aligned=aligned, sampling_ratio=ratio, **size)
    (found,) = _run(model, inputs)
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
    (found,) = _run(_pool_model(inputs, aligned=aligned, sampling_ratio=ratio), inputs)
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
    (found,) = _run(_pool_model(inputs, **attributes), inputs)
    np.testing.assert_allclose(found[0], expected, atol=2e-5)


def test_a_level_without_numbers_spoils_its_own_boxes_alone() -> None:
    boxes, features = _boxes(1, 40), _features(1)
    clean = torchvision_pool(boxes, features)
    features[1][:] = np.nan
    inputs = _inputs(boxes, features)
    (found,) = _run(_pool_model(inputs), inputs)
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
    model = _pool_model(inputs, spatial_scales=[0.25])
    for info in (*model.graph.input[1:], *model.graph.output):
        info.type.tensor_type.elem_type = TensorProto.FLOAT16
    inputs["p0"] = features[0].astype(np.float16)
    (found,) = _run(model, inputs)
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
    (found,) = _run(_pool_model(inputs, feature_scale=0.02), inputs)
    worth = [s.astype(np.float32) * np.float32(0.02) for s in steps]
    np.testing.assert_allclose(found, torchvision_pool(boxes, worth), atol=1e-5)


def test_maximum_is_refused() -> None:
    inputs = _inputs(_boxes(1, 3), _features(1))
    with pytest.raises(UnsupportedTargetError, match=r"mode 'max'.*weighted corners"):
        lower(_pool_model(inputs, mode="max"), "builtin")


# A whole detector


@pytest.mark.parametrize(("size", "batch"), [((128, 128), 1), ((96, 160), 2)])
def test_a_whole_mask_rcnn_finds_what_torchvision_finds(
    photos: list[np.ndarray], size: tuple[int, int], batch: int
) -> None:
    torch.manual_seed(0)
    exported = export_model(enliven(tiny_mask_rcnn(), photos), input_size=size, batch=batch)
    lowered = lower(exported.model, "builtin")
    onnx.checker.check_model(lowered)
    layers = [node.name for node in lowered.graph.node if node.name.startswith(FLOAT32_PREFIX)]
    assert len(layers) == len(set(layers)) > 200
    assert {f"{FLOAT32_PREFIX}{n}" for n in ("BatchedNMS.0", "MultilevelRoIAlign.1")} <= {
        layer.rpartition("/")[0] for layer in layers
    }
    plugins = [node.op_type for node in lowered.graph.node if node.domain]
    assert sorted(plugins) == ["EfficientNMS_ONNX_TRT"] * 2 + ["ROIAlign_TRT"] * 6
    images = np.stack([photo[40 : 40 + size[0], 60 : 60 + size[1]] for photo in photos[:batch]])
    names = [o.name for o in lowered.graph.output]
    found = dict(zip(names, run_lowered(lowered, {"images": images}), strict=True))
    expected = exported.reference.run(images)
    np.testing.assert_array_equal(found["count"], expected["count"])
    assert expected["count"].min() >= 5
    np.testing.assert_array_equal(found["labels"], expected["labels"])
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-4)
    np.testing.assert_allclose(found["boxes"], expected["boxes"], atol=1e-2)  # pixels
    np.testing.assert_allclose(found["masks"], expected["masks"], atol=1e-3)
