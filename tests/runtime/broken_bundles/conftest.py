"""The bundle that every test here breaks: one is built, and each test has a copy."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import maskrt
from maskrt import calib
from maskrt.core import Bundle, InputSpec, Manifest, Precision

from .damage import OUTPUTS, SIZE, canonical


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole bundle: graph, INT8 recipe, FP32 engine for the CPU."""
    path = tmp_path_factory.mktemp("template") / "whole.maskrt"
    model = canonical()
    noise = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 3), np.uint8)
    statistics = calib.collect_statistics(model, [noise])
    recipe = calib.make_recipe(model, Precision.INT8, statistics, method="minmax")
    manifest = Manifest("test", InputSpec(SIZE, SIZE), OUTPUTS, source={"model": "test:tiny"})
    with Bundle.create(path, manifest) as bundle:
        bundle.write("model.onnx", model.SerializeToString())
        bundle.write("recipe.json", recipe.to_json())
    maskrt.build(path, "cpu")
    return path


@pytest.fixture
def whole(template: Path, tmp_path: Path) -> Path:
    """A copy of the bundle beside a file that is none of its business."""
    (tmp_path / "secret.txt").write_text("mine")
    return Path(shutil.copytree(template, tmp_path / "b.maskrt"))
