"""Which improvement is kept follows from the scores alone, and INT8 alone is touched by it."""

import json
from typing import Any

import numpy as np
import onnx
import pytest

from maskrt import calib
from maskrt.calib.search import Score
from maskrt.core import InputSpec, Precision, Target, silent
from maskrt.precision.improvement import improve, improvements
from maskrt.precision.request import BIAS_CORRECTION, EQUALISATION, Judged, RecipeRequest
from maskrt.runtime.build.host_graph import host_graph

from ..calib.graphs import GraphBuilder, detector, int8_recipe, pictures, run, snr_db, stem

pytest.importorskip("onnxruntime")


class _Bundle:
    """What `improve` needs of one."""

    class manifest:  # noqa: N801
        from maskrt.core import InputSpec

        input = InputSpec(64, 64)


class _Pictures:
    def share(self, most: int) -> "_Pictures":
        return self


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return detector()


@pytest.mark.parametrize(
    ("drops", "kept"),
    [
        ({(True, False): 0.1, (False, True): 0.2, (True, True): 0.3}, [EQUALISATION]),
        ({(True, False): 0.4, (False, True): 0.2, (True, True): 0.3}, [BIAS_CORRECTION]),
        (
            {(True, False): 0.4, (False, True): 0.2, (True, True): -0.1},
            [EQUALISATION, BIAS_CORRECTION],
        ),
        ({(True, False): 0.5, (False, True): 0.5, (True, True): 0.5}, []),
    ],
)
def test_the_least_drop_is_kept_and_a_tie_changes_nothing(
    model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch, drops: dict, kept: list[str]
) -> None:
    class Judge:
        def __init__(self, *_: Any) -> None: ...

        def score(self, recipe: calib.Recipe) -> Score:
            key = bool(recipe.factors), bool(recipe.corrections)
            return Score(drops.get(key, 0.5), 0.0)

    monkeypatch.setattr("maskrt.precision.improvement.Judge", Judge)
    recipe = int8_recipe(model)
    shown = list(np.concatenate([pictures(1, seed=seed) for seed in range(3)]))
    asked = (EQUALISATION, BIAS_CORRECTION)
    bundle: Any = _Bundle()
    dataset: Any = _Pictures()
    judged = Judged(dataset, (Target.parse("cpu"),))
    wanted = RecipeRequest(Precision.INT8, tuple(shown), improvements=asked)
    found = improve(bundle, model, recipe, wanted, judged, silent)
    assert found.calibration["improvements"]["kept"] == kept
    assert (bool(found.factors), bool(found.corrections)) == tuple(name in kept for name in asked)
    assert found.graph == recipe.graph
    calib.render(model, found, calib.Style.TENSORRT)  # it fits
    if not kept:
        assert found.tensors == recipe.tensors


def test_a_picture_that_fills_a_batch_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, shown = detector(batch=2), [pictures(1, seed=seed)[0] for seed in range(3)]
    seen: list[int] = []

    def measured(_: object, __: object, batches: Any) -> dict[str, tuple[float, ...]]:
        seen.extend(map(len, batches))
        return {}

    monkeypatch.setattr("maskrt.precision.improvement.measure_bias", measured)
    bundle: Any = _Bundle()
    monkeypatch.setattr(bundle.manifest, "input", InputSpec(64, 64, batch=2))
    recipe = calib.make_recipe(model, Precision.FP32)
    asked = RecipeRequest(Precision.INT8, tuple(shown), improvements=(BIAS_CORRECTION,))
    improvements(bundle, model, recipe, asked, silent)
    assert seen == [2, 1]


def _overflowing() -> onnx.ModelProto:
    """Two convolutions; a few channels between them exceed 65504, until they are equalised."""
    g = GraphBuilder(3)
    features = stem(g)
    sizes = 1e3 * np.logspace(-1.5, 1.5, 32, dtype=np.float32)
    weight = g.constant(g.random.normal(0, 0.1, (32, 16, 3, 3)).astype(np.float32))
    g.constants[weight] *= sizes[:, None, None, None]
    middle = g.relu(g.op("Conv", features, weight, pads=[1] * 4, name="first of two"))
    reader = g.constant(g.random.normal(0, 0.1, (24, 32, 3, 3)).astype(np.float32))
    g.constants[reader] /= sizes[None, :, None, None]
    end = g.op("Conv", middle, reader, g.bias(24), pads=[1] * 4, name="second of two")
    return g.model([end])


def test_other_precisions_are_those_of_the_graph_that_was_exported() -> None:
    model, shown = _overflowing(), [pictures(1, seed=seed)[0] for seed in range(4)]
    plain = int8_recipe(model)
    bundle: Any = _Bundle()
    both = (EQUALISATION, BIAS_CORRECTION)
    asked = RecipeRequest(Precision.INT8, tuple(shown), improvements=both)
    found = improvements(bundle, model, plain, asked, silent)
    (name,) = [n for n, t in plain.tensors.items() if t.maximum > 65504]
    images = pictures(1, seed=9)
    (expected,) = run(model, images)
    assert len(found) == 3
    for names, improved in found.items():
        for recipe in (
            improved,
            calib.Recipe.from_json(json.loads(json.dumps(improved.to_json()))),
        ):
            assert recipe == improved
            equalised = EQUALISATION in names
            assert (recipe.tensors[name].maximum < 65504) == equalised
            assert (recipe.scale(name) < plain.scale(name)) == equalised
            half = recipe.with_precision(Precision.FP16)
            assert "more than FP16's 65504" in half.layers["second of two"].reason
            rendered = calib.render(model, half, calib.Style.TENSORRT)
            exact = onnx.load_model_from_string(host_graph(rendered))  # with every rounding
            assert snr_db(expected, run(exact, images)[0]) > 50
            for precision in set(Precision) - {Precision.INT8, Precision.MIXED}:
                chosen = recipe.with_precision(precision)
                assert not chosen.factors
                assert calib.render(model, chosen, calib.Style.TENSORRT) == calib.render(
                    model, plain.with_precision(precision), calib.Style.TENSORRT
                )
            other = recipe.with_method("minmax").with_precision(Precision.FP8)
            assert other.scale(name) == plain.with_method("minmax").scale(name)
