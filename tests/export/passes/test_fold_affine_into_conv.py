"""Folding is exact, for convolutions that share their weights too; names stay readable."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from maskrt.export.passes import fold_affine_into_conv, name_nodes

ort = pytest.importorskip("onnxruntime")

_HEADER = """
<ir_version: 9, opset_import: ["" : 19]>
shared (float[1, 2, 5, 5] x, float[1, 2, 3, 3] y) => (float[1, 3, 3, 3] p, float[1, 3, 1, 1] q)
"""
_TWO_USERS = (
    _HEADER
    + """{
    a = Conv(x, W)
    b = Mul(a, scale_a)
    p = Add(b, shift_a)
    c = Conv(y, W)
    d = Mul(scale_b, c)
    q = Add(shift_b, d)
}"""
)
_ONE_PLAIN = (
    _HEADER
    + """{
    a = Conv(x, W, bias)
    p = Add(a, shift_a)
    q = Conv(y, W, bias)
}"""
)
_NEAR_MISS = (
    _HEADER
    + """{
    a = Conv(x, W)
    p = Mul(a, a)
    q = Conv(y, W)
}"""
)
_W = "model.rpn.head.conv.weight"


def _model(text: str, same: bool = False) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    values = {
        "W": rng.normal(size=(3, 2, 3, 3)),
        "bias": rng.normal(size=3),
        "scale_a": rng.uniform(0.5, 2, (1, 3, 1, 1)),
        "shift_a": rng.normal(size=(3, 1, 1)),
        "scale_b": rng.uniform(0.5, 2, (1, 3, 1, 1)),
        "shift_b": rng.normal(size=(1, 3, 1, 1)),
    }
    if same:
        values |= {"scale_b": values["scale_a"], "shift_b": values["shift_a"]}
    model = onnx.parser.parse_model(text)
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = _W if name == "W" else name
    read = {name for node in model.graph.node for name in node.input}
    for name, value in values.items():
        name = _W if name == "W" else name
        if name in read:
            model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
    onnx.checker.check_model(model)
    return model


def _run(model: onnx.ModelProto) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    feed = {
        "x": rng.normal(size=(1, 2, 5, 5)).astype(np.float32),
        "y": rng.normal(size=(1, 2, 3, 3)).astype(np.float32),
    }
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feed)


@pytest.mark.parametrize(
    ("text", "same"), [(_TWO_USERS, False), (_TWO_USERS, True), (_ONE_PLAIN, False)]
)
def test_shared_weights_are_folded_for_each_user(text: str, same: bool) -> None:
    model = _model(text, same)
    before = _run(model)
    assert fold_affine_into_conv(model)
    name_nodes(model)
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node] == ["Conv", "Conv"]
    for expected, found in zip(before, _run(model), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)  # FP32 rounding
    assert [node.name for node in model.graph.node] == ["rpn.head.conv", "rpn.head.conv.2"]
    assert len({node.input[1] for node in model.graph.node}) == 2


def test_sole_reader_leaves_nothing_behind() -> None:
    model = _model(_TWO_USERS)
    del model.graph.node[3:], model.graph.output[1:]
    assert fold_affine_into_conv(model)
    assert list(model.graph.node[0].input[1:]) == [f"{_W}.folded", f"{_W}.folded_bias"]
    name_nodes(model)
    assert [t.name for t in model.graph.initializer] == [f"{_W}.folded", f"{_W}.folded_bias"]


def test_product_of_two_activations_stays() -> None:
    model = _model(_NEAR_MISS)
    before = model.SerializeToString()
    assert not fold_affine_into_conv(model)
    assert model.SerializeToString() == before


def test_name_nodes_tells_whether_it_changed_anything() -> None:
    model = _model(_TWO_USERS)
    assert name_nodes(model)
    assert not name_nodes(model)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "unread"))
    assert name_nodes(model)
    assert "unread" not in {t.name for t in model.graph.initializer}


def test_names_are_unique_where_a_module_has_a_numbered_name() -> None:
    model = _model(_NEAR_MISS)
    other = numpy_helper.to_array(model.graph.initializer[0])
    model.graph.initializer.append(numpy_helper.from_array(other, "rpn.head.conv.2.weight"))
    extra = onnx.helper.make_node("Conv", ["x", "rpn.head.conv.2.weight"], ["unused"])
    model.graph.node.insert(0, extra)
    name_nodes(model)
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert names[0] == "rpn.head.conv.2"
