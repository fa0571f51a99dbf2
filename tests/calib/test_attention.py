"""A transformer's layers at INT8: products with weights are, and all that decides between is not.

The block is written as PyTorch's exporter writes one: products and their biases apart, heads by
Reshape and Transpose, layer norms and GELUs whole or in parts by opset. The reference is ONNX
Runtime on the FP32 graph.
"""

import numpy as np
import onnx
import pytest

from maskrt.calib import Recipe, Style, make_recipe, render
from maskrt.core import Precision, Target
from maskrt.runtime.build import build_engine

from .graphs import GraphBuilder, calibrated, pictures, run, snr_db, stem

INT8, FP16, FP32 = Precision.INT8, Precision.FP16, Precision.FP32
WIDTH, HEADS, TOKENS, HIDDEN = 16, 2, 256, 48
LOWEST_SNR_DB = 35.0  # eight bits at six products one after another: 40 here
WEIGHED = ("query", "key", "value", "out", "up", "down")


class _Block(GraphBuilder):
    """Self-attention, and two products about a GELU, each added to what it read."""

    def __init__(self, *, whole_norms: bool) -> None:
        super().__init__(seed=3)
        self.whole_norms = whole_norms

    def scalar(self, value: float) -> str:
        return self.constant(np.float32(value))

    def linear(self, data: str, inputs: int, outputs: int, name: str) -> str:
        weight = self.random.normal(0, inputs**-0.5, (inputs, outputs)).astype(np.float32)
        product = self.op("MatMul", data, self.constant(weight), name=name)
        return self.op("Add", self.bias(outputs), product)

    def mean(self, data: str) -> str:
        return self.op("ReduceMean", data, self.constant(np.int64([-1])))

    def norm(self, data: str, name: str) -> str:
        gain = self.constant(np.ones(WIDTH, np.float32))
        shift = self.bias(WIDTH)
        if self.whole_norms:
            return self.op("LayerNormalization", data, gain, shift, axis=-1, name=name)
        centred = self.op("Sub", data, self.mean(data))
        square = self.mean(self.op("Pow", centred, self.scalar(2)))
        root = self.op("Sqrt", self.op("Add", square, self.scalar(1e-5)))
        scaled = self.op("Mul", self.op("Div", centred, root, name=name), gain)
        return self.op("Add", scaled, shift)

    def gelu(self, data: str, name: str) -> str:
        error = self.op("Erf", self.op("Div", data, self.scalar(2**0.5)), name=name)
        twice = self.op("Mul", data, self.op("Add", error, self.scalar(1)))
        return self.op("Mul", twice, self.scalar(0.5))

    def heads(self, data: str, perm: list[int]) -> str:
        shape = self.constant(np.int64([1, TOKENS, HEADS, WIDTH // HEADS]))
        return self.op("Transpose", self.op("Reshape", data, shape), perm=perm)

    def attention(self, data: str) -> str:
        found = {name: self.linear(data, WIDTH, WIDTH, name) for name in WEIGHED[:3]}
        scale = self.scalar((WIDTH // HEADS) ** -0.25)
        queries = self.op("Mul", self.heads(found["query"], [0, 2, 1, 3]), scale)
        keys = self.op("Mul", self.heads(found["key"], [0, 2, 3, 1]), scale)
        scores = self.op("MatMul", queries, keys, name="scores")
        shares = self.op("Softmax", scores, axis=-1, name="shares")
        values = self.heads(found["value"], [0, 2, 1, 3])
        mixed = self.op("Transpose", self.op("MatMul", shares, values, name="mixed"),
                        perm=[0, 2, 1, 3])  # fmt: skip
        joined = self.op("Reshape", mixed, self.constant(np.int64([1, TOKENS, WIDTH])))
        return self.linear(joined, WIDTH, WIDTH, "out")


def _block(*, whole_norms: bool = False) -> onnx.ModelProto:
    g = _Block(whole_norms=whole_norms)
    tokens = g.op("Reshape", stem(g), g.constant(np.int64([1, WIDTH, TOKENS])))
    x = g.op("Transpose", tokens, perm=[0, 2, 1])
    x = g.op("Add", x, g.attention(g.norm(x, "norm1")))
    hidden = g.gelu(g.linear(g.norm(x, "norm2"), WIDTH, HIDDEN, "up"), "gelu")
    x = g.op("Add", x, g.linear(hidden, HIDDEN, WIDTH, "down"))
    return g.model([g.norm(x, "norm3")])


@pytest.fixture(scope="module", params=[False, True], ids=["norms in parts", "norms whole"])
def model(request: pytest.FixtureRequest) -> onnx.ModelProto:
    return _block(whole_norms=request.param)


@pytest.fixture(scope="module")
def recipe(model: onnx.ModelProto) -> Recipe:
    return make_recipe(model, INT8, calibrated(model))


def test_the_recipe_says_where_each_computes_and_why(recipe: Recipe) -> None:
    assert recipe.narrow_layers() == list(WEIGHED)
    said = {kind: others.nodes for kind, others in recipe.others.items()}
    assert said == {
        "products": ("scores", "mixed"),
        "softmax": ("shares",),
        "normalisation": ("norm1", "norm2", "norm3"),
        "gelu": ("gelu",),
    }
    assert all(others.reason for others in recipe.others.values())
    data = recipe.to_json()
    assert data["others"]["softmax"]["precision"] == "fp32"
    assert Recipe.from_json(data) == recipe


def test_near_misses_are_none_of_them() -> None:
    """A mean is taken of another tensor; a product has weights that were moved."""
    g = _Block(whole_norms=False)
    x = stem(g)
    other = g.op("Abs", x)
    centred = g.op("Sub", x, g.mean(x))
    square = g.mean(g.op("Mul", other, other))
    root = g.op("Sqrt", g.op("Add", square, g.scalar(1e-5)))
    divided = g.op("Div", centred, root)
    weight = g.op("Transpose", g.weight(1, 1, 16, 16), perm=[0, 1, 3, 2])
    assert make_recipe(g.model([g.op("MatMul", divided, weight)]), FP32).others == {}


@pytest.mark.parametrize(
    ("style", "rest"), [(Style.ORT, FP32), (Style.TENSORRT, FP32), (Style.TENSORRT, FP16)]
)
def test_numbers_stay_close_and_what_decides_reads_floats(
    model: onnx.ModelProto, recipe: Recipe, style: Style, rest: Precision
) -> None:
    rendered = render(model, recipe.with_precision(INT8, rest=rest), style)
    images = pictures(1, seed=99)
    (expected,), (found,) = run(model, images), run(rendered, images)
    assert snr_db(expected, found) > LOWEST_SNR_DB
    makers = {name: node for node in rendered.graph.node for name in node.output}
    wanted = {name for others in recipe.others.values() for name in others.nodes}
    seen = [node for node in rendered.graph.node if node.name in wanted]
    assert len(seen) == len(wanted)
    for node in seen:
        made = [makers[name].op_type for name in node.input if name in makers]
        assert not {"DequantizeLinear", "QuantizeLinear"}.intersection(made), node.name


def test_the_cpu_engine_is_what_the_recipe_says(model: onnx.ModelProto, recipe: Recipe) -> None:
    built = build_engine(render(model, recipe, Style.ORT), Target.parse("cpu"), INT8)
    read = built.info["layer_precisions"]
    assert {name: read[name] for name in WEIGHED} == dict.fromkeys(WEIGHED, "int8")


@pytest.mark.rtx
def test_tensorrt_rtx_builds_it_and_reads_back_int8(model: onnx.ModelProto, recipe: Recipe) -> None:
    rendered = render(model, recipe.with_precision(INT8, rest=FP16), Style.TENSORRT)
    read = build_engine(rendered, Target.parse("rtx"), INT8).info["layer_precisions"]
    assert {name: read[name] for name in WEIGHED} == dict.fromkeys(WEIGHED, "int8")
