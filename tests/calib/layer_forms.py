"""Small graphs, one for each form that a layer can have: what may be INT8 depends on the form.

In each graph the layer in question is called "it", reads 32 features and is not the last layer, so
that a runtime has every reason to fuse.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx

from .graphs import GraphBuilder, stem

CHANNELS = 32
Form = Callable[[GraphBuilder, str], str]
"""Adds the layer "it" that reads a map `[1, 32, 16, 16]`; returns what the next layer reads."""


def _features(g: GraphBuilder) -> str:
    return g.relu(g.conv(stem(g), 16, CHANNELS, name="before"))


def conv(*shape: int, bias: bool = True, **attributes: Any) -> Form:
    """A Conv with weights of `shape`, output channels first."""

    def add(g: GraphBuilder, data: str) -> str:
        weights = [g.weight(*shape), *([g.bias(shape[0])] if bias else [])]
        return g.op("Conv", data, *weights, name="it", **attributes)

    return add


def deconv(*shape: int, bias: bool = True, **attributes: Any) -> Form:
    """A ConvTranspose with weights of `shape`, input channels first."""

    def add(g: GraphBuilder, data: str) -> str:
        outputs = shape[1] * attributes.get("group", 1)
        weights = [g.weight(*shape), *([g.bias(outputs)] if bias else [])]
        return g.op("ConvTranspose", data, *weights, name="it", **attributes)

    return add


def then(form: Form, activation: str, **attributes: Any) -> Form:
    """`form` with an activation function behind it."""

    def add(g: GraphBuilder, data: str) -> str:
        return g.op(activation, form(g, data), **attributes)

    return add


def behind(before: Form, form: Form) -> Form:
    """`form` behind nodes that are no layer."""
    return lambda g, data: form(g, before(g, data))


def clipped(form: Form, low: float, high: float) -> Form:
    """`form` with a Clip behind it, whose ends are constants."""

    def add(g: GraphBuilder, data: str) -> str:
        ends = (g.constant(np.float32(low)), g.constant(np.float32(high)))
        return g.op("Clip", form(g, data), *ends)

    return add


def swish(g: GraphBuilder, data: str) -> str:
    """SiLU, as exporters write it."""
    return g.op("Mul", data, g.op("Sigmoid", data))


def upsample(g: GraphBuilder, data: str) -> str:
    """Nearest, by two."""
    scales = g.constant(np.float32([1, 1, 2, 2]))
    return g.op("Resize", data, "", scales, mode="nearest", nearest_mode="floor",
                coordinate_transformation_mode="asymmetric")  # fmt: skip


def rows(form: Form) -> Form:
    """`form` on the map as rows `[1, 256, 32]`, and its result as a map again."""

    def add(g: GraphBuilder, data: str) -> str:
        flat = g.op("Reshape", data, g.constant(np.int64([1, CHANNELS, 256])))
        found = form(g, g.op("Transpose", flat, perm=[0, 2, 1]))
        back = g.op("Transpose", found, perm=[0, 2, 1])
        return g.op("Reshape", back, g.constant(np.int64([1, -1, 16, 16])))

    return add


def matmul(g: GraphBuilder, data: str) -> str:
    """A product by weights and the sum with a bias, as exporters write `nn.Linear`."""
    product = g.op("MatMul", data, g.weight(CHANNELS, CHANNELS), name="it")
    return g.op("Add", product, g.bias(CHANNELS))


def attention(g: GraphBuilder, data: str) -> str:
    """Swin's: one product makes query, key and value of 4 heads in 4 windows of 64 places."""
    windows = g.op("Reshape", data, g.constant(np.int64([4, 64, CHANNELS])))
    product = g.op("MatMul", windows, g.weight(CHANNELS, 3 * CHANNELS), name="it")
    made = g.op("Add", product, g.bias(3 * CHANNELS))
    heads = g.op("Reshape", made, g.constant(np.int64([4, 64, 3, 4, 8])))
    turned = g.op("Transpose", heads, perm=[2, 0, 3, 1, 4])
    query, key, value = (g.op("Gather", turned, g.constant(np.int64(i)), axis=0) for i in range(3))
    query = g.op("Mul", query, g.constant(np.float32(8**-0.5)))
    scores = g.op("MatMul", query, g.op("Transpose", key, perm=[0, 1, 3, 2]))
    mixed = g.op("MatMul", g.op("Softmax", scores), value)
    joined = g.op("Transpose", mixed, perm=[0, 2, 1, 3])
    return g.op("Reshape", joined, g.constant(np.int64([1, 256, CHANNELS])))


def gemm(*bias: int, transposed: bool = True) -> Form:
    """A Gemm on 8 rows of 1024, with a bias of shape `bias`."""

    def add(g: GraphBuilder, data: str) -> str:
        flat = g.op("Reshape", data, g.constant(np.int64([8, 1024])))
        shape = (64, 1024) if transposed else (1024, 64)
        inputs = [g.weight(*shape)]
        if bias:
            inputs.append(g.constant(g.random.normal(0, 0.2, bias).astype(np.float32)))
        found = g.op("Gemm", flat, *inputs, name="it", transB=int(transposed))
        return g.op("Reshape", g.relu(found), g.constant(np.int64([1, 32, 4, 4])))

    return add


def in_one_dimension(form: Form) -> Form:
    """`form` on the map as `[1, 32, 256]`."""

    def add(g: GraphBuilder, data: str) -> str:
        found = form(g, g.op("Reshape", data, g.constant(np.int64([1, CHANNELS, 256]))))
        return g.op("Unsqueeze", found, g.constant(np.int64([2])))

    return add


def in_three_dimensions(form: Form) -> Form:
    """`form` on the map as `[1, 32, 4, 8, 8]`, its result `[1, 32, 2, 6, 6]` as a map."""

    def add(g: GraphBuilder, data: str) -> str:
        found = form(g, g.op("Reshape", data, g.constant(np.int64([1, CHANNELS, 4, 8, 8]))))
        return g.op("Reshape", found, g.constant(np.int64([1, 16, 12, 12])))

    return add


def residual(g: GraphBuilder, data: str) -> str:
    """A convolution whose result is added to what it read."""
    return g.relu(g.op("Add", conv(32, 32, 3, 3, pads=[1] * 4)(g, data), data))


def top_down(g: GraphBuilder, data: str) -> str:
    """An FPN's step: an upsampled map is added to a lateral convolution's result."""
    small = g.conv(data, CHANNELS, CHANNELS, kernel=1, strides=[2, 2], name="small")
    lateral = conv(32, 32, 1, 1)(g, data)
    return g.op("Add", lateral, upsample(g, small))


S2 = {"strides": [2, 2]}
FORMS: dict[str, Form] = {
    "conv 3x3": then(conv(32, 32, 3, 3, pads=[1] * 4), "Relu"),
    "conv 1x1": then(conv(64, 32, 1, 1), "Relu"),
    "conv without bias": then(conv(32, 32, 3, 3, bias=False), "Relu"),
    "conv 7x7 stride 2": then(conv(32, 32, 7, 7, pads=[3] * 4, **S2), "Relu"),
    "conv, one output": conv(1, 32, 1, 1),
    "conv, 17 outputs": then(conv(17, 32, 3, 3), "Relu"),
    "conv, dilated": then(conv(32, 32, 3, 3, dilations=[2, 2], pads=[2] * 4), "Relu"),
    "conv, SAME_UPPER": then(conv(32, 32, 3, 3, auto_pad="SAME_UPPER", **S2), "Relu"),
    "conv, uneven padding": then(conv(32, 32, 3, 3, pads=[0, 0, 1, 1], **S2), "Relu"),
    "conv 1x7": then(conv(32, 32, 1, 7, pads=[0, 3, 0, 3]), "Relu"),
    "conv, two groups": then(conv(32, 16, 3, 3, pads=[1] * 4, group=2), "Relu"),
    "conv, groups of 4": then(conv(32, 4, 3, 3, pads=[1] * 4, group=8), "Relu"),
    "conv, depthwise": then(conv(32, 1, 3, 3, pads=[1] * 4, group=32), "Relu"),
    "conv, depthwise 7x7": conv(32, 1, 7, 7, pads=[3] * 4, group=32),
    "conv, depthwise, two outputs a channel": then(
        conv(64, 1, 3, 3, pads=[1] * 4, group=32), "Relu"
    ),
    "conv, Clip without ends": then(conv(32, 32, 3, 3), "Clip"),
    "conv, Clip from 0 to 6": clipped(conv(32, 32, 3, 3), 0, 6),
    "conv, Clip from 0 to 0.5": clipped(conv(32, 32, 3, 3), 0, 0.5),
    "conv, Clip from -0.1 to 0.1": clipped(conv(32, 32, 3, 3), -0.1, 0.1),
    "conv, LeakyRelu": then(conv(32, 32, 3, 3), "LeakyRelu", alpha=0.1),
    "conv, Sigmoid": then(conv(32, 32, 3, 3), "Sigmoid"),
    "conv, HardSwish": then(conv(32, 32, 3, 3), "HardSwish"),
    "conv, SiLU": lambda g, data: swish(g, conv(32, 32, 3, 3)(g, data)),
    "conv in one dimension": in_one_dimension(then(conv(32, 32, 3), "Relu")),
    "conv in three dimensions": in_three_dimensions(then(conv(32, 32, 3, 3, 3), "Relu")),
    "conv behind nearest Resize": behind(upsample, conv(32, 32, 3, 3)),
    "conv behind SiLU and nearest Resize": behind(
        lambda g, data: upsample(g, swish(g, g.conv(data, 32, 32))), conv(32, 32, 3, 3)
    ),
    "conv behind LeakyRelu and nearest Resize": behind(
        lambda g, data: upsample(g, g.op("LeakyRelu", g.conv(data, 32, 32))), conv(32, 32, 3, 3)
    ),
    "conv behind Concat": behind(
        lambda g, data: g.op("Concat", g.relu(g.conv(data, 32, 16)), g.conv(data, 32, 16), axis=1),
        conv(32, 32, 3, 3),
    ),
    "conv behind MaxPool": behind(
        lambda g, data: g.op("MaxPool", data, kernel_shape=[2, 2], **S2), conv(32, 32, 3, 3)
    ),
    "conv in a residual sum": residual,
    "conv in a top-down sum": top_down,
    "deconv 2x2 stride 2": then(deconv(32, 16, 2, 2, **S2), "Relu"),
    "deconv 2x2 stride 2, no bias": then(deconv(32, 16, 2, 2, bias=False, **S2), "Relu"),
    "deconv 2x2 stride 2, SiLU": lambda g, d: swish(g, deconv(32, 16, 2, 2, **S2)(g, d)),
    "deconv 3x3 stride 3": then(deconv(32, 16, 3, 3, strides=[3, 3]), "Relu"),
    "deconv 1x1": then(deconv(32, 32, 1, 1), "Relu"),
    "deconv 4x4 stride 2": then(deconv(32, 32, 4, 4, pads=[1] * 4, **S2), "Relu"),
    "deconv 4x4 stride 2, SiLU": lambda g, d: swish(
        g, deconv(32, 32, 4, 4, pads=[1] * 4, **S2)(g, d)
    ),
    "deconv 3x3 stride 2": then(
        deconv(32, 32, 3, 3, pads=[1] * 4, output_padding=[1, 1], **S2), "Relu"
    ),
    "deconv 3x3 stride 1": then(deconv(32, 32, 3, 3), "Relu"),
    "deconv 2x2 stride 2, two groups": then(deconv(32, 16, 2, 2, group=2, **S2), "Relu"),
    "deconv 2x2 stride 2, depthwise": then(deconv(32, 1, 2, 2, group=32, **S2), "Relu"),
    "deconv 4x4 stride 2, two groups": then(
        deconv(32, 16, 4, 4, group=2, pads=[1] * 4, **S2), "Relu"
    ),
    "deconv 4x4 stride 2, depthwise": then(
        deconv(32, 1, 4, 4, group=32, pads=[1] * 4, **S2), "Relu"
    ),
    "deconv 2x2 stride 2, cropped": then(deconv(32, 16, 2, 2, pads=[1] * 4, **S2), "Relu"),
    "deconv 2x2 stride 4": then(deconv(32, 16, 2, 2, strides=[4, 4]), "Relu"),
    "deconv 3x3 stride 1, dilated": then(deconv(32, 16, 3, 3, dilations=[2, 2]), "Relu"),
    "deconv in one dimension": in_one_dimension(then(deconv(32, 32, 2, strides=[2]), "Relu")),
    "gemm": gemm(64),
    "gemm, weights not transposed": gemm(64, transposed=False),
    "gemm, no bias": gemm(),
    "gemm, bias as a row": gemm(1, 64),
    "gemm, bias as a column": gemm(8, 1),
    "gemm, bias of one number": gemm(1),
    "product of rows": rows(matmul),
    "product of rows, SiLU": rows(lambda g, data: swish(g, matmul(g, data))),
    "product of rows without bias, SiLU": rows(
        lambda g, data: swish(g, g.op("MatMul", data, g.weight(32, 32), name="it"))
    ),
    "product that makes query, key and value": rows(attention),
}  # fmt: skip


def built(form: Form) -> onnx.ModelProto:
    """Return a graph with the layer "it" of `form` between two convolutions."""
    g = GraphBuilder()
    data = form(g, _features(g))
    channels = _channels(g, data)
    return g.model([g.conv(data, channels, 16, kernel=1, name="after")])


def _channels(g: GraphBuilder, data: str) -> int:
    """Return the channels of `data`, from a graph that ends there."""
    (output,) = g.model([data]).graph.output
    return int(output.type.tensor_type.shape.dim[1].dim_value)


def all_forms() -> Iterator[tuple[str, onnx.ModelProto]]:
    """Yield each form's name and graph."""
    for name, form in FORMS.items():
        yield name, built(form)
