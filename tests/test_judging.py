"""How a recipe is scored: what counts as lost, what it costs on whose device, what is remembered.

The engine is not run: `evaluate` is told what AP it would find.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from maskrt import calib
from maskrt.core import Bundle, InputSpec, Manifest, Precision, Target
from maskrt.runtime.check import CocoDataset, Report
from maskrt.searching import Judge

from .calib.graphs import SIZE, detector, int8_recipe

pytest.importorskip("onnxruntime")
REFERENCE = {"box": 60.0, "mask": 50.0, "boundary": 40.0}


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return detector()


@pytest.fixture(scope="module")
def recipe(model: onnx.ModelProto) -> calib.Recipe:
    return int8_recipe(model)


@pytest.fixture
def bundle(model: onnx.ModelProto, tmp_path: Path) -> Bundle:
    outputs = {value.name: (1,) for value in model.graph.output}
    manifest = Manifest("test", InputSpec(SIZE, SIZE), outputs)
    with Bundle.create(tmp_path / "b.maskrt", manifest) as made:
        made.write("model.onnx", model.SerializeToString())
    return Bundle.open(tmp_path / "b.maskrt")


@pytest.fixture
def dataset(tmp_path: Path) -> CocoDataset:
    Image.fromarray(np.zeros((SIZE, SIZE, 3), np.uint8)).save(tmp_path / "one.png")
    file = tmp_path / "annotations.json"
    square = {"bbox": [1, 1, 9, 9], "segmentation": [[1, 1, 10, 1, 10, 10, 1, 10]], "area": 81}
    data = {
        "images": [{"id": 1, "file_name": "one.png", "height": SIZE, "width": SIZE}],
        "categories": [{"id": 1, "name": "square"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, **square}],
    }
    file.write_text(json.dumps(data))
    return CocoDataset.load(tmp_path, file)


class _Measured:
    """Stands for all that runs: the first data set it is shown is the reference's.

    Attributes:
        runs: how often something was run.
    """

    def __init__(self, *found: dict[str, float]) -> None:
        self._found = [REFERENCE, *found]
        self.runs = 0

    def __call__(self, *_: Any, **__: Any) -> Any:
        found = self._found[min(self.runs, len(self._found) - 1)]
        self.metrics = {kind: {"AP": ap} for kind, ap in found.items()}
        self.latency_ms = {"p50": 7.0}
        self.runs += 1
        return self


class _Session:
    predict = None

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __enter__(self) -> "_Session":
        return self

    def __exit__(self, *_: object) -> None: ...


Plant = Callable[..., _Measured]


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Plant:
    """Return what plants the AP that engines are found to have, one after another."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("maskrt.searching.CpuBackend", lambda engine: engine)
    monkeypatch.setattr("maskrt.searching.Session", _Session)

    def planted(*found: dict[str, float]) -> _Measured:
        measured = _Measured(*found)
        monkeypatch.setattr("maskrt.searching.evaluate", measured)
        return measured

    return planted


@pytest.mark.parametrize(
    ("found", "drop"),
    [
        ({"box": 60.0, "mask": 50.0, "boundary": 10.0}, 0.0),  # in boundary only
        ({"box": 59.0, "mask": 48.5, "boundary": 10.0}, 1.5),
        ({"box": 57.0, "mask": 50.5, "boundary": 40.0}, 3.0),
        ({"box": 61.0, "mask": 52.0, "boundary": 39.0}, -1.0),
    ],
)
def test_what_is_lost_is_what_the_final_check_says(
    bundle: Bundle, model: onnx.ModelProto, dataset: CocoDataset, recipe: calib.Recipe,
    plant: Plant, found: dict[str, float], drop: float,
) -> None:  # fmt: skip
    plant(found)
    score = Judge(bundle, model, dataset, [Target.parse("orin-nx")], recipe).score(recipe)
    assert score.drop == drop
    metrics = [{kind: {"AP": ap} for kind, ap in each.items()} for each in (found, REFERENCE)]
    for budget in (0.0, 1.5, 2.9):
        report = Report("cpu", Precision.INT8, 1, metrics[0], reference=metrics[1], budget=budget)
        assert report.passed == (score.drop <= budget)
