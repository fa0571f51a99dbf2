"""Which improvement is kept follows from the scores alone."""

from typing import Any

import numpy as np
import onnx
import pytest

from maskrt import calib
from maskrt.calib.search import Score
from maskrt.core import Target, silent
from maskrt.improving import BIAS_CORRECTION, EQUALISATION, improve

from .calib.graphs import detector, int8_recipe, pictures

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

    monkeypatch.setattr("maskrt.improving.Judge", Judge)
    recipe = int8_recipe(model)
    shown = list(np.concatenate([pictures(1, seed=seed) for seed in range(3)]))
    asked = (EQUALISATION, BIAS_CORRECTION)
    bundle: Any = _Bundle()
    dataset: Any = _Pictures()
    targets = [Target.parse("cpu")]
    found = improve(bundle, model, recipe, dataset, shown, targets, asked, silent)
    assert found.calibration["improvements"]["kept"] == kept
    assert (bool(found.factors), bool(found.corrections)) == tuple(name in kept for name in asked)
    assert found.graph == recipe.graph
    calib.render(model, found, calib.Style.TENSORRT)  # it fits
    if not kept:
        assert found.tensors == recipe.tensors
