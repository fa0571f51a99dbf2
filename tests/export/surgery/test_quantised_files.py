"""Files that ONNX Runtime's own quantiser wrote are refused by what they are, with the remedy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

from maskrt.core import UnsupportedModelError
from maskrt.export.surgery import examine, export_onnx
from maskrt.export.surgery.quantised import check_not_quantised

from .one_pass_files import SIZE, yolo11_file

quantization = pytest.importorskip("onnxruntime.quantization")
pytestmark = pytest.mark.filterwarnings("ignore")


class _Pictures(quantization.CalibrationDataReader):  # type: ignore[name-defined, misc]
    def __init__(self) -> None:
        noise = np.random.default_rng(0).random((1, 3, *SIZE), np.float32)
        self._left = iter([{"images": noise}])

    def get_next(self) -> Any:
        return next(self._left, None)


def _static(form: str) -> Callable[[str, str], None]:
    kind = quantization.QuantFormat[form]
    return lambda source, made: quantization.quantize_static(
        source, made, _Pictures(), quant_format=kind, op_types_to_quantize=["Conv"]
    )


@pytest.mark.parametrize(("write", "kinds"), [
    (_static("QDQ"), "DequantizeLinear, QuantizeLinear"),
    (_static("QOperator"), "DequantizeLinear, QLinearConv, QuantizeLinear"),
    (quantization.quantize_dynamic, "ConvInteger, DynamicQuantizeLinear"),
], ids=["QDQ", "QOperator", "dynamic"])  # fmt: skip
def test_a_quantised_file(write: Callable[[str, str], None], kinds: str, tmp_path: Path) -> None:
    source, made = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    onnx.save(yolo11_file(), str(source))
    assert export_onnx(source).model.graph.node
    write(str(source), str(made))
    words = rf"int8\.onnx is quantised already \(\d+ nodes: {kinds}\), .* as calibration=\."
    for read in (export_onnx, examine):
        with pytest.raises(UnsupportedModelError, match=words):
            read(made)


@pytest.mark.parametrize(("node", "refused"), [
    ("com.microsoft.QLinearAdd (x, x, x, x, x, x, x, x)", True),
    ("com.microsoft.MatMulNBits <K = 4, N = 4> (x, x, x)", True),
    ("com.microsoft.QuickGelu (x)", False),
    ("Relu (x)", False),
])  # fmt: skip
def test_operators_of_microsoft(node: str, refused: bool) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>\n'
        f"g (float[4] x) => (float[4] y) {{ y = {node} }}"
    )
    if not refused:
        check_not_quantised(model, "a.onnx")
        return
    with pytest.raises(UnsupportedModelError, match=r"a\.onnx is quantised already \(1 node: "):
        check_not_quantised(model, "a.onnx")
