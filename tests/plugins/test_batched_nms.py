"""Every body of BatchedNMS against torchvision's, and against greedy suppression by hand."""

import math
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from maskrt.core import UnsupportedModelError
from maskrt.plugins import attach_functions, lower

from .bodies import NMS_OUTPUTS as OUTPUTS
from .bodies import every_body, one_node_model

torch = pytest.importorskip("torch")
import torchvision  # noqa: E402

from maskrt.plugins.batched_nms.reference import batched_nms  # noqa: E402

pytestmark = pytest.mark.torch

ATTRIBUTES: dict[str, Any] = {
    "iou_threshold": 0.5,
    "score_threshold": 0.1,
    "max_outputs": 40,
    "class_agnostic": 0,
}


def _candidates(batch: int, count: int, classes: int = 4, seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    start = generator.uniform(0, 100, (batch, count, 2))
    sides = generator.uniform(5, 60, (batch, count, 2))
    return {
        "boxes": np.concatenate([start, start + sides], -1).astype(np.float32),
        # rounded, so that many scores are equal
        "scores": (generator.uniform(0, 1, (batch, count)).round(1)).astype(np.float32),
        "labels": generator.integers(1, classes + 1, (batch, count)).astype(np.int32),
    }


def _torchvision(inputs: dict[str, np.ndarray], picture: int, **attributes: Any) -> np.ndarray:
    boxes, scores, labels = (torch.from_numpy(v[picture]) for v in inputs.values())
    chosen = torch.nonzero(scores > attributes["score_threshold"])[:, 0]
    groups = torch.zeros_like(labels) if attributes["class_agnostic"] else labels
    kept = torchvision.ops.boxes._batched_nms_vanilla(
        boxes[chosen], scores[chosen], groups[chosen].long(), attributes["iou_threshold"]
    )
    return chosen[kept][: attributes["max_outputs"]].numpy()


@pytest.mark.parametrize("class_agnostic", [0, 1])
def test_every_body_equals_torchvision(class_agnostic: int) -> None:
    inputs = _candidates(3, 200)
    # torchvision orders equal scores by label, so ties are broken here for a common order
    inputs["scores"] += np.linspace(1e-3, 0, 200, dtype=np.float32)
    attributes = {**ATTRIBUTES, "class_agnostic": class_agnostic}
    model = one_node_model("BatchedNMS", inputs, OUTPUTS, **attributes)
    for name, (boxes, scores, labels, indices, count) in every_body(model, inputs):
        for picture in range(3):
            expected = _torchvision(inputs, picture, **attributes)
            found = indices[picture, : count[picture]]
            np.testing.assert_array_equal(found, expected, err_msg=name)
            np.testing.assert_array_equal(
                boxes[picture, : len(expected)], inputs["boxes"][picture, expected]
            )
            assert not boxes[picture, len(expected) :].any()
            assert not scores[picture, len(expected) :].any()
            assert not labels[picture, len(expected) :].any()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.3, 0.7]), st.sampled_from([0, 1]))
def test_drawn_candidates_with_equal_scores(seed: int, iou: float, agnostic: int) -> None:
    inputs = _candidates(2, 60, seed=seed)
    attributes = {
        **ATTRIBUTES, "iou_threshold": iou, "class_agnostic": agnostic, "max_outputs": 60,
    }  # fmt: skip
    expected = batched_nms(*(torch.from_numpy(v) for v in inputs.values()), **attributes)
    model = one_node_model("BatchedNMS", inputs, OUTPUTS, **attributes)
    for name, found in every_body(model, inputs):
        for mine, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(mine, theirs.numpy(), err_msg=name)


def test_longest_chain_of_suppressions_is_exact() -> None:
    """Each box overlaps only its neighbours: every second one survives, decided one by one."""
    count = 300
    left = np.arange(count, dtype=np.float32) * 4
    boxes = np.stack([left, 0 * left, left + 10, 0 * left + 10], -1)[None]
    inputs = {
        "boxes": boxes,
        "scores": np.linspace(1, 0.5, count, dtype=np.float32)[None],
        "labels": np.ones((1, count), np.int32),
    }
    attributes = {**ATTRIBUTES, "iou_threshold": 0.4, "max_outputs": count}
    model = one_node_model("BatchedNMS", inputs, OUTPUTS, **attributes)
    for name, found in every_body(model, inputs):
        assert found[4] == count // 2, name
        np.testing.assert_array_equal(found[3][0, : count // 2], np.arange(0, count, 2))


def _with_constant_labels(
    inputs: dict[str, np.ndarray], labels: np.ndarray, **attributes: Any
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """Return a model that holds the labels, and what is left to feed."""
    model = one_node_model("BatchedNMS", inputs, OUTPUTS, **attributes)
    model.graph.initializer.append(numpy_helper.from_array(labels, "labels"))
    (given,) = (value for value in model.graph.input if value.name == "labels")
    model.graph.input.remove(given)
    return model, {name: value for name, value in inputs.items() if name != "labels"}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(0, 10_000),
    st.sampled_from([0.3, 0.7]),
    st.lists(st.integers(1, 20), min_size=1, max_size=6),
    st.sampled_from(["together", "mixed", "by picture", "agnostic"]),
)
def test_labels_that_the_graph_holds(seed: int, iou: float, sizes: list[int], order: str) -> None:
    inputs = _candidates(2, sum(sizes), seed=seed)
    labels = np.tile(np.repeat(np.arange(len(sizes)) * 3 + 1, sizes).astype(np.int32), (2, 1))
    if order == "mixed":
        labels = labels[:, np.random.default_rng(seed).permutation(sum(sizes))]
    if order == "by picture":
        labels[1] = labels[1, ::-1]
    attributes = {
        **ATTRIBUTES, "iou_threshold": iou, "max_outputs": sum(sizes),
        "class_agnostic": int(order == "agnostic"),
    }  # fmt: skip
    inputs["labels"] = labels
    expected = batched_nms(*(torch.from_numpy(v) for v in inputs.values()), **attributes)
    model, fed = _with_constant_labels(inputs, labels, **attributes)
    for name, found in every_body(model, fed):
        for mine, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(mine, theirs.numpy(), err_msg=name)


def test_labels_that_the_graph_holds_make_a_matrix_each() -> None:
    """Five levels of 40 are compared within 5 x 40 x 40 pairs, not 200 x 200; chains are exact."""
    left = np.tile(np.arange(40, dtype=np.float32) * 4, 5)
    boxes = np.stack([left, 0 * left, left + 10, 0 * left + 10], -1)[None]
    labels = np.repeat(np.arange(5, dtype=np.int32), 40)[None]
    inputs = {
        "boxes": boxes, "scores": np.tile(np.linspace(1, 0.5, 40, dtype=np.float32), 5)[None],
        "labels": labels,
    }  # fmt: skip
    attributes = {**ATTRIBUTES, "iou_threshold": 0.4, "max_outputs": 200}
    model, fed = _with_constant_labels(inputs, labels, **attributes)
    lowered = lower(model, "pluginless")
    inferred = onnx.shape_inference.infer_shapes(lowered, data_prop=True)
    sizes = [
        math.prod(d.dim_value for d in info.type.tensor_type.shape.dim)
        for info in inferred.graph.value_info
    ]
    assert max(sizes) == 5 * 40 * 40
    for name, found in every_body(model, fed):
        assert found[4] == 100, name
        assert sorted(found[3][0, :100]) == list(range(0, 200, 2)), name


def test_threshold_is_strict() -> None:
    inputs = {
        "boxes": np.array([[[0, 0, 10, 10], [0, 0, 10, 5]]], np.float32),  # IoU exactly 0.5
        "scores": np.array([[0.9, 0.8]], np.float32),
        "labels": np.ones((1, 2), np.int32),
    }
    model = one_node_model("BatchedNMS", inputs, OUTPUTS, **{**ATTRIBUTES, "max_outputs": 2})
    for name, found in every_body(model, inputs):
        assert found[4] == 2, name


@pytest.mark.parametrize("score", [0.0, 0.1])
def test_no_candidate(score: float) -> None:
    inputs = _candidates(2, 20)
    inputs["scores"][:] = score
    model = one_node_model("BatchedNMS", inputs, OUTPUTS, **{**ATTRIBUTES, "max_outputs": 5})
    for name, found in every_body(model, inputs):
        assert all(not np.any(value) for value in found), name


def test_empty_and_inverted_boxes_suppress_nothing() -> None:
    inputs = {
        "boxes": np.array([[[5, 5, 5, 5], [5, 5, 5, 5], [0, 0, 9, 9]]], np.float32),
        "scores": np.array([[0.9, 0.8, 0.7]], np.float32),
        "labels": np.ones((1, 3), np.int32),
    }
    model = one_node_model("BatchedNMS", inputs, OUTPUTS, **{**ATTRIBUTES, "max_outputs": 3})
    for name, found in every_body(model, inputs):
        assert found[4] == 3, name


def test_unknown_operator_and_unknown_shape_are_refused() -> None:
    inputs = _candidates(1, 10)
    model = one_node_model("BatchedNMS", inputs, OUTPUTS, **ATTRIBUTES)
    model.graph.node[0].op_type = "BatchedNms"
    with pytest.raises(UnsupportedModelError, match="BatchedNms"):
        attach_functions(model)
    model = one_node_model("BatchedNMS", inputs, OUTPUTS, **ATTRIBUTES)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "K"
    with pytest.raises(UnsupportedModelError, match="no static shape"):
        lower(model, "pluginless")


def test_model_without_our_nodes_is_left_alone() -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [])
    model = helper.make_model(graph)
    assert lower(model, "function") is model
