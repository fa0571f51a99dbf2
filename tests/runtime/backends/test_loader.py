"""Which engine a machine runs, and the one sentence where it runs none."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from maskrt.core import (
    Bundle,
    BundleError,
    InputSpec,
    Precision,
    Target,
    UnsupportedTargetError,
)
from maskrt.runtime import NullBackend, choose_target, open_backend
from maskrt.runtime.backends import gpu_of, loader
from maskrt.runtime.backends.cpu import CpuBackend

from ...built import note_built

MakeBundle = Callable[..., Bundle]
ENGINE = {"engine.onnx": b"-"}
PLAN = {"engine.trt": b"-"}


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that pretends the machine has GPUs of these compute capabilities."""

    def pretend(*capabilities: int) -> None:
        monkeypatch.setattr(loader, "compute_capabilities", lambda: capabilities)

    pretend()
    return pretend


def test_without_a_gpu_the_cpu_is_chosen(
    make_bundle: MakeBundle, gpus: Callable[..., None]
) -> None:
    bundle = make_bundle({"cpu": ENGINE, "rtx": PLAN})
    assert choose_target(bundle).name == "cpu"


@pytest.mark.parametrize(
    ("capabilities", "chosen"),
    [((89,), "rtx"), ((90,), "cpu"), ((87,), "cpu"), ((75,), "cpu"), ((75, 120), "rtx")],
)
def test_a_gpu_is_chosen_only_if_the_engine_runs_on_it(
    make_bundle: MakeBundle,
    gpus: Callable[..., None],
    capabilities: tuple[int, ...],
    chosen: str,
) -> None:
    gpus(*capabilities)
    assert choose_target(make_bundle({"cpu": ENGINE, "rtx": PLAN})).name == chosen


def test_an_engine_for_one_sm_needs_that_sm(
    make_bundle: MakeBundle, gpus: Callable[..., None]
) -> None:
    bundle = make_bundle({"cpu": ENGINE, "rtx-75": PLAN})
    gpus(89)
    assert choose_target(bundle).name == "cpu"
    gpus(89, 75)
    assert choose_target(bundle).name == "rtx-75"


def test_only_engines_of_the_precision_count(
    make_bundle: MakeBundle, gpus: Callable[..., None]
) -> None:
    gpus(89)
    bundle = make_bundle({"rtx": PLAN, "cpu@int8": ENGINE})
    assert choose_target(bundle).name == "rtx"
    assert choose_target(bundle, Precision.INT8).name == "cpu"
    with pytest.raises(BundleError, match="no engine at fp16: build one with maskrt build"):
        choose_target(bundle, Precision.FP16)


def test_no_engine_that_runs_here(make_bundle: MakeBundle, gpus: Callable[..., None]) -> None:
    bundle = make_bundle({"rtx": PLAN, "orin-nano": PLAN})
    with pytest.raises(UnsupportedTargetError, match=r"none of the engines.*orin-nano, rtx"):
        choose_target(bundle)


def test_rtx_without_a_gpu_is_one_clear_sentence(
    make_bundle: MakeBundle, gpus: Callable[..., None]
) -> None:
    bundle = make_bundle({"rtx": PLAN})
    with pytest.raises(UnsupportedTargetError) as error:
        open_backend(bundle, "rtx")
    assert str(error.value) == (
        "target rtx needs an NVIDIA GPU of compute capability 8.0, 8.6, 8.9, 12.0, 12.1, and this "
        "machine has none: run on target cpu, or copy the bundle to a machine with such a GPU."
    )
    gpus(87, 90)
    with pytest.raises(UnsupportedTargetError, match=r"this machine's have 8\.7, 9\.0"):
        open_backend(bundle, "rtx")


def _tensorrt_bundle(make_bundle: MakeBundle, sms: list[int], version: str = "10.3.0") -> Bundle:
    bundle = make_bundle({})
    info = {"backend_version": version, "sms": sms, "form": "aot"}
    with bundle.edit() as staged:
        staged.write("engines/orin-nano/engine.json", info)
        staged.write("engines/orin-nano/engine.trt", b"plan")
    return bundle


def test_an_engine_of_another_gpu_is_refused_before_it_is_loaded(
    make_bundle: MakeBundle, gpus: Callable[..., None]
) -> None:
    bundle = _tensorrt_bundle(make_bundle, [87])
    with pytest.raises(UnsupportedTargetError, match=r"capability 8\.7, and this machine has none"):
        open_backend(bundle, "orin-nano")
    gpus(110)
    with pytest.raises(UnsupportedTargetError, match=r"this machine's have 11\.0"):
        open_backend(bundle, "orin-nano")


def test_an_engine_of_another_tensorrt_is_refused_with_the_command_that_rebuilds(
    make_bundle: MakeBundle, gpus: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(87)
    bundle = _tensorrt_bundle(make_bundle, [87])
    here = SimpleNamespace(__version__="10.16.1")
    monkeypatch.setattr(loader, "require", lambda name, purpose: here)
    with pytest.raises(UnsupportedTargetError, match=r"10\.3\.0.*10\.16\.1.*maskrt build .*orin-n"):
        open_backend(bundle, "orin-nano")


@pytest.mark.parametrize("noted", [{}, {"user_allocation": True}])
def test_an_engine_is_opened_as_it_was_built_and_on_the_gpu_that_fits(
    make_bundle: MakeBundle,
    gpus: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    noted: dict[str, bool],
) -> None:
    gpus(75, 120)
    bundle = make_bundle({"rtx": PLAN})
    note_built(PLAN["engine.trt"])
    with bundle.edit() as staged:
        staged.write("engines/rtx/engine.json", json.dumps({"target": "rtx", **noted}))
    monkeypatch.setattr(loader, "require", lambda *_: SimpleNamespace(__version__="1.7.1"))
    opened: list[dict[str, Any]] = []
    monkeypatch.setattr(loader, "TensorRTBackend", lambda engine, **how: opened.append(how))
    open_backend(bundle, "rtx")
    assert opened[0]["device"] == gpu_of(bundle, Target.parse("rtx")) == 1
    assert opened[0]["user_allocation"] is bool(noted)


def test_the_gpu_of_an_engine_is_the_first_that_fits(
    make_bundle: MakeBundle, gpus: Callable[..., None]
) -> None:
    gpus(75, 87, 87)
    bundle = _tensorrt_bundle(make_bundle, [87])
    assert gpu_of(bundle, Target.parse("orin-nano")) == 1
    assert gpu_of(bundle, Target.parse("thor")) is None  # not built
    assert gpu_of(bundle, Target.parse("cpu")) is None


def test_a_prepared_engine_says_what_to_run_where(make_bundle: MakeBundle) -> None:
    bundle = make_bundle({})
    with bundle.edit() as staged:
        staged.write("engines/orin-nx/prepared.json", {"commands": {"build": "maskrt build x"}})
    assert bundle.prepared() == ["orin-nx"]
    there = r"on the device, run ~/maskrt/bin/maskrt build tiny\.maskrt --target orin-nx --here\."
    with pytest.raises(UnsupportedTargetError, match=there):
        open_backend(bundle, "orin-nx")


def test_an_engine_that_was_not_built(make_bundle: MakeBundle) -> None:
    bundle = make_bundle({})
    with pytest.raises(BundleError, match=r"engines/cpu@int8.*--target cpu --precision int8"):
        open_backend(bundle, "cpu", "int8")
    with pytest.raises(BundleError, match="build one with"):
        open_backend(bundle)


def test_an_altered_engine_is_refused(make_bundle: MakeBundle) -> None:
    bundle = make_bundle({"cpu": ENGINE})
    (bundle.path / "engines/cpu/engine.onnx").write_bytes(b"altered")
    with pytest.raises(BundleError, match="sha256"):
        open_backend(bundle, "cpu")


def test_null_needs_no_engine(make_bundle: MakeBundle) -> None:
    with open_backend(make_bundle({}), Target("null", "null")) as backend:
        assert isinstance(backend, NullBackend)


def test_cpu_is_opened_by_path(make_bundle: MakeBundle, make_engine: Callable[..., bytes]) -> None:
    pytest.importorskip("onnxruntime")
    engine = {"engine.onnx": make_engine(InputSpec(64, 64), [], [])}
    bundle = make_bundle({"cpu": engine})
    with open_backend(str(bundle.path), threads=1) as backend:
        assert isinstance(backend, CpuBackend)
        assert backend.describe()["threads"] == 1
