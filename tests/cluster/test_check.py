"""A cluster's worker opens a model once, and again when its files have changed."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from maskrt.cluster import check as cluster_check
from maskrt.cluster.check import Model, run_on_cluster
from maskrt.core import (
    Bundle,
    InputError,
    InputSpec,
    Manifest,
    Precision,
    Target,
    UntrustedError,
)

from ..runtime.trust.bundles import PLAN, make, pretend_gpu

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


def test_a_worker_takes_the_clients_word_for_the_very_engine_that_it_vouched_for(
    elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker's own record is empty: it runs whatever code the client sends it anyway."""
    plans = pretend_gpu(monkeypatch)
    bundle = make(tmp_path / "rtx.maskrt")
    model = Model.of(bundle, Target.parse("rtx"), Precision.FP16)
    cluster_check._open(model).close()
    assert [plan for plan, _ in plans] == [PLAN]
    with bundle.edit() as staged:
        staged.write("engines/rtx/engine.trt", b"another")
    with pytest.raises(UntrustedError):
        cluster_check._open(model)
    assert len(plans) == 1


def test_an_engine_that_the_client_does_not_trust_is_not_sent_to_a_cluster(
    elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(address: str) -> Any:
        raise InputError("connected")

    monkeypatch.setattr(cluster_check, "cluster", connect)
    bundle, dataset = make(tmp_path / "rtx.maskrt"), SimpleNamespace(check_labels=lambda _: None)
    request: Any = SimpleNamespace(
        bundle=bundle, dataset=dataset, weights=None, target="rtx", precision=None, trust=False
    )
    with pytest.raises(UntrustedError, match="trust=True"):
        run_on_cluster(request, lambda *_: None, address="tcp://nobody:1")
    request.trust = True
    with pytest.raises(InputError, match="connected"):
        run_on_cluster(request, lambda *_: None, address="tcp://nobody:1")
