"""Forms of indexing: each becomes Gather and NonZero of one axis, and computes what it did."""

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx.reference import ReferenceEvaluator

from maskrt.export.surgery.fold import fold
from maskrt.export.surgery.walk import compute

_HEAD = '<ir_version: 8, opset_import: ["" : 17]>\ng '
_GRAPHS = {
    "rows": """(float[6, 4] x, int64[n] i) => (float[n, 4] y)
        { a = Constant <value = int64[1] {-1}> () j = Unsqueeze (i, a) y = GatherND (x, j) }""",
    "rows that no Unsqueeze made": """(float[6, 4] x, int64[n] i) => (float[n, 4] y)
        { s = Constant <value = int64[2] {-1, 1}> () j = Reshape (i, s) y = GatherND (x, j) }""",
    "rows of the one picture": """(float[1, 6, 4] x, int64[1, 3] i) => (float[1, 3, 4] y)
        { a = Constant <value = int64[1] {-1}> () z = Constant <value = int64[1, 3, 1] {0, 0, 0}> ()
          j = Unsqueeze (i, a) k = Concat <axis = -1> (z, j) y = GatherND (x, k) }""",
    "entries of a mask": """(float[6, 4, 2] x, float[6, 4] m) => (float[n, 2] y)
        { t = Constant <value = float {0.5}> () b = Greater (m, t) w = NonZero (b)
          j = Transpose <perm = [1, 0]> (w) y = GatherND (x, j) }""",
    "columns of a mask's entries": """(float[6, 4] m) => (int64[n] y)
        { t = Constant <value = float {0.5}> () b = Greater (m, t) w = NonZero (b)
          j = Transpose <perm = [1, 0]> (w) o = Constant <value = int64 {1}> ()
          y = Gather <axis = 1> (j, o) }""",
    "columns of chosen entries": """(float[6, 4] m, int64[n] i) => (int64[n] y)
        { t = Constant <value = float {0.5}> () b = Greater (m, t) w = NonZero (b)
          j = Transpose <perm = [1, 0]> (w) o = Constant <value = int64 {1}> ()
          k = Gather <axis = 0> (j, i) y = Gather <axis = 1> (k, o) }""",
}


@pytest.mark.parametrize("text", _GRAPHS.values(), ids=list(_GRAPHS))
def test_form_computes_the_same(text: str) -> None:
    model = onnx.parser.parse_model(_HEAD + text)
    generator = np.random.default_rng(0)
    feeds = {}
    for info in model.graph.input:
        tensor = info.type.tensor_type
        shape = [d.dim_value or 3 for d in tensor.shape.dim]
        random = generator.random(shape, np.float32)
        feeds[info.name] = random if tensor.elem_type == 1 else np.int64(random * 3)
    (expected,) = ReferenceEvaluator(model).run(None, feeds)
    graph = fold(model)
    assert expected.size
    np.testing.assert_array_equal(compute(graph, "test", graph.outputs[0], feeds), expected)
    assert not graph.of("GatherND")
    for node in graph.of("Gather"):
        assert node.attributes.get("axis", 0) == 0
    for node in graph.of("NonZero"):
        assert len(graph.shape(node.inputs[0]) or ()) == 1 or not graph.readers(node.output)


@pytest.mark.parametrize(
    "text",
    [
        """(float[6, 4] x, int64[3, 2] i) => (float[3] y) { y = GatherND (x, i) }""",
        """(float[2, 6, 4] x, int64[2, 3, 1] i) => (float[2, 3, 4] y)
            { y = GatherND <batch_dims = 1> (x, i) }""",
    ],
)
def test_other_indexing_stays(text: str) -> None:
    assert fold(onnx.parser.parse_model(_HEAD + text)).of("GatherND")
