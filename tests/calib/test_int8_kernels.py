"""The table of forms without an INT8 kernel, against what the runtimes make of each form.

A form that the table does not name has to come back as INT8, and one that it names must not.
"""

from dataclasses import replace

import onnx
import pytest

from maskrt.calib import (
    LayerChoice,
    Recipe,
    Style,
    hold_to_int8_kernels,
    make_recipe,
    render,
    without_int8_kernel,
)
from maskrt.calib.int8_kernels import FORMS as TABLE
from maskrt.calib.observe import open_session
from maskrt.calib.recipe import PER_TENSOR
from maskrt.core import Precision, PrecisionError, Target
from maskrt.runtime.build import build_engine

from .graphs import calibrated, pictures, run, snr_db
from .layer_forms import FORMS, built

INT8, FP16, FP32, MIXED = Precision.INT8, Precision.FP16, Precision.FP32, Precision.MIXED
CPU, RTX = Target.parse("cpu"), Target.parse("rtx")
# One form for each row of the table, and two that it does not name.
FEW = (
    "conv 3x3", "conv behind LeakyRelu and nearest Resize", "conv in one dimension",
    "deconv 4x4 stride 2, SiLU", "deconv 2x2 stride 2, two groups", "gemm, bias as a column",
)  # fmt: skip


def _recipe(model: onnx.ModelProto, target: Target) -> Recipe:
    """INT8 wherever a layer takes it, in the target's own form."""
    recipe = make_recipe(model, INT8, calibrated(model, 2))
    assert recipe.layers["it"].precision is INT8
    if target is CPU:
        return recipe
    half = recipe.with_precision(INT8, rest=FP16)
    return replace(half, weight_scales=PER_TENSOR)


def _precisions(model: onnx.ModelProto, recipe: Recipe, target: Target) -> dict[str, str]:
    style = Style.ORT if target is CPU else Style.TENSORRT
    found = build_engine(render(model, recipe, style), target, MIXED).info["layer_precisions"]
    assert isinstance(found, dict)
    return found


def _prove(name: str, target: Target) -> None:
    model = built(FORMS[name])
    recipe = _recipe(model, target)
    lacking = without_int8_kernel(model, target.backend)
    held = hold_to_int8_kernels(model, recipe, target.backend)
    if "it" in lacking:
        with pytest.raises(
            PrecisionError, match=r": it \((Conv|ConvTranspose|Gemm), int8 came back"
        ):
            _precisions(model, recipe, target)
        assert held.layers["it"].precision is held.rest
        assert held.layers["it"].reason == lacking["it"]
    else:
        assert held is recipe
    found = _precisions(model, held, target)
    asked = {layer: choice.precision.value for layer, choice in held.layers.items()}
    if target is CPU:
        assert found == asked
    else:  # whose first layer takes the rest's type
        assert {n: p for n, p in found.items() if n in held.narrow_layers()} == {
            n: p for n, p in asked.items() if p == "int8"
        }


@pytest.mark.parametrize("name", FORMS)
def test_onnx_runtime_computes_in_int8_what_the_table_does_not_name(name: str) -> None:
    _prove(name, CPU)


@pytest.mark.parametrize("name", FORMS)
def test_the_numbers_of_each_form_stay_close(name: str) -> None:
    """In both renderings, Q and DQ computed as written: what the CPU's kernels do plays no part."""
    model = built(FORMS[name])
    images = pictures(1, seed=99)
    (expected,) = run(model, images)
    for target, style in ((CPU, Style.ORT), (RTX, Style.TENSORRT)):
        recipe = hold_to_int8_kernels(model, _recipe(model, target), target.backend)
        (found,) = open_session(render(model, recipe, style)).run(None, {"images": images})
        assert snr_db(expected, found) > 24, target.name


@pytest.mark.rtx
@pytest.mark.parametrize("name", FEW)
def test_tensorrt_rtx_computes_in_int8_what_the_table_does_not_name(name: str) -> None:
    _prove(name, RTX)


@pytest.mark.rtx
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FORMS if name not in FEW])
def test_so_does_it_in_every_other_form(name: str) -> None:
    _prove(name, RTX)


def test_every_row_of_the_table_is_built() -> None:
    for row in TABLE:
        for backend in row.lacking:
            lacking = [without_int8_kernel(built(FORMS[name]), backend).get("it") for name in FEW]
            assert [why for why in lacking if why and row.name in why], row.name


def test_full_tensorrt_is_left_to_its_device() -> None:
    model = built(FORMS["deconv 4x4 stride 2"])
    recipe = _recipe(model, CPU)
    assert hold_to_int8_kernels(model, recipe, "tensorrt") is recipe


def test_what_refuses_the_rest_is_fp32() -> None:
    model = built(FORMS["deconv 4x4 stride 2"])
    recipe = _recipe(model, CPU).with_precision(MIXED)
    choice = replace(recipe.layers["it"], refuses={FP16: "a weight is large"})
    recipe = replace(recipe, layers={**recipe.layers, "it": choice})
    held = hold_to_int8_kernels(model, recipe, "onnxruntime")
    assert held.layers["it"].precision is FP32
    assert {n: c for n, c in held.layers.items() if n != "it"} == {
        n: c for n, c in recipe.layers.items() if n != "it"
    }
    assert isinstance(held.layers["it"], LayerChoice)
