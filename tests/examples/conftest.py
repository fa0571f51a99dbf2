"""The environment of the examples, seen after everything else, and the demo's bundle."""

import sys
from pathlib import Path

import pytest

import maskrt

from .painted import with_examples


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages of `requirements/examples.txt`."""
    path = with_examples(sys.path)
    if path is None:
        pytest.skip("no packages of the examples: run make build/examples/.made")
    monkeypatch.setattr(sys, "path", path)


@pytest.fixture(scope="package")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> maskrt.Bundle:
    """The demo model at FP32 for the CPU."""
    pytest.importorskip("torchvision")
    from maskrt.demo import weights_path
    from maskrt.demo.run import MODEL, SIZE
    from maskrt.demo.scenes import CLASS_NAMES

    path: Path = tmp_path_factory.mktemp("examples") / "scenes.maskrt"
    names = ["background", *CLASS_NAMES]
    return maskrt.compile(MODEL, path, weights=weights_path(), input_size=SIZE, class_names=names)
