#!/usr/bin/env bash
# Packages: onnxconverter-common 1.16.0; onnx 1.23.2 (checker), onnxruntime 1.32.0.
#
# One would guess: convert_float_to_float16(model, keep_io_types=True) puts casts at the graph's
# ends, and the rest is FP16.
#
# Seen: if an output of the graph is read inside it as well, the reader is left on the output's side
# of the cast: an FP32 input to a node whose output is declared FP16. The result fails ONNX's
# checker and ONNX Runtime. The same graph whose output nobody reads, or with the types not kept,
# converts well.
#
# Why it matters: a feature pyramid's levels that are given out and go into the RPN too, or a score
# that is given out and sorted, is the pattern of most detectors. Put an Identity between a tensor
# and the output first.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --no-compile --disable-pip-version-check \
    onnxconverter-common==1.16.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6

venv/bin/python - <<'PYTHON'
import onnx
import onnxruntime
from onnx import TensorProto, helper
from onnxconverter_common import float16

SHAPE = [1, 4, 8, 8]


def detector(given_out: list[str], *, identity: bool = False) -> onnx.ModelProto:
    """x → Relu → level → Sigmoid → scores; the level may be given out through an Identity."""
    nodes = [
        helper.make_node("Relu", ["x"], ["inner" if identity else "level"], "backbone"),
        helper.make_node("Sigmoid", ["inner" if identity else "level"], ["scores"], "head"),
    ]
    if identity:
        nodes.append(helper.make_node("Identity", ["inner"], ["level"], "out"))
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in given_out],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def sentence_of_refusal(check: object, *given: object, **options: object) -> str:
    try:
        check(*given, **options)
    except Exception as error:
        return str(error).replace("\n", " ")[:170]
    return "takes it"


def tried(model: onnx.ModelProto, *, keep_io_types: bool) -> tuple[str, str]:
    half = float16.convert_float_to_float16(model, keep_io_types=keep_io_types)
    session = onnxruntime.InferenceSession
    providers = ["CPUExecutionProvider"]
    return (
        sentence_of_refusal(onnx.checker.check_model, half, full_check=True),
        sentence_of_refusal(session, half.SerializeToString(), providers=providers),
    )


seen = {
    "scores given out": tried(detector(["scores"]), keep_io_types=True),
    "level and scores given out": tried(detector(["level", "scores"]), keep_io_types=True),
    "both, types not kept": tried(detector(["level", "scores"]), keep_io_types=False),
    "both, an Identity between": tried(
        detector(["level", "scores"], identity=True), keep_io_types=True
    ),
}
for name, (checker, runtime) in seen.items():
    print(f"{name}\n  checker: {checker}\n  ONNX Runtime: {runtime}")
broken = seen.pop("level and scores given out")
assert "takes it" not in broken
assert all(pair == ("takes it", "takes it") for pair in seen.values())
PYTHON
