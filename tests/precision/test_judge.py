"""How a recipe is scored: what counts as lost, what it costs on whose device, what is remembered.

The engine is not run: `evaluate` is told what AP it would find.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest
from PIL import Image

from maskrt import calib
from maskrt.calib.cost import MACHINES, layer_seconds, recipe_seconds
from maskrt.calib.recipe import PER_TENSOR
from maskrt.calib.search import Score
from maskrt.core import Bundle, InputSpec, Manifest, Precision, Target, silent
from maskrt.precision.request import Judged, RecipeRequest
from maskrt.precision.search import Judge, fit_recipe
from maskrt.runtime.check import CocoDataset, Report

from ..calib.graphs import SIZE, detector, int8_recipe

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


class _Found:
    """Stands for all that runs: the FP32 graph finds `REFERENCE`, each engine what is planted.

    Attributes:
        runs: how often something was run.
    """

    latency_ms: ClassVar = {"p50": 7.0}

    def __init__(self, reference: bytes, engine: dict[str, float]) -> None:
        self._reference, self._engine = reference, {**REFERENCE, **engine}
        self.runs = 0

    def __call__(self, predict: bytes, *_: Any, **__: Any) -> "_Found":
        found = REFERENCE if predict == self._reference else self._engine
        self.metrics = {kind: {"AP": ap} for kind, ap in found.items()}
        self.runs += 1
        return self


class _Session:
    def __init__(self, engine: bytes, *_: Any, **__: Any) -> None:
        self.predict = engine

    def __enter__(self) -> "_Session":
        return self

    def __exit__(self, *_: object) -> None: ...


Plant = Callable[[dict[str, float]], _Found]


@pytest.fixture
def plant(model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Plant:
    """Return what plants the AP that engines are found to have."""
    monkeypatch.setenv("MASKRT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setattr("maskrt.precision.search.CpuBackend", lambda engine, exact=False: engine)
    monkeypatch.setattr("maskrt.precision.search.bare_session", _Session)

    def planted(ap: dict[str, float]) -> _Found:
        found = _Found(model.SerializeToString(), ap)
        monkeypatch.setattr("maskrt.precision.search.evaluate", found)
        return found

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
    score = Judge(bundle, model, Judged(dataset, (Target.parse("orin-nx"),))).score(recipe)
    assert score.drop == drop
    metrics = [{kind: {"AP": ap} for kind, ap in each.items()} for each in (found, REFERENCE)]
    for budget in (0.0, 1.5, 2.9):
        report = Report("cpu", Precision.INT8, 1, metrics[0], reference=metrics[1], budget=budget)
        assert report.passed == (score.drop <= budget)


def test_a_recipe_is_scored_as_every_target_renders_it(
    bundle: Bundle, model: onnx.ModelProto, dataset: CocoDataset, recipe: calib.Recipe,
    plant: Plant, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """For a GPU that is explicit Q/DQ, and for TensorRT-RTX one scale a weight, where INT8 pays."""
    render, seen = calib.render, []
    here, there = (calib.Style.ORT, "channel"), (calib.Style.TENSORRT, "channel")
    rtx = (calib.Style.TENSORRT, PER_TENSOR)

    def rendered(given: onnx.ModelProto, chosen: calib.Recipe, style: calib.Style) -> Any:
        each = PER_TENSOR if chosen.weight_scales == PER_TENSOR else "channel"
        seen.append((style, each))
        return render(given, chosen, style)

    monkeypatch.setattr("maskrt.calib.render", rendered)
    plant({"box": 58.0, "mask": 50.0})
    for names, expected in (
        (["cpu"], [here]), (["orin-nx"], [there]), (["orin-nx", "cpu"], [here, there]),
        (["rtx"], [rtx]), (["cpu", "rtx", "orin-nx"], [here, rtx, there]),
    ):  # fmt: skip
        monkeypatch.setenv("MASKRT_CACHE", "off")
        seen.clear()
        judged = Judged(dataset, tuple(Target.parse(name) for name in names))
        assert Judge(bundle, model, judged).score(recipe).drop == 2.0
        assert seen == expected
    seen.clear()
    assert Judge(bundle, model, replace(judged, budget=1.0)).score(recipe).drop == 2.0
    assert seen == [here]  # which is enough to know that it is outside


def _fit(
    bundle: Bundle, model: onnx.ModelProto, dataset: CocoDataset, recipe: calib.Recipe, target: str
) -> Score:
    asked, judged = RecipeRequest(), Judged(dataset, (Target.parse(target),), 5.0)
    found = fit_recipe(bundle, model, recipe, asked, judged, silent)
    assert found.best is not None
    return found.best.score


def test_another_device_has_its_own_costs_and_the_same_ap(
    bundle: Bundle, model: onnx.ModelProto, dataset: CocoDataset, recipe: calib.Recipe, plant: Plant
) -> None:
    found = plant({"box": 58.0, "mask": 50.0})
    for target in ("orin-nano", "agx-orin", "orin-nano"):
        seconds = layer_seconds(model, MACHINES[target])
        score = _fit(bundle, model, dataset, recipe, target)
        assert score.drop == 2.0
        assert score.cost == pytest.approx(1e3 * recipe_seconds(recipe, seconds), rel=1e-12)
        assert found.runs == 2  # reference and engine, for the first device


@pytest.mark.parametrize("package", ["maskrt.precision.journal", "onnxruntime"])
def test_what_another_version_found_is_not_relied_on(
    bundle: Bundle, model: onnx.ModelProto, dataset: CocoDataset, recipe: calib.Recipe,
    plant: Plant, monkeypatch: pytest.MonkeyPatch, package: str,
) -> None:  # fmt: skip
    plant({"box": 58.0, "mask": 50.0})
    assert _fit(bundle, model, dataset, recipe, "orin-nx").drop == 2.0
    monkeypatch.setattr(f"{package}.__version__", "99.0")
    found = plant({"box": 57.0, "mask": 50.0})
    assert _fit(bundle, model, dataset, recipe, "orin-nx").drop == 3.0
    assert found.runs == 2


def test_other_scales_are_another_recipe(
    bundle: Bundle, model: onnx.ModelProto, dataset: CocoDataset, recipe: calib.Recipe, plant: Plant
) -> None:
    plant({"box": 58.0, "mask": 50.0})
    assert _fit(bundle, model, dataset, recipe, "orin-nx").drop == 2.0
    name, scale = next(iter(recipe.tensors.items()))
    coarse = replace(scale, scales={m: 2 * s for m, s in scale.scales.items()})
    other = replace(recipe, tensors={**recipe.tensors, name: coarse})
    plant({"box": 56.0, "mask": 50.0})
    assert _fit(bundle, model, dataset, other, "orin-nx").drop == 4.0


def test_a_cache_that_is_switched_off_stays_empty(
    bundle: Bundle, model: onnx.ModelProto, dataset: CocoDataset, recipe: calib.Recipe,
    plant: Plant, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    found = plant({"box": 58.0, "mask": 50.0})
    monkeypatch.setenv("MASKRT_CACHE", "off")
    for runs in (2, 4):
        assert _fit(bundle, model, dataset, recipe, "orin-nx").drop == 2.0
        assert found.runs == runs
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "elsewhere").exists()


def test_a_cache_elsewhere_is_used_alone(
    bundle: Bundle, model: onnx.ModelProto, dataset: CocoDataset, recipe: calib.Recipe,
    plant: Plant, tmp_path: Path,
) -> None:  # fmt: skip
    plant({"box": 58.0, "mask": 50.0})
    _fit(bundle, model, dataset, recipe, "orin-nx")
    assert len(list((tmp_path / "cache" / "search").iterdir())) == 1
    assert not (tmp_path / "elsewhere").exists()


def test_a_cache_that_cannot_be_written_stops_no_search(
    bundle: Bundle, model: onnx.ModelProto, dataset: CocoDataset, recipe: calib.Recipe,
    plant: Plant, tmp_path: Path,
) -> None:  # fmt: skip
    (tmp_path / "cache").write_text("a file where the folder should be")
    found = plant({"box": 58.0, "mask": 50.0})
    assert _fit(bundle, model, dataset, recipe, "orin-nx").drop == 2.0
    assert found.runs == 2


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"reference": {"drop": 0.5, "cost": 1.0, "latency_ms": 0.0}}',
        b'{"reference": {"box": 90.0, "mask": 90.0}}',
        b'{"reference": {"ap": {"box": "90"}, "latency_ms": 1.0}}',
        b'{"reference": {"ap": {"box": NaN}, "latency_ms": 1.0}}',
        b'{"reference": {"ap": {}, "latency_ms": 1.0}}',
        b'{"reference": {"ap": {"box": 90.0}, "latency_ms": 1.0, "cost": 2.0}}',
        b'{"reference": {"ap": {"box": 9, "mask": 9}, "latency_ms": 1}, "x": {"ap": {"box": 9}, '
        b'"latency_ms": 1}}',
        b'{"reference": 3}',
    ],
)
def test_a_damaged_or_older_journal_is_begun_anew(
    bundle: Bundle, model: onnx.ModelProto, dataset: CocoDataset, recipe: calib.Recipe,
    plant: Plant, tmp_path: Path, damaged: bytes,
) -> None:  # fmt: skip
    found = plant({"box": 58.0, "mask": 50.0})
    _fit(bundle, model, dataset, recipe, "orin-nx")
    (file,) = (tmp_path / "cache" / "search").iterdir()
    good = file.read_bytes()
    file.write_bytes(damaged)
    assert _fit(bundle, model, dataset, recipe, "orin-nx").drop == 2.0
    assert found.runs == 4
    assert file.read_bytes() == good
