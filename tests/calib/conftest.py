"""The small detector of these tests, and its recipe: made anew for each file."""

import onnx
import pytest

from maskrt.calib import Recipe

from .graphs import detector, int8_recipe


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return detector()


@pytest.fixture(scope="module")
def recipe(model: onnx.ModelProto) -> Recipe:
    return int8_recipe(model)
