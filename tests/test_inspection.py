"""`inspect`: a bundle's engines, recipe and graph as data, counted here from its files."""

import json
from collections import Counter
from pathlib import Path

import onnx
import pytest

import maskrt
from maskrt.calib import make_recipe
from maskrt.core import Bundle, BundleError, InputSpec, Manifest, Precision
from maskrt.export.surgery import Examination

from .calib.graphs import SIZE, calibrated, detector

FP16, INT8 = Precision.FP16, Precision.INT8


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A calibrated detector with an engine for the CPU, and one that is prepared in words."""
    model = detector()
    outputs = {value.name: (1,) for value in model.graph.output}
    path = tmp_path_factory.mktemp("inspection") / "b.maskrt"
    with Bundle.create(path, Manifest("test", InputSpec(SIZE, SIZE), outputs, precision=INT8)) as b:
        b.write("model.onnx", model.SerializeToString())
        recipe = make_recipe(model, INT8, calibrated(model), rest=FP16)
        b.write("recipe.json", recipe.to_json())
    return maskrt.build(path, "cpu")


def test_engines_say_what_they_really_compute_in(bundle: Bundle) -> None:
    (engine,) = maskrt.inspect(bundle).engines
    info = json.loads((bundle.path / "engines/cpu/engine.json").read_text())
    assert (engine.name, engine.precision, engine.runs_here) == ("cpu", INT8, True)
    assert dict(engine.layers) == dict(Counter(info["layer_precisions"].values()))
    assert engine.layers["int8"] > 0
    assert engine.bytes == sum(
        file.stat().st_size for file in (bundle.path / "engines/cpu").glob("engine.onnx")
    )
    assert engine.info == info


def test_the_recipe_names_what_was_kept_back_and_why(bundle: Bundle) -> None:
    found = maskrt.inspect(bundle.path)
    assert isinstance(found, maskrt.Inspection)
    assert found.recipe is not None
    layers = json.loads((bundle.path / "recipe.json").read_text())["layers"]
    assert found.recipe.precision is INT8
    assert {p.value: n for p, n in found.recipe.layers.items()} == Counter(
        choice["precision"] for choice in layers.values()
    )
    kept = {kept.layer: (kept.precision.value, kept.reason) for kept in found.recipe.kept_back}
    assert kept == {
        name: (choice["precision"], choice["reason"])
        for name, choice in layers.items()
        if choice["precision"] != "int8"
    }


def test_the_graph_is_counted(bundle: Bundle) -> None:
    graph = maskrt.inspect(bundle).graph
    assert graph is not None
    nodes = onnx.load(bundle.path / "model.onnx").graph.node
    assert graph.nodes == len(nodes)
    assert graph.operators == Counter(node.op_type for node in nodes)
    assert list(graph.operators.values()) == sorted(graph.operators.values(), reverse=True)


def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    model = detector()
    outputs = {value.name: (1,) for value in model.graph.output}
    with Bundle.create(tmp_path / "b.maskrt", Manifest("t", InputSpec(SIZE, SIZE), outputs)) as b:
        b.write("model.onnx", model.SerializeToString())
    found = maskrt.inspect(Bundle.open(tmp_path / "b.maskrt"))
    assert (found.calibration, found.search, found.report, found.recipe) == (None,) * 4
    assert (found.engines, found.prepared) == ((), ())


def test_an_onnx_file_is_examined(bundle: Bundle, tmp_path: Path) -> None:
    file = tmp_path / "other.onnx"
    foreign = onnx.load(bundle.path / "model.onnx")
    foreign.producer_name = "other"
    kept = [opset for opset in foreign.opset_import if not opset.domain]
    del foreign.opset_import[:]
    foreign.opset_import.extend(kept)
    onnx.save(foreign, file)
    found = maskrt.inspect(file)
    assert isinstance(found, Examination)
    assert found.nodes == len(onnx.load(file).graph.node)
    assert found.declined


def test_neither_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(BundleError, match=r"neither a bundle nor an \.onnx file"):
        maskrt.inspect(tmp_path / "notes.txt")
    with pytest.raises(BundleError, match="does not exist"):
        maskrt.inspect(tmp_path / "absent.maskrt")
