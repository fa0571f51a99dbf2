"""Sides that the picture does not decide stay known, as shapes that ONNX's reference gives show.

Each graph takes `x [N, 81]` or `x [1, 8, H, W]` and computes with its sizes. What folding says of
the output's shape must be all that can be said, and true for each size that is run.
"""

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx.reference import ReferenceEvaluator

from maskrt.export.surgery.fold import fold

_HEAD = '<ir_version: 8, opset_import: ["" : 18]>\nagraph (float[{sides}] x) => (float[] y) {{\n'
_START = """
zero = Constant <value = int64[1] {0}> ()
one = Constant <value = int64[1] {1}> ()
two = Constant <value = int64[1] {2}> ()
all = Shape (x)
n = Slice (all, zero, one)
"""
_ROWS = {
    "a Slice to a computed end": ("y = Slice (x, zero, n, zero)", (None, 81)),
    "a Slice to a computed end, its axes left out": ("y = Slice (x, zero, n)", (None, 81)),
    "a Slice from a computed start": (
        "s = Sub (n, two)\ne = Constant <value = int64[1] {9223372036854775807}> ()\n"
        "y = Slice (x, s, e, zero)", (None, 81),
    ),
    "a Slice along two axes, one of them computed": (
        "s = Concat <axis = 0> (zero, two)\nm = Constant <value = int64[1] {-1}> ()\n"
        "e = Concat <axis = 0> (n, m)\na = Constant <value = int64[2] {0, -1}> ()\n"
        "t = Constant <value = int64[2] {1, 4}> ()\ny = Slice (x, s, e, a, t)", (None, 20),
    ),
    "a Slice backwards": (
        "m = Constant <value = int64[1] {-1}> ()\n"
        "e = Constant <value = int64[1] {-9223372036854775807}> ()\n"
        "w = Slice (x, m, e, one, m)\ny = Slice (w, zero, n, zero)", (None, 81),
    ),
    "a Slice along a computed axis": (
        "c = Div (n, n)\ny = Slice (x, zero, two, c)", (None, None),
    ),
    "the shape of what is sliced": (
        "v = Slice (x, zero, n, zero)\nw = Shape <start = 1> (v)\n"
        "m = Constant <value = int64[1] {-1}> ()\ns = Concat <axis = 0> (m, w)\n"
        "y = Reshape (x, s)", (None, 81),
    ),
    "PyTorch's expand": (
        "u = Unsqueeze (x, one)\nm = Constant <value = int64[2] {9, -1}> ()\n"
        "w = Concat <axis = 0> (n, m)\ns = Shape (w)\n"
        "o = ConstantOfShape <value = int64[1] {1}> (s)\nk = Constant <value = int64 {-1}> ()\n"
        "p = Mul (o, k)\nq = Equal (w, p)\nt = Where (q, o, w)\ny = Expand (u, t)",
        (None, 9, 81),
    ),
    "Expand of a vector": (
        "v = Constant <value = float[3] {1., 2., 3.}> ()\nw = Concat <axis = 0> (n, one)\n"
        "y = Expand (v, w)", (None, 3),
    ),
    "Tile": ("w = Concat <axis = 0> (n, two)\ny = Tile (x, w)", (None, 162)),
    "Pad": (
        "w = Concat <axis = 0> (n, zero, one, two)\ny = Pad (x, w)", (None, 83),
    ),
    "Pad along one axis": ("w = Concat <axis = 0> (n, n)\ny = Pad (x, w, , zero)", (None, 81)),
    "Split": (
        "h = Div (n, two)\nr = Sub (n, h)\nw = Concat <axis = 0> (h, r)\nv, y = Split (x, w)",
        (None, 81),
    ),
    "ConstantOfShape": (
        "w = Constant <value = int64[3] {16, 14, 14}> ()\ns = Concat <axis = 0> (n, w)\n"
        "y = ConstantOfShape (s)", (None, 16, 14, 14),
    ),
    "Reshape by a quotient": (
        "k = Constant <value = int64 {1}> ()\nc = Gather (all, k)\n"
        "nine = Constant <value = int64 {9}> ()\nq = Div (c, nine)\nr = Unsqueeze (q, zero)\n"
        "s = Concat <axis = 0> (n, r, r)\ny = Reshape (x, s)", (None, 9, 9),
    ),
    "TopK": (
        "ten = Constant <value = int64[1] {10}> ()\nk = Min (n, ten)\n"
        "y, i = TopK <axis = 0> (x, k)", (None, 81),
    ),
    "Compress": (
        "k = Constant <value = int64 {0}> ()\nv = Gather <axis = 1> (x, k)\n"
        "o = Constant <value = float {0.}> ()\nc = Greater (v, o)\ny = Compress <axis = 0> (x, c)",
        (None, 81),
    ),
}  # fmt: skip
_MAPS = {
    "Resize to the sizes of another map": (
        "c = Slice (all, zero, two)\nw = Constant <value = int64[2] {10, 12}> ()\n"
        "s = Concat <axis = 0> (c, w)\ny = Resize <mode = \"nearest\"> (x, , , s)", (1, 8, 10, 12),
    ),
    "Resize to twice one side": (
        "f = Constant <value = int64[4] {1, 1, 1, 2}> ()\ns = Mul (all, f)\n"
        "y = Resize <mode = \"nearest\"> (x, , , s)", (1, 8, None, None),
    ),
    "channels by groups": (
        "k = Constant <value = int64[3] {1, -1, 4}> ()\nw = Slice (all, two, two2)\n"
        "s = Concat <axis = 0> (k, w)\ny = Reshape (x, s)", (1, None, 4, None, None),
    ),
}  # fmt: skip


def _model(body: str, sides: str) -> onnx.ModelProto:
    start = _START + ("two2 = Constant <value = int64[1] {4}> ()\n" if "two2" in body else "")
    return onnx.parser.parse_model(_HEAD.format(sides=sides) + start + body + "\n}")


def _check(model: onnx.ModelProto, expected: tuple[int | None, ...], *pictures: np.ndarray) -> None:
    graph = fold(model)
    assert graph.shape(graph.outputs[0]) == expected
    for picture in pictures:
        (found,) = ReferenceEvaluator(model).run(None, {"x": picture})
        assert len(found.shape) == len(expected)
        wrong = [(f, e) for f, e in zip(found.shape, expected, strict=True) if e not in (None, f)]
        assert not wrong


@pytest.mark.parametrize("name", _ROWS)
def test_rows(name: str) -> None:
    body, expected = _ROWS[name]
    generator = np.random.default_rng(0)
    rows = [generator.normal(size=(n, 81)).astype(np.float32) for n in (4, 12)]
    _check(_model(body, "N, 81"), expected, *rows)


@pytest.mark.parametrize("name", _MAPS)
def test_maps(name: str) -> None:
    body, expected = _MAPS[name]
    maps = [np.ones((1, 8, h, w), np.float32) for h, w in ((5, 6), (10, 12))]
    _check(_model(body, "1, 8, H, W"), expected, *maps)


def test_known_parts_of_a_shape_are_computed() -> None:
    """No node is left for a number that no picture changes."""
    body = """v = Slice (x, zero, n, zero)\nw = Shape <start = 1, end = 2> (v)
        k = Add (w, one)\nr = Squeeze (k, zero)\nz = ConstantOfShape (r2)\ny = Add (z, z)"""
    model = _model(body.replace("r2", "k"), "N, 81")
    graph = fold(model)
    assert graph.shape(graph.outputs[0]) == (82,)
    assert not graph.nodes


def test_a_long_chain_is_followed() -> None:
    """Each node is looked at once: no chain is too long, and no number is computed twice."""
    steps = [f"c{i + 1} = Add (c{i}, c{i})" for i in range(60)]
    chain = "\n".join(["c0 = Sub (n, n)", *steps])
    body = f"{chain}\ns = Concat <axis = 0> (c60, one)\nm = Max (s, one)\ny = Expand (x, m)"
    _check(_model(body, "N, 81"), (None, 81), np.ones((4, 81), np.float32))


def test_places_outside_of_a_shape() -> None:
    body = "k = Constant <value = int64[1] {7}> ()\nw = Gather (all, k)\ny = ConstantOfShape (w)"
    graph = fold(_model(body, "N, 81"))
    assert graph.shape(graph.outputs[0]) == (None,)
