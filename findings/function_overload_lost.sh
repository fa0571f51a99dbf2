#!/usr/bin/env bash
# Packages: onnx 1.23.2, onnxslim 0.1.98, onnx-graphsurgeon 0.6.1; onnxruntime 1.32.0 to run what
# they write.
#
# One would guess: since IR version 10 an ONNX function is named by domain, name and overload. Tools
# that read such a model either know that or refuse it.
#
# Seen: of a graph that calls two functions of one name (overloads "one" and "two"), ONNX Runtime
# runs both bodies. onnxslim writes a model that loads and gives *other numbers*; ONNX's reference
# evaluator gives the same other numbers; onnx-graphsurgeon writes the same name twice,
# extract_model keeps one function of the two and the version converter none, which ONNX Runtime
# refuses to load.
#
# Why it matters: an exporter that writes custom operators (RoIAlign, NMS) as local functions, one
# body a shape, is silently changed by the first optimiser in the chain. Give each function a name
# of its own.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --no-compile --disable-pip-version-check \
    onnx==1.23.2 onnxslim==0.1.98 onnx-graphsurgeon==0.6.1 onnxruntime==1.32.0 numpy==2.4.6

venv/bin/python - <<'PYTHON'
import numpy as np
import onnx
import onnx.utils
import onnx.version_converter
import onnx_graphsurgeon
import onnxruntime
import onnxslim
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

OPSET = helper.make_opsetid("", 17)
X = np.array([-1, 2, -3], np.float32)


def body(overload: str, operator: str) -> onnx.FunctionProto:
    node = helper.make_node(operator, ["a"], ["b"])
    return helper.make_function("own", "Body", ["a"], ["b"], [node], [OPSET], overload=overload)


def make() -> onnx.ModelProto:
    """-|x|: the function "one" takes the absolute value, "two" changes the sign."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in "xmy"]
    nodes = [
        helper.make_node("Body", ["x"], ["m"], domain="own", overload="one"),
        helper.make_node("Body", ["m"], ["y"], domain="own", overload="two"),
    ]
    graph = helper.make_graph(nodes, "graph", [values[0]], [values[2]], value_info=[values[1]])
    model = helper.make_model(
        graph,
        functions=[body("one", "Abs"), body("two", "Neg")],
        opset_imports=[OPSET, helper.make_opsetid("own", 1)],
        ir_version=10,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def extracted() -> onnx.ModelProto:
    onnx.save(make(), "whole.onnx")
    onnx.utils.extract_model("whole.onnx", "part.onnx", ["x"], ["y"], check_model=False)
    return onnx.load("part.onnx")


def run(model: onnx.ModelProto) -> list[float] | None:
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        print(f"  refused: {str(error).splitlines()[0][:110]}")
        return None
    return session.run(None, {"x": X})[0].tolist()


tools = {
    "as written": make,
    "onnxslim": lambda: onnxslim.slim(make()),
    "graphsurgeon": lambda: onnx_graphsurgeon.export_onnx(onnx_graphsurgeon.import_onnx(make())),
    "extract_model": extracted,
    "version converter": lambda: onnx.version_converter.convert_version(make(), 21),
}
seen = {}
for name, tool in tools.items():
    model = tool()
    seen[name] = run(model)
    print(
        f"{name}: functions {[(f.name, f.overload) for f in model.functions]}, result {seen[name]}"
    )
reference = ReferenceEvaluator(make()).run(None, {"x": X})[0].tolist()
print(f"reference evaluator: {reference}")

right = (-np.abs(X)).tolist()
assert seen["as written"] == right
assert seen["onnxslim"] is not None
assert seen["onnxslim"] != right
assert reference == seen["onnxslim"]
assert seen["graphsurgeon"] is seen["extract_model"] is seen["version converter"] is None
PYTHON
