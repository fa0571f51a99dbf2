"""Where Q/DQ may go: each rule on a graph that shows it, and near-misses."""

import dataclasses

import numpy as np
import onnx
import pytest

from maskrt.calib import place
from maskrt.calib.graph import GraphIndex
from maskrt.core import InputError, Precision

from .graphs import GraphBuilder, block, detector, producer, stem


def _features(g: GraphBuilder) -> str:
    return g.relu(g.conv(stem(g), 16, 16))


def test_weights_have_a_scale_for_each_output_channel() -> None:
    model = detector()
    axes = {layer.op_type: set() for layer in place(model).layers}
    for layer in place(model).layers:
        axes[layer.op_type].add(layer.axis)
    # the two Gemms of the graph hold their weights [N, K] and [K, N]
    assert axes == {"Conv": {0}, "Gemm": {0, 1}, "ConvTranspose": {None}}


def test_a_layer_ends_after_its_activation_unless_something_else_reads_before_it() -> None:
    g = GraphBuilder()
    first = g.conv(_features(g), 16, 16)
    rectified = g.relu(first)
    second = g.conv(rectified, 16, 16)
    both = [g.relu(second), g.op("Sigmoid", second)]
    layers = {layer.output: layer.result for layer in place(g.model(both)).layers}
    assert layers[first] == rectified
    assert layers[second] == second


def test_the_skip_branch_is_the_identity() -> None:
    g = GraphBuilder()
    start = _features(g)
    end = block(g, start, 16, 16)
    (add,) = place(g.model([end])).adds
    assert (add.skip, add.result) == (start, end)


@pytest.mark.parametrize("swapped", [False, True])
def test_of_two_convolutions_the_shallow_one_is_the_skip_branch(swapped: bool) -> None:
    g = GraphBuilder()
    start = _features(g)
    deep = g.conv(g.relu(g.conv(start, 16, 16)), 16, 16)
    shallow = g.conv(start, 16, 16, kernel=1)
    total = g.op("Add", *((shallow, deep) if swapped else (deep, shallow)))
    (add,) = place(g.model([total])).adds
    assert (add.skip, add.main) == (shallow, deep)


def test_an_fpn_sum_skips_over_its_upsampling_and_shares_its_scale() -> None:
    model = detector()
    placement = place(model)
    add = placement.adds[-1]
    resize = producer(model, add.skip)
    assert resize.op_type == "Resize"
    assert producer(model, add.main).op_type == "Conv"
    assert set(placement.group(add.skip)) == {resize.input[0], resize.output[0]}


def test_linear_resize_changes_numbers_and_shares_nothing() -> None:
    g = GraphBuilder()
    scales = g.constant(np.float32([1, 1, 2, 2]))
    wide = g.op("Resize", _features(g), "", scales, mode="linear")
    model = g.model([g.conv(wide, 16, 16)])
    assert all(wide not in group for group in place(model).groups)


def test_concat_gives_its_inputs_and_output_one_scale_only_before_a_layer() -> None:
    g = GraphBuilder()
    start = _features(g)
    left, right = g.conv(start, 16, 16), g.conv(start, 16, 16)
    joined = g.op("Concat", left, right, axis=1)
    before_a_layer = g.conv(joined, 32, 16)
    loose = g.op("Concat", before_a_layer, g.conv(start, 16, 16), axis=1)
    (group,) = [x for x in place(g.model([loose])).groups if left in x or loose in x]
    assert set(group) == {left, right, joined}


def test_decoding_is_no_residual_sum() -> None:
    g = GraphBuilder()
    deltas = g.conv(_features(g), 16, 16)
    anchors = g.constant(np.float32(8))
    moved = g.op("Add", g.op("Mul", deltas, anchors), anchors)
    assert place(g.model([moved])).adds == ()


def test_few_channels_and_strange_gemms_refuse_int8() -> None:
    g = GraphBuilder()
    flat = g.op("Flatten", g.op("GlobalAveragePool", _features(g)))
    odd = g.op("Gemm", flat, g.weight(16, 4), alpha=0.5)
    placement = place(g.model([odd]))
    by_output = {layer.output: layer.name for layer in placement.layers}
    assert "3 input channels" in placement.refusals["first"][Precision.INT8]
    assert Precision.INT8 in placement.refusals[by_output[odd]]
    assert len(placement.refusals) == 2


def test_depthwise_layers_count_the_channels_of_all_groups() -> None:
    g = GraphBuilder()
    deep = g.op("Conv", _features(g), g.weight(16, 1, 3, 3), group=16)
    assert set(place(g.model([deep])).refusals) == {"first"}


def test_a_weight_beyond_fp16_refuses_fp16() -> None:
    g = GraphBuilder()
    weight = g.constant(np.full((16, 16, 1, 1), 7e4, np.float32))
    model = g.model([g.op("Conv", _features(g), weight, name="huge")])
    assert set(place(model).refusals["huge"]) == {Precision.FP16}


def test_a_bias_beyond_fp16_refuses_fp16() -> None:
    """It would be cut off at 65504 without a word."""
    g = GraphBuilder()
    bias = g.constant(np.full(16, -1e5, np.float32))
    model = g.model([g.op("Conv", _features(g), g.weight(16, 16, 1, 1), bias, name="far")])
    assert set(place(model).refusals["far"]) == {Precision.FP16}


def test_products_of_two_activations_are_no_layers() -> None:
    g = GraphBuilder()
    start = _features(g)
    product = g.op("MatMul", start, g.op("Transpose", start, perm=[0, 1, 3, 2]))
    assert all(layer.output != product for layer in place(g.model([product])).layers)


def test_names_play_no_part() -> None:
    model = detector()
    renamed = onnx.ModelProto()
    renamed.CopyFrom(model)
    alias: dict[str, str] = {}
    for node in renamed.graph.node:
        node.name = f"n{len(alias)}"
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                if name:
                    names[position] = alias.setdefault(name, f"x{len(alias)}")
    for item in (*renamed.graph.initializer, *renamed.graph.output, *renamed.graph.input):
        item.name = alias[item.name]
    del renamed.graph.value_info[:]
    expected, found = place(model), place(renamed)
    assert found.tensors == tuple(alias[name] for name in expected.tensors)
    assert [dataclasses.astuple(add) for add in found.adds] == [
        tuple(alias[name] for name in dataclasses.astuple(add)) for add in expected.adds
    ]


def test_unusable_graphs_are_refused() -> None:
    g = GraphBuilder()
    twice = g.conv(g.conv(_features(g), 16, 16, name="same"), 16, 16, name="same")
    with pytest.raises(InputError, match="two layers of the graph are named same"):
        place(g.model([twice]))
    model = detector()
    name = place(model).layers[2].weight
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    weight.raw_data = np.full(tuple(weight.dims), np.nan, np.float32).tobytes()
    with pytest.raises(InputError, match=f"weight {weight.name}"):
        place(model)


def test_a_subgraph_counts_as_a_reader() -> None:
    g = GraphBuilder()
    start = _features(g)
    body = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", [start], ["inner"])],
        "body",
        [],
        [onnx.helper.make_tensor_value_info("inner", onnx.TensorProto.FLOAT, None)],
    )
    branch = g.op("If", g.constant(np.array(True)), then_branch=body, else_branch=body)
    index = GraphIndex(g.model([branch]))
    assert [node.op_type for node in index.consumers[start]] == ["If"]
    assert index.only_consumer(start) is index.producers[branch]
