"""What changes an activation changes the fingerprint, and how a graph is written does not.

The reference is ONNX Runtime: a change counts as one where the graph computes something else.
"""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

from maskrt.calib import Style, collect_statistics, make_recipe, render
from maskrt.calib.fingerprint import fingerprint
from maskrt.core import InputError, Precision

from .graphs import detector, int8_recipe, pictures, run

pytest.importorskip("onnxruntime")
Change = Callable[[onnx.ModelProto], None]

_NESTED = """
<ir_version: 10, opset_import: ["" : 19, "maskrt": 1]>
agraph (uint8[1, 64, 64, 3] images) => (float[N] y, float z) {
    pixels = Cast <to = 1> (images)
    scale = Constant <value = float {0.25}> ()
    low = ReduceMin <keepdims = 0> (pixels)
    high = maskrt.Top (pixels)
    zero = Constant <value_float = 0.0> ()
    positive = Greater (high, zero)
    z = If (positive) <
        then_branch = yes () => (float r) {
            slope = Constant <value_floats = [2.0]> ()
            w = Mul (high, scale)
            v = Mul (w, slope)
            r = Squeeze (v)
        },
        else_branch = no () => (float r) { r = Identity (low) }
    >
    y = Mul (high, scale)
}
<domain: "maskrt", opset_import: ["" : 19]>
Top (x) => (m) {
    a = LeakyRelu <alpha = 0.5> (x)
    t = ReduceMax <keepdims = 0> (a)
    one = Constant <value_ints = [1]> ()
    m = Reshape (t, one)
}
"""


def _nested() -> onnx.ModelProto:
    return parser.parse_model(_NESTED)


def _node(model: onnx.ModelProto, op_type: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type == op_type)


def _attribute(node: onnx.NodeProto, name: str) -> onnx.AttributeProto:
    return next(item for item in node.attribute if item.name == name)


def _in_branch(model: onnx.ModelProto) -> onnx.NodeProto:
    return _attribute(_node(model, "If"), "then_branch").g.node[0]


def _pads_move(model: onnx.ModelProto) -> None:
    _attribute(_node(model, "Conv"), "pads").ints[:] = [2, 2, 0, 0]


def _pool_is_skipped(model: onnx.ModelProto) -> None:
    node = _node(model, "MaxPool")
    _attribute(node, "kernel_shape").ints[:] = [1, 1]
    _attribute(node, "pads").ints[:] = [0, 0, 0, 0]


def _resize_rounds(model: onnx.ModelProto) -> None:
    _attribute(_node(model, "Resize"), "nearest_mode").s = b"ceil"


def _constant(model: onnx.ModelProto) -> None:
    value = numpy_helper.from_array(np.float32(0.5).reshape(()))
    _attribute(_node(model, "Constant"), "value").t.CopyFrom(value)


def _subgraph(model: onnx.ModelProto) -> None:
    _attribute(_in_branch(model), "value_floats").floats[:] = [3.0]


def _function(model: onnx.ModelProto) -> None:
    model.functions[0].node[1].op_type = "ReduceMin"


@pytest.mark.parametrize(
    ("make", "change"),
    [
        (detector, _pads_move),
        (detector, _pool_is_skipped),
        (detector, _resize_rounds),
        (_nested, _constant),
        (_nested, _subgraph),
        (_nested, _function),
    ],
)
def test_what_computes_something_else_is_another_graph(
    make: Callable[[], onnx.ModelProto], change: Change
) -> None:
    model, changed = make(), make()
    change(changed)
    pairs = zip(run(model, pictures(1)), run(changed, pictures(1)), strict=True)
    assert any(not np.array_equal(before, after) for before, after in pairs)
    assert fingerprint(changed) != fingerprint(model)


def test_calibration_of_a_graph_with_other_attributes_is_refused() -> None:
    model, changed = detector(), detector()
    _pads_move(changed)
    with pytest.raises(InputError, match=r"statistics are of graph .* calibrate this model"):
        make_recipe(changed, Precision.INT8, collect_statistics(model, [pictures(1)]))
    with pytest.raises(InputError, match=r"recipe is for graph .* calibrate this model"):
        render(changed, int8_recipe(model), Style.TENSORRT)


def _reversed_attributes(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        items = [a.FromString(a.SerializeToString()) for a in node.attribute]
        del node.attribute[:]
        node.attribute.extend(reversed(items))


def _typed_fields(model: onnx.ModelProto) -> None:
    """Store tensors as a list of numbers, as other exporters do."""
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        other = helper.make_tensor(tensor.name, tensor.data_type, value.shape, value.ravel())
        tensor.CopyFrom(other)


def _documented(model: onnx.ModelProto) -> None:
    model.doc_string = model.graph.doc_string = "traced on a Monday"
    for node in model.graph.node:
        node.doc_string = "line 3"
        for item in node.attribute:
            item.doc_string = "why"


def _shapes_forgotten(model: onnx.ModelProto) -> None:
    del model.graph.value_info[:]


@pytest.mark.parametrize("make", [detector, _nested])
@pytest.mark.parametrize(
    "change", [_reversed_attributes, _typed_fields, _documented, _shapes_forgotten]
)
def test_how_a_graph_is_written_does_not_matter(
    make: Callable[[], onnx.ModelProto], change: Change
) -> None:
    changed = make()
    change(changed)
    changed = onnx.ModelProto.FromString(changed.SerializeToString())
    for before, after in zip(run(make(), pictures(1)), run(changed, pictures(1)), strict=True):
        np.testing.assert_array_equal(before, after)
    assert fingerprint(changed) == fingerprint(make())


def test_names_and_weights_count() -> None:
    model = detector()
    assert fingerprint(detector(seed=1)) != fingerprint(model)
    renamed = detector()
    renamed.graph.node[3].name = "another"
    assert fingerprint(renamed) != fingerprint(model)
