"""The rewrites that spare TensorRT-RTX kernels: the same numbers, and near-misses left alone."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from maskrt.runtime.build.aligned_products import align_products
from maskrt.runtime.build.joined_topk import join_topk
from maskrt.runtime.build.own_concats import give_gathers_own_concats
from maskrt.runtime.build.short_products import sum_short_products
from maskrt.runtime.build.strided_pool import stride_convolutions
from maskrt.runtime.build.uint8_input import cast_for_each_reader


def from_text(signature: str, body: str, constants: str = "") -> onnx.ModelProto:
    held = f"<{constants}>" if constants else ""
    model = parser.parse_model(f"""
        <ir_version: 10, opset_import: ["" : 18]>
        g {signature} {held} {{ {body} }}
    """)
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}.{index}"
    return model


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


# --- TopK of several levels ---------------------------------------------------------------------

LEVELS = {"a": (50, 12), "b": (200, 20), "c": (7, 7)}  # length, K


def levels_topk(*, kind: str = "float", chained: bool = False) -> onnx.ModelProto:
    """Each level's best, in three TopKs; `chained`, the last one sorts what the first one found."""
    inputs = ", ".join(f"{kind}[2, {length}] {n}" for n, (length, _) in LEVELS.items())
    outputs = ", ".join(f"{kind}[2, {k}] v{n}, int64[2, {k}] i{n}" for n, (_, k) in LEVELS.items())
    constants = ", ".join(f"int64[1] k{n} = {{{k}}}" for n, (_, k) in LEVELS.items())
    sources = {name: "va" if chained and name == "c" else name for name in LEVELS}
    body = "\n".join(f"v{n}, i{n} = TopK({sources[n]}, k{n})" for n in LEVELS)
    return from_text(f"({inputs}) => ({outputs})", body, constants)


def draw_levels(kind: type = np.float32) -> dict[str, np.ndarray]:
    """Scores with many ties, and among them what fills a row up."""
    random = np.random.default_rng(0)
    rows = {n: random.integers(0, 9, (2, size)).astype(kind) for n, (size, _) in LEVELS.items()}
    rows["c"][0, 3] = -np.inf
    return rows


def test_topks_of_several_levels_become_one_of_the_same_places(run):
    model = levels_topk()
    before = copy_of(model)
    assert join_topk(model) == [["TopK.1", "TopK.0", "TopK.2"]]
    onnx.checker.check_model(model, full_check=True)
    assert operators(model).count("TopK") == 1
    feeds = draw_levels()
    for expected, found in zip(run(before, feeds), run(model, feeds), strict=True):
        np.testing.assert_array_equal(found, expected, strict=True)


def test_a_topk_of_what_another_one_found_stays_alone(run):
    model = levels_topk(chained=True)
    before = copy_of(model)
    assert join_topk(model) == [["TopK.1", "TopK.0"]]
    onnx.checker.check_model(model, full_check=True)
    assert operators(model).count("TopK") == 2
    feeds = draw_levels()
    for expected, found in zip(run(before, feeds), run(model, feeds), strict=True):
        np.testing.assert_array_equal(found, expected, strict=True)


def test_what_reads_the_first_topk_before_the_last_level_is_made_comes_after_both(run):
    model = from_text(
        "(float[1, 9] x) => (float[1, 3] y, int64[1, 3] j)",
        """v, i = TopK(x, k)
           w = Add(v, v)
           n = Neg(x)
           u, j = TopK(n, k)
           y = Add(w, u)""",
        "int64[1] k = {3}",
    )
    before = copy_of(model)
    assert len(join_topk(model)) == 1
    onnx.checker.check_model(model, full_check=True)
    feeds = {"x": np.random.default_rng(1).standard_normal((1, 9)).astype(np.float32)}
    for expected, found in zip(run(before, feeds), run(model, feeds), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("other", ["type", "axis"])
def test_topks_of_other_kinds_are_left_alone(other):
    model = levels_topk(kind="float16") if other == "type" else topk_of_columns()
    before = copy_of(model)
    assert join_topk(model) == []
    assert model == before


def topk_of_columns() -> onnx.ModelProto:
    return from_text(
        "(float[9, 4] a, float[5, 4] b) => (float[3, 4] v, int64[3, 4] i, float[3, 4] w, "
        "int64[3, 4] j)",
        """v, i = TopK<axis = 0>(a, k)
           w, j = TopK<axis = 0>(b, k)""",
        "int64[1] k = {3}",
    )


def test_rows_that_would_have_to_be_filled_for_megabytes_are_left_alone():
    model = from_text(
        "(float[1, 900000] a, float[1, 50] b) => (float[1, 9] v, int64[1, 9] i, float[1, 9] w, "
        "int64[1, 9] j)",
        """v, i = TopK(a, k)
           w, j = TopK(b, k)""",
        "int64[1] k = {9}",
    )
    assert join_topk(model) == []


# --- products over few channels -----------------------------------------------------------------


def product(kind: str = "float", channels: int = 8, pixels: int = 100, more: str = ""):
    return from_text(
        f"({kind}[2, 5, 3, {channels}] w, {kind}[2, 5, {channels}, {pixels}] x) => "
        f"({kind}[2, 5, 3, {pixels}] y)",
        more or "y = MatMul(w, x)",
    )


@pytest.mark.parametrize("channels", [2, 8, 11, 16])
def test_a_product_over_few_channels_becomes_a_sum_of_the_same_value(run, channels):
    model = product(channels=channels)
    before = copy_of(model)
    assert sum_short_products(model) == ["MatMul.0"]
    onnx.checker.check_model(model, full_check=True)
    assert "MatMul" not in operators(model)
    assert "MatMul.0" in [node.name for node in model.graph.node]
    random = np.random.default_rng(channels)
    feeds = {
        "w": random.standard_normal((2, 5, 3, channels)).astype(np.float32),
        "x": random.standard_normal((2, 5, channels, 100)).astype(np.float32),
    }
    (expected,), (found,) = run(before, feeds), run(model, feeds)
    exact = np.matmul(feeds["w"].astype(np.float64), feeds["x"].astype(np.float64))
    np.testing.assert_allclose(found, exact, atol=1e-5)
    np.testing.assert_allclose(expected, exact, atol=1e-5)


@pytest.mark.parametrize(
    "miss",
    [
        {"kind": "float16"},
        {"channels": 17},
        {"channels": 1},
        {"pixels": 63},
        {"more": "c = Identity(x)  y = MatMul(w, c)", "channels": 17},
    ],
)
def test_products_of_other_kinds_are_left_alone(miss):
    model = product(**miss)
    before = copy_of(model)
    assert sum_short_products(model) == []
    assert model == before


def test_a_product_with_weights_stays_a_layer():
    model = product()
    weights = np.ones((2, 5, 3, 8), np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    assert sum_short_products(model) == []


# --- Gathers from joined tensors ----------------------------------------------------------------


def gathers(more: str = "", outputs: str = "") -> onnx.ModelProto:
    return from_text(
        "(float[1, 4, 3] a, float[1, 2, 3] b, int64[1, 5, 3] i, int64[1, 2, 3] j) => "
        f"(float[1, 5, 3] y, float[1, 2, 3] z{outputs})",
        f"""c = Concat<axis = 1>(a, b)
            y = GatherElements<axis = 1>(c, i)
            z = GatherElements<axis = 1>(c, j)
            {more}""",
    )


def test_each_gather_reads_a_concat_of_its_own(run):
    model = gathers()
    before = copy_of(model)
    assert give_gathers_own_concats(model) == ["Concat.0"]
    onnx.checker.check_model(model, full_check=True)
    joined = {node.output[0] for node in model.graph.node if node.op_type == "Concat"}
    read = {node.input[0] for node in model.graph.node if node.op_type == "GatherElements"}
    assert joined == read
    assert len(read) == 2
    random = np.random.default_rng(0)
    feeds = {
        "a": random.standard_normal((1, 4, 3)).astype(np.float32),
        "b": random.standard_normal((1, 2, 3)).astype(np.float32),
        "i": random.integers(-6, 6, (1, 5, 3)),
        "j": random.integers(-6, 6, (1, 2, 3)),
    }
    for expected, found in zip(run(before, feeds), run(model, feeds), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("more", "outputs"),
    [("w = Neg(c)", ", float[1, 6, 3] w"), ("", ", float[1, 6, 3] c")],
)
def test_a_concat_that_others_read_is_left_alone(more, outputs):
    model = gathers(more, outputs)
    before = copy_of(model)
    assert give_gathers_own_concats(model) == []
    assert model == before


# --- a pooling of one element -------------------------------------------------------------------


def picked(
    height: int, width: int, *, kernel: int = 3, pads: str = "1, 1, 1, 1", pool: str = "",
    conv: str = "",
) -> onnx.ModelProto:  # fmt: skip
    pool = pool or "kernel_shape = [1, 1], strides = [2, 2]"
    model = from_text(
        f"(float[1, 2, {height}, {width}] x) => (float[N, C, H, W] y)",
        f"p = MaxPool<{pool}>(x)  y = Conv<pads = [{pads}]{conv}>(p, w)",
    )
    weights = np.random.default_rng(0).standard_normal((3, 2, kernel, kernel)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    return model


@pytest.mark.parametrize(
    ("height", "width", "kernel", "pads", "conv"),
    [
        (16, 12, 3, "1, 1, 1, 1", ""),
        (13, 7, 3, "1, 1, 1, 1", ""),
        (9, 10, 1, "0, 0, 0, 0", ""),
        (15, 14, 3, "0, 2, 1, 0", ", strides = [2, 1]"),
        (17, 18, 3, "2, 2, 2, 2", ", dilations = [2, 2]"),
        (11, 12, 5, "2, 2, 2, 2", ", strides = [1, 2]"),
    ],
)
def test_a_pooling_of_one_element_becomes_the_convolutions_stride(
    run, height, width, kernel, pads, conv
):
    model = picked(height, width, kernel=kernel, pads=pads, conv=conv)
    before = copy_of(model)
    assert stride_convolutions(model) == ["MaxPool.0"]
    onnx.checker.check_model(model, full_check=True)
    assert operators(model) == ["Conv"]
    x = np.random.default_rng(1).standard_normal((1, 2, height, width)).astype(np.float32)
    (expected,), (found,) = run(before, {"x": x}), run(model, {"x": x})
    np.testing.assert_allclose(found, expected, atol=1e-5, strict=True)


@pytest.mark.parametrize(
    "miss",
    [
        {"pool": "kernel_shape = [2, 2], strides = [2, 2]"},
        {"pool": "kernel_shape = [1, 1], strides = [1, 1]"},
        {"pool": "kernel_shape = [1, 1], strides = [2, 2], ceil_mode = 1"},
        {"pads": "0, 0, 0, 0", "conv": ', auto_pad = "SAME_UPPER"'},
    ],
)
def test_other_poolings_are_left_alone(miss):
    model = picked(16, 16, **miss)
    before = copy_of(model)
    assert stride_convolutions(model) == []
    assert model == before


# --- rows of a multiple of eight ----------------------------------------------------------------


def layer(rows: int = 21, *, kind: type = np.float16, more: str = "", given: str = "transB = 1"):
    name = {np.float16: "float16", np.float32: "float"}[kind]
    model = from_text(
        f"({name}[5, 16] x) => ({name}[5, {rows}] y)", more or f"y = Gemm<{given}>(x, w, b)"
    )
    random = np.random.default_rng(0)
    shape = (rows, 16) if "transB" in given else (16, rows)
    for tensor, size in (("w", shape), ("b", (rows,))):
        values = random.standard_normal(size).astype(kind)
        model.graph.initializer.append(numpy_helper.from_array(values, tensor))
    return model


@pytest.mark.parametrize("given", ["transB = 1", "alpha = 1.0"])
def test_a_layer_of_odd_rows_is_padded_and_cut(run, given):
    model = layer(given=given)
    before = copy_of(model)
    assert align_products(model) == ["Gemm.0"]
    onnx.checker.check_model(model, full_check=True)
    sizes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    assert sizes["w"] == ([24, 16] if "transB" in given else [16, 24])
    assert sizes["b"] == [24]
    x = np.random.default_rng(1).standard_normal((5, 16)).astype(np.float16)
    (expected,), (found,) = run(before, {"x": x}), run(model, {"x": x})
    np.testing.assert_array_equal(found, expected, strict=True)


def test_a_bias_that_is_one_number_stays_one(run):
    model = layer()
    bias = numpy_helper.from_array(np.array(0.5, np.float16), "b")
    model.graph.initializer[1].CopyFrom(bias)
    before = copy_of(model)
    assert align_products(model) == ["Gemm.0"]
    assert list(model.graph.initializer[1].dims) == []
    x = np.random.default_rng(1).standard_normal((5, 16)).astype(np.float16)
    (expected,), (found,) = run(before, {"x": x}), run(model, {"x": x})
    np.testing.assert_array_equal(found, expected, strict=True)


@pytest.mark.parametrize(
    "miss",
    [
        {"rows": 24},
        {"kind": np.float32},
        {"given": "transB = 1, alpha = 0.5"},
        {"more": "z = Gemm<transB = 1>(x, w, b)  t = Gemm<transB = 1>(x, w, b)  y = Add(z, t)"},
    ],
)
def test_other_layers_are_left_alone(miss):
    model = layer(**miss)
    before = copy_of(model)
    assert align_products(model) == []
    assert model == before


# --- a picture with two readers -----------------------------------------------------------------


def two_readers(kind: str = "uint8", more: str = "") -> onnx.ModelProto:
    return from_text(
        f"({kind}[1, 2, 3, 3] images) => (float[1, 2, 3] y, float[1, 3, 2, 3] z)",
        f"""c = Cast<to = 1>(images)
            m = Constant<value_ints = [3]>()
            y = ReduceMax<keepdims = 0>(c, m)
            {more or "z = Transpose<perm = [0, 3, 1, 2]>(c)"}""",
    )


def test_each_reader_of_a_picture_casts_it_and_reads_the_same(run):
    model = two_readers()
    before = copy_of(model)
    assert cast_for_each_reader(model) == ["ReduceMax.2"]
    onnx.checker.check_model(model, full_check=True)
    assert operators(model).count("Cast") == 3
    images = np.arange(0, 252, 14, dtype=np.uint8).reshape(1, 2, 3, 3) + 17
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(every.astype(np.float16).astype(np.float32), every)
    for expected, found in zip(
        run(before, {"images": images}), run(model, {"images": images}), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_a_picture_that_comes_as_floats_or_has_one_reader_is_left_alone():
    for model in (
        two_readers("float"),
        two_readers(more="t = Cast<to = 1>(images)  z = Transpose<perm = [0, 3, 1, 2]>(t)"),
    ):
        before = copy_of(model)
        assert cast_for_each_reader(model) == []
        assert model == before
