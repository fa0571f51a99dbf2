"""A cluster's worker opens a model once, and again when its files have changed."""

from pathlib import Path
from typing import Any

import pytest

from maskrt.cluster import check as cluster_check
from maskrt.cluster.check import Model
from maskrt.core import Bundle, InputSpec, Manifest, Precision, Target

CPU = Target.parse("cpu")


class _Session:
    def __init__(self, model: Model) -> None:
        self.model, self.closed = model, False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[_Session]:
    """Every session that the worker has opened."""
    made: list[_Session] = []

    def open_model(model: Model) -> Any:
        made.append(_Session(model))
        return made[-1]

    monkeypatch.setattr(cluster_check, "_open", open_model)
    monkeypatch.setattr(cluster_check, "_sessions", {})
    return made


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    manifest = Manifest("test", InputSpec(32, 32), {"boxes": (1, 4, 4)})
    with Bundle.create(tmp_path / "b.maskrt", manifest) as made:
        made.write("engines/cpu/engine.onnx", b"first")
    return Bundle.open(tmp_path / "b.maskrt")


def test_an_engine_that_was_built_anew_is_opened_anew(
    bundle: Bundle, opened: list[_Session]
) -> None:
    before = Model.of(bundle, CPU, Precision.INT8)
    assert cluster_check._opened(before) is cluster_check._opened(
        Model.of(bundle, CPU, Precision.INT8)
    )
    with bundle.edit() as staged:
        staged.write("engines/cpu/engine.onnx", b"second")
    after = Model.of(Bundle.open(bundle.path), CPU, Precision.INT8)
    assert after != before
    assert cluster_check._opened(after) is opened[1]
    assert len(opened) == 2


def test_weights_that_were_replaced_are_read_anew(bundle: Bundle, tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"first")
    before = Model.of(bundle, weights=weights)
    weights.write_bytes(b"other")
    assert Model.of(bundle, weights=weights) != before
    weights.unlink()
    assert Model.of(bundle, weights=weights).weights == str(weights)  # the worker says it is gone


def test_an_engine_and_its_reference_stay_open_and_the_oldest_is_closed(
    bundle: Bundle, opened: list[_Session]
) -> None:
    asked = (Precision.FP16, Precision.INT8)
    models = [Model.of(bundle), *(Model.of(bundle, CPU, precision) for precision in asked)]
    for model in models:
        cluster_check._opened(model)
    assert [session.closed for session in opened] == [True, False, False]
    assert cluster_check._opened(models[1]) is opened[1]
