"""The form for TensorRT 8.5 and 8.6: what the graph is made of, and a whole detector in it.

What the emulators compute is in `tensorrt8.py`; no device has run these graphs yet.
"""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, TensorProto

from maskrt.core import UnsupportedTargetError
from maskrt.plugins import OPERATORS, attach_functions, lower
from maskrt.plugins.builtin import FLOAT32_PREFIX

from .bodies import one_node_model, run
from .tensorrt8 import CREATORS, DOMAIN, run_lowered

torch = pytest.importorskip("torch")

from maskrt.export import export_model  # noqa: E402
from maskrt.plugins.mask_iou.reference import mask_iou  # noqa: E402
from maskrt.plugins.matrix_nms.reference import matrix_nms  # noqa: E402

from ..export.detectors import enliven, tiny_mask_rcnn  # noqa: E402
from ..export.steady import steady_pictures  # noqa: E402
from .builtin_models import nms_model, pool_model  # noqa: E402
from .test_batched_nms import _candidates  # noqa: E402
from .test_multilevel_roialign import _boxes, _features, _inputs  # noqa: E402

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


# What the graph is made of


def _lowered_examples() -> list[onnx.ModelProto]:
    candidates, pooled = _candidates(2, 30), _inputs(_boxes(2, 5), _features(2))
    return [
        *(
            lower(nms_model(candidates, constant=c, max_outputs=9, class_agnostic=a), "builtin")
            for c in (False, True)
            for a in (0, 1)
        ),
        *(
            lower(pool_model(pooled, aligned=a, sampling_ratio=r), "builtin")
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
    lowered = lower(nms_model(inputs, max_outputs=15), "builtin")
    expected = run_lowered(lowered, inputs)
    assert expected[4].min() > 1
    (standard,) = (o for o in lowered.opset_import if o.domain == "")
    standard.version = PARSER_OPSET
    onnx.checker.check_model(lowered, full_check=True)
    for mine, theirs in zip(run_lowered(lowered, inputs), expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_attached_functions_hold_plugins_too() -> None:
    inputs = _candidates(1, 20)
    attached = attach_functions(nms_model(inputs, max_outputs=5), "builtin")
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


def test_half_precision_boxes_are_refused() -> None:
    for model, place in (
        (nms_model(_candidates(1, 10), max_outputs=5), 1),
        (pool_model(_inputs(_boxes(1, 3), _features(1))), 0),
    ):
        model.graph.input[place].type.tensor_type.elem_type = TensorProto.FLOAT16
        with pytest.raises(UnsupportedTargetError, match=r"are FLOAT16.*whole pixels"):
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
    assert {f"{FLOAT32_PREFIX}{n}" for n in ("BatchedNMS_2", "MultilevelRoIAlign")} <= {
        layer.rpartition("/")[0] for layer in layers
    }
    plugins = [node.op_type for node in lowered.graph.node if node.domain]
    assert sorted(plugins) == ["EfficientNMS_ONNX_TRT"] * 2 + ["ROIAlign_TRT"] * 6
    crops = [photo[40 : 40 + size[0], 60 : 60 + size[1]] for photo in photos]
    images = np.stack(steady_pictures(exported.model, exported.manifest, crops, batch))
    names = [o.name for o in lowered.graph.output]
    found = dict(zip(names, run_lowered(lowered, {"images": images}), strict=True))
    expected = exported.reference.run(images)
    np.testing.assert_array_equal(found["count"], expected["count"])
    assert expected["count"].min() >= 5
    np.testing.assert_array_equal(found["labels"], expected["labels"])
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-4)
    np.testing.assert_allclose(found["boxes"], expected["boxes"], atol=1e-2)  # pixels
    np.testing.assert_allclose(found["masks"], expected["masks"], atol=1e-3)
