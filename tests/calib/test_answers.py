"""Layers that make a network's answers stay wide, and entropy is refused for SiLU's features."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from maskrt.calib import check_method_fits, place
from maskrt.calib.placement import ANSWERS
from maskrt.core import Precision, UsageError


def _network(*, silu: bool = True, said: bool = True) -> onnx.ModelProto:
    """Two convolutions, and a third whose numbers are cut, squashed and joined: an answer."""
    random = np.random.default_rng(0)
    weights, nodes, x = [], [], "x"
    for index in range(3):
        array = random.normal(0, 0.2, (16, 16, 1, 1)).astype(np.float32)
        weights.append(numpy_helper.from_array(array, f"w{index}"))
        nodes.append(helper.make_node("Conv", [x, f"w{index}"], [f"c{index}"], name=f"conv{index}"))
        x = f"c{index}"
        if index < 2:
            squash = "Sigmoid" if silu else "Relu"
            nodes.append(helper.make_node(squash, [x], [f"s{index}"]))
            nodes.append(helper.make_node("Mul", [x, f"s{index}"], [f"a{index}"]))
            x = f"a{index}"
    cuts = [("zero", 0), ("four", 4), ("end", 16), ("axis", 1)]
    weights += [numpy_helper.from_array(np.array([v]), n) for n, v in cuts]
    nodes += [
        helper.make_node("Slice", ["c2", "zero", "four", "axis"], ["box"]),
        helper.make_node("Slice", ["c2", "four", "end", "axis"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["score"]),
        helper.make_node("Concat", ["box", "score"], ["answer"], axis=1),
    ]
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 16, 8, 8])
             for n in ("x", "answer")]  # fmt: skip
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)])
    if said:
        helper.set_model_props(model, {ANSWERS: "answer"})
    return model


def test_the_layer_before_an_answer_stays_wide() -> None:
    refusals = place(_network()).refusals
    assert set(refusals) == {"conv2"}
    assert "answers" in refusals["conv2"][Precision.INT8]
    assert Precision.FP16 not in refusals["conv2"]
    assert place(_network(said=False)).refusals == {}


def test_entropy_is_refused_for_silu_alone() -> None:
    with pytest.raises(UsageError, match="entropy gives up"):
        check_method_fits(_network(), Precision.INT8, "entropy")
    for model, precision, method in (
        (_network(), Precision.INT8, "mse"),
        (_network(), Precision.FP16, "entropy"),
        (_network(silu=False), Precision.INT8, "entropy"),
        (_network(said=False), Precision.INT8, "entropy"),
    ):
        check_method_fits(model, precision, method)
