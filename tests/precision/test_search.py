"""The search on the demo model: a planted bad scale is found, and only its layer gives way."""

from dataclasses import replace
from pathlib import Path

import onnx
import pytest

import maskrt
from maskrt import calib
from maskrt.core import CheckFailedError, Precision, Target, silent
from maskrt.core.bundle import MODEL, RECIPE
from maskrt.demo import weights_path
from maskrt.demo.scenes import CLASS_NAMES, scene, write_coco
from maskrt.pipeline import export_bundle
from maskrt.precision.request import Judged, RecipeRequest
from maskrt.precision.search import fit_recipe, search_report
from maskrt.runtime.check import CocoDataset

pytestmark = [pytest.mark.slow, pytest.mark.torch]
SIZE = (320, 320)
BAD = "roi_heads.box_head.fc7"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> maskrt.Bundle:
    made = export_bundle(
        "maskrt:maskrcnn_scenes", tmp_path_factory.mktemp("search") / "demo.maskrt",
        weights=weights_path(), input_size=SIZE, class_names=("background", *CLASS_NAMES),
    )  # fmt: skip
    pictures = [scene(i, split="train", size=SIZE).image for i in range(16)]
    return maskrt.calibrate(made, pictures)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> CocoDataset:
    annotations = write_coco(tmp_path_factory.mktemp("scenes"), 24, split="val", size=SIZE)
    return CocoDataset.load(annotations.parent / "images", annotations)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> CocoDataset:
    """Enough where AP only has to miss a budget that nothing can keep."""
    annotations = write_coco(tmp_path_factory.mktemp("few"), 4, split="val", size=SIZE)
    return CocoDataset.load(annotations.parent / "images", annotations)


def _spoilt(bundle: maskrt.Bundle) -> calib.Recipe:
    """Return the bundle's recipe with the input of one layer on a grid 100 times too coarse."""
    recipe = calib.Recipe.from_json(bundle.read_json(RECIPE))
    model = onnx.load_model_from_string(bundle.read(MODEL))
    (layer,) = [x for x in calib.place(model).layers if x.name == BAD]
    tensor = recipe.tensors[layer.data]
    coarse = replace(tensor, scales={m: 100 * s for m, s in tensor.scales.items()})
    return replace(recipe, tensors={**recipe.tensors, layer.data: coarse})


def test_a_planted_bad_scale_is_found(
    bundle: maskrt.Bundle, dataset: CocoDataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MASKRT_CACHE", str(tmp_path))
    model = onnx.load_model_from_string(bundle.read(MODEL))
    pictures = [scene(i, split="train", size=SIZE).image for i in range(2)]

    asked = RecipeRequest(Precision.INT8, tuple(pictures))

    def judged(budget: float) -> Judged:
        return Judged(dataset, (Target.parse("cpu"),), budget)

    def fit(budget: float) -> calib.search.Outcome:
        return fit_recipe(bundle, model, _spoilt(bundle), asked, judged(budget), silent)

    outcome = fit(1.5)
    assert outcome.trials[0].score.drop > 10  # the planted fault does harm
    best = outcome.best
    assert best is not None
    assert best.recipe.layers[BAD].precision is Precision.FP32
    wide = [n for n, c in best.recipe.layers.items() if c.reason.startswith("widened")]
    assert len(wide) <= 8  # and few others pay for it
    report = search_report(outcome, judged(1.5))
    assert best.score.drop <= 1.5
    inside = {(t["cost"], t["drop"]) for t in report["trials"] if t["drop"] <= 1.5}
    assert (best.score.cost, best.score.drop) in sorted(inside)[:3]  # of which it is the fastest
    assert report["sensitivity"][0]["layers"] == [BAD]
    assert report["modelled"] == "Jetson Orin NX 8 GB"
    again = fit(1.5)  # from the journal
    assert again.trials == outcome.trials


def test_a_budget_out_of_reach_is_refused(
    bundle: maskrt.Bundle, few: CocoDataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MASKRT_CACHE", str(tmp_path))
    model = onnx.load_model_from_string(bundle.read(MODEL))
    recipe = calib.Recipe.from_json(bundle.read_json(RECIPE))
    pictures = [scene(0, split="train", size=SIZE).image]
    asked = RecipeRequest(Precision.INT8, tuple(pictures))
    judged = Judged(few, (Target.parse("cpu"),), -50.0)
    with pytest.raises(CheckFailedError, match="choose mixed, fp16 or a wider budget"):
        fit_recipe(bundle, model, recipe, asked, judged, silent)
