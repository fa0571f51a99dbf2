"""Other programs read the canonical file: functions by their names, or none of them inlined.

Each tool gets a graph with two nodes of each of two operators, whose bodies differ: one that takes
the wrong body, or loses one, gives other numbers or none.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, version_converter

from maskrt.core.operator_names import operator_of
from maskrt.plugins import attach_functions, inline, lower
from maskrt.plugins.sources import operators_of

FLOAT, INT32 = TensorProto.FLOAT, TensorProto.INT32
POOL = {
    "spatial_scales": [0.25, 0.125], "sampling_ratio": 2, "aligned": 0, "mode": "avg",
    "canonical_level": 3, "canonical_scale": 24.0, "level_epsilon": 1e-6, "min_level": 2,
}  # fmt: skip
CANDIDATES, KEPT = 24, 8


def _graph() -> onnx.ModelProto:
    """Boxes → NMS at 0.5 → RoIAlign 7 x 7; the same at 0.2 and 4 x 4."""
    info = helper.make_tensor_value_info
    nodes, values, outputs = [], [], []
    for name, threshold, side in (("a", 0.5, 7), ("b", 0.2, 4)):
        made = [f"{name}.{what}" for what in ("boxes", "scores", "labels", "indices", "count")]
        nms = {"iou_threshold": threshold, "score_threshold": 0.05, "class_agnostic": 0}
        nodes.append(
            helper.make_node(
                "BatchedNMS",
                ["boxes", "scores", "labels"],
                made,
                f"{name}.nms",
                domain="maskrt",
                max_outputs=KEPT,
                **nms,
            )
        )
        values.append(info(made[0], FLOAT, [1, KEPT, 4]))
        read, pooled = [made[0], "p2", "p3"], f"{name}.pooled"
        size = {"output_height": side, "output_width": side}
        nodes.append(
            helper.make_node(
                "MultilevelRoIAlign",
                read,
                [pooled],
                f"{name}.pool",
                domain="maskrt",
                **size,
                **POOL,
            )
        )
        outputs += [
            info(made[1], FLOAT, [1, KEPT]), info(pooled, FLOAT, [1, KEPT, 3, side, side])
        ]  # fmt: skip
    inputs = [
        info("boxes", FLOAT, [1, CANDIDATES, 4]), info("scores", FLOAT, [1, CANDIDATES]),
        info("labels", INT32, [1, CANDIDATES]), info("p2", FLOAT, [1, 3, 16, 16]),
        info("p3", FLOAT, [1, 3, 8, 8]),
    ]  # fmt: skip
    graph = helper.make_graph(nodes, "two of each", inputs, outputs, value_info=values)
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid("maskrt", 1)]
    return attach_functions(helper.make_model(graph, opset_imports=opsets, ir_version=10))


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return _graph()


@pytest.fixture(scope="module")
def feed() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    corner = random.uniform(0, 30, (1, CANDIDATES, 2))
    size = random.uniform(12, 30, (1, CANDIDATES, 2))
    return {
        "boxes": np.concatenate([corner, corner + size], axis=-1).astype(np.float32),
        "scores": random.uniform(0.1, 1, (1, CANDIDATES)).astype(np.float32),
        "labels": np.ones((1, CANDIDATES), np.int32),
        "p2": random.normal(size=(1, 3, 16, 16)).astype(np.float32),
        "p3": random.normal(size=(1, 3, 8, 8)).astype(np.float32),
    }


def _run(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_outputs()]
    taken = {value.name: feed[value.name] for value in session.get_inputs()}
    return dict(zip(names, session.run(names, taken), strict=True))


def _assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def _as_older(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph as it was written before functions had names of their own."""
    older = onnx.ModelProto()
    older.CopyFrom(model)
    overloads = {function.name: str(i) for i, function in enumerate(older.functions)}
    for function in older.functions:
        function.overload = overloads[function.name]
        function.name = operator_of(function.name)
    for node in older.graph.node:
        node.overload = overloads[node.op_type]
        node.op_type = operator_of(node.op_type)
    return older


def test_both_halves_keep_something_else(
    model: onnx.ModelProto, feed: dict[str, np.ndarray]
) -> None:
    """So the tests below can fail."""
    found = _run(model, feed)
    kept = [int((found[f"{name}.scores"] > 0).sum()) for name in "ab"]
    assert kept[0] > kept[1] > 1


def test_each_function_has_a_name_of_its_own(model: onnx.ModelProto) -> None:
    names = Counter(function.name for function in model.functions)
    assert names == Counter(node.op_type for node in model.graph.node)
    assert set(names) == {
        "BatchedNMS", "BatchedNMS_2", "MultilevelRoIAlign", "MultilevelRoIAlign_2"
    }  # fmt: skip
    assert not any(item.overload for item in (*model.functions, *model.graph.node))
    assert operators_of(model) == ("BatchedNMS", "MultilevelRoIAlign")
    onnx.checker.check_model(model, full_check=True)


def test_attaching_again_changes_nothing(model: onnx.ModelProto) -> None:
    assert attach_functions(model) == model


def test_an_older_graph_is_read(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> None:
    older = _as_older(model)
    assert older.graph.node[0].overload != older.graph.node[2].overload
    expected = _run(model, feed)
    _assert_same(_run(older, feed), expected)
    _assert_same(_run(inline(older), feed), expected)
    assert operators_of(older) == operators_of(model)
    assert lower(older, "function") == lower(model, "function")
    assert attach_functions(older) == model


def test_inlined_it_is_the_same_to_the_bit(
    model: onnx.ModelProto, feed: dict[str, np.ndarray]
) -> None:
    inlined = inline(model)
    assert not inlined.functions
    assert {node.domain for node in inlined.graph.node} == {""}
    assert [opset.domain for opset in inlined.opset_import] == [""]
    onnx.checker.check_model(inlined, full_check=True)
    _assert_same(_run(inlined, feed), _run(model, feed))


def test_onnxslim(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> None:
    onnxslim = pytest.importorskip("onnxslim")
    slim = onnxslim.slim(onnx.ModelProto.FromString(model.SerializeToString()))
    _assert_same(_run(slim, feed), _run(model, feed))


def test_extract_model(model: onnx.ModelProto, feed: dict[str, np.ndarray], tmp_path: Path) -> None:
    onnx.save(model, tmp_path / "whole.onnx")
    inputs = [value.name for value in model.graph.input]
    whole = _run(model, feed)
    for output in whole:
        part = tmp_path / f"{output}.onnx"
        onnx.utils.extract_model(str(tmp_path / "whole.onnx"), str(part), inputs, [output])
        _assert_same(_run(onnx.load(part), feed), {output: whole[output]})


def test_reference_evaluator(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> None:
    """Its RoiAlign is written in Python, so pooled numbers are equal to rounding."""
    from onnx.reference import ReferenceEvaluator

    names = [value.name for value in model.graph.output]
    found: list[Any] = ReferenceEvaluator(model).run(names, feed)
    for name, values in zip(names, found, strict=True):
        np.testing.assert_allclose(values, _run(model, feed)[name], atol=1e-5, err_msg=name)


def test_graphsurgeon(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> None:
    surgeon = pytest.importorskip("onnx_graphsurgeon")
    graph = surgeon.import_onnx(model)
    graph.cleanup().toposort()
    _assert_same(_run(surgeon.export_onnx(graph), feed), _run(model, feed))


def test_version_converter(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> None:
    """It looks into no function, so it gets the inlined graph."""
    later = version_converter.convert_version(inline(model), 21)
    assert later.opset_import[0].version == 21
    _assert_same(_run(later, feed), _run(model, feed))


def test_numbers_in_names_are_no_part_of_an_operator() -> None:
    assert operator_of("BatchedNMS_12") == "BatchedNMS"
    assert operator_of("BatchedNMS_nms_rank_1to2of3") == "BatchedNMS_nms_rank_1to2of3"
