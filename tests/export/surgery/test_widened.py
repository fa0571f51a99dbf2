"""Boxes narrower than a cell, which an unaligned RoIAlign takes for one cell wide."""

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

torch = pytest.importorskip("torch")

from torchvision.ops import roi_align  # noqa: E402

from maskrt.export.surgery import Declined  # noqa: E402
from maskrt.export.surgery.emitter import Emitter  # noqa: E402
from maskrt.export.surgery.graph import Node  # noqa: E402
from maskrt.export.surgery.widened import check_levels_stay, least_sides  # noqa: E402

pytestmark = pytest.mark.torch


def _attributes(finest: float, *cells: float) -> dict:
    return {
        "spatial_scales": tuple(1 / cell for cell in cells), "min_level": 0, "canonical_level": 0,
        "level_epsilon": 0.0, "canonical_scale": finest,
    }  # fmt: skip


@pytest.mark.parametrize("cell", [4.0, 16.0])
def test_thin_boxes_are_widened_as_an_unaligned_roialign_does(cell: float) -> None:
    """ONNX Runtime's RoiAlign of moved boxes is torchvision's aligned one of widened boxes."""
    generator = np.random.default_rng(0)
    low = generator.random((40, 2)) * 60
    sides = generator.choice([0.0, 0.3, 0.9, 1.1, 6.0], (40, 2)) * cell
    boxes = np.float32(np.concatenate([low, low + sides], 1))
    features = generator.random((1, 3, 24, 24), np.float32)
    text = f"""<ir_version: 8, opset_import: ["" : 11]>
        g (float[1, 3, 24, 24] x, float[40, 4] boxes, int64[40] number) => (float y) {{
        half = Constant <value = float[1] {{{-cell / 2}}}> ()
        moved = Add (boxes, half)
        y = RoiAlign <output_height = 3, output_width = 3, sampling_ratio = 2,
                      spatial_scale = {1 / cell}> (x, moved, number) }}"""
    session = onnxruntime.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    (found,) = session.run(
        None, {"x": features, "boxes": boxes, "number": np.zeros(40, np.int64)}
    )  # fmt: skip
    out = Emitter()
    wide = least_sides(out, "b", _attributes(56, cell))
    widened = _run(out, wide, boxes[None])[0]
    assert (widened != boxes).any()
    expected = roi_align(torch.from_numpy(features), [torch.from_numpy(widened)], 3, 1 / cell, 2,
                         aligned=True)  # fmt: skip
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_thin_boxes_are_widened_to_a_cell_of_their_own_level() -> None:
    sides = np.float32([[3, 50], [3, 900], [50, 7], [200, 7], [3, 3], [0, 0], [300, 300]])
    boxes = np.concatenate([np.zeros_like(sides), sides], 1)
    out = Emitter()
    wide = least_sides(out, "b", _attributes(20, 4, 8))
    found = _run(out, wide, boxes[None])[0, :, 2:]
    cell = np.where(np.sqrt(sides.prod(1)) >= 40, 8, 4)
    np.testing.assert_array_equal(found, np.maximum(sides, cell[:, None]))


def _run(out: Emitter, name: str, boxes: np.ndarray) -> np.ndarray:
    """Return what the nodes of `out` make of `b = boxes`."""
    info = helper.make_tensor_value_info("b", TensorProto.FLOAT, boxes.shape)
    held = [numpy_helper.from_array(value, key) for key, value in out._constants.items()]
    graph = helper.make_graph(out.nodes, "g", [info], [onnx.ValueInfoProto(name=name)], held)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )  # fmt: skip
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return np.asarray(session.run(None, {"b": boxes})[0])


def test_a_change_of_level_is_refused() -> None:
    """mmdetection's 56 pixels leave room for it; a box of 4 x 500 is on the next level of 20."""
    node = Node("RoiAlign", (), ("y",))
    check_levels_stay(_attributes(56, 4, 8, 16, 32), (800, 1344), node)
    check_levels_stay(_attributes(20, 4, 8), (96, 128), node)
    with pytest.raises(Declined, match="opset_version=16 or later"):
        check_levels_stay(_attributes(20, 4, 8), (400, 500), node)
