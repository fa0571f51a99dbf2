"""The table of forms without an INT8 kernel, against what the runtimes make of each form.

A form that the table does not name has to come back as INT8, and one that it names must not.
"""

import functools
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

from .graphs import calibrated, pictures, quantises_fp16_exactly, run, snr_db
from .layer_forms import FORMS, built

INT8, FP16, FP32, MIXED = Precision.INT8, Precision.FP16, Precision.FP32, Precision.MIXED
CPU, RTX = Target.parse("cpu"), Target.parse("rtx")
# One form for each row of the table, and two that it does not name.
FEW = (
    "conv 3x3", "conv behind LeakyRelu and nearest Resize", "conv in one dimension",
    "deconv 4x4 stride 2, SiLU", "deconv 2x2 stride 2, two groups", "gemm, bias as a column",
)  # fmt: skip


@functools.cache
def _form(name: str) -> tuple[onnx.ModelProto, Recipe]:
    model = built(FORMS[name])
    recipe = make_recipe(model, INT8, calibrated(model, 2))
    assert recipe.layers["it"].precision is INT8
    return model, recipe


def _for_rtx(recipe: Recipe) -> Recipe:
    """INT8 wherever a layer takes it, in TensorRT-RTX's own form."""
    return replace(recipe.with_precision(INT8, rest=FP16), weight_scales=PER_TENSOR)


def _precisions(model: onnx.ModelProto, recipe: Recipe, target: Target) -> dict[str, str]:
    style = Style.ORT if target is CPU else Style.TENSORRT
    found = build_engine(render(model, recipe, style), target, MIXED).info["layer_precisions"]
    assert isinstance(found, dict)
    return found


def _prove(name: str, target: Target) -> None:
    model, recipe = _form(name)
    recipe = recipe if target is CPU else _for_rtx(recipe)
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
    model, recipe = _form(name)
    images = pictures(1, seed=99)
    (expected,) = run(model, images)
    ways = ((recipe, "onnxruntime", Style.ORT), (_for_rtx(recipe), "tensorrt_rtx", Style.TENSORRT))
    for asked, backend, style in ways:
        if style is Style.TENSORRT and not quantises_fp16_exactly():
            pytest.skip("this ONNX Runtime rounds FP16 wrongly in QuantizeLinear")
        rendered = render(model, hold_to_int8_kernels(model, asked, backend), style)
        (found,) = open_session(rendered).run(None, {"images": images})
        assert snr_db(expected, found) > 24, backend


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
            lacking = [without_int8_kernel(_form(name)[0], backend).get("it") for name in FEW]
            assert [why for why in lacking if why and row.name in why], row.name


def test_full_tensorrt_is_left_to_its_device() -> None:
    model, recipe = _form("deconv 4x4 stride 2")
    assert hold_to_int8_kernels(model, recipe, "tensorrt") is recipe


def test_what_refuses_the_rest_is_fp32() -> None:
    model, recipe = _form("deconv 4x4 stride 2")
    recipe = recipe.with_precision(MIXED)
    choice = replace(recipe.layers["it"], refuses={FP16: "a weight is large"})
    recipe = replace(recipe, layers={**recipe.layers, "it": choice})
    held = hold_to_int8_kernels(model, recipe, "onnxruntime")
    assert held.layers["it"].precision is FP32
    assert {n: c for n, c in held.layers.items() if n != "it"} == {
        n: c for n, c in recipe.layers.items() if n != "it"
    }
    assert isinstance(held.layers["it"], LayerChoice)
