"""An engine that does not fit is refused by what `engine.json` says, before anything is loaded."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from maskrt.core import Bundle, BundleError, Precision, UnsupportedTargetError
from maskrt.plugins.sources import sources_digest
from maskrt.runtime import open_backend
from maskrt.runtime.backends import loader

from ...built import note_built

MakeBundle = Callable[..., Bundle]
OPERATORS = ["BatchedNMS", "MultilevelRoIAlign"]
KERNELS = sources_digest(OPERATORS, "aot")


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """A machine with an Orin and TensorRT 10.3; what would be deserialised is noted here."""
    plans: list[bytes] = []
    note_built(b"plan", "orin-nx", version_compatible=True)
    monkeypatch.setattr(loader, "compute_capabilities", lambda: (87,))
    monkeypatch.setattr(loader, "gpu_names", lambda: ("Orin",))
    installed = SimpleNamespace(__version__="10.3.0")
    monkeypatch.setattr(loader, "require", lambda name, purpose: installed)
    monkeypatch.setattr(loader, "TensorRTBackend", lambda plan, **more: plans.append(plan))
    return plans


@pytest.fixture
def make(make_bundle: MakeBundle) -> Callable[..., Bundle]:
    """Return a function that makes a bundle with an engine for orin-nx; it changes engine.json."""

    def make(folder: str = "orin-nx", **changed: Any) -> Bundle:
        bundle = make_bundle({})
        with bundle.edit() as staged:
            staged.write("model.onnx", b"graph")
            staged.write("recipe.json", b"{}")
            graph, recipe = (staged.digests[name] for name in ("model.onnx", "recipe.json"))
            info = {
                "backend_version": "10.3.0", "gpu": "Orin", "sms": [87], "form": "aot",
                "operators": OPERATORS, "options": {},
                "sha256": {"graph": graph, "recipe": recipe, "kernels": KERNELS},
            }  # fmt: skip
            staged.write(f"engines/{folder}/engine.json", {**info, **changed})
            staged.write(f"engines/{folder}/engine.trt", b"plan")
        return bundle

    return make


def _refused(bundle: Bundle, kind: type[Exception], loaded: list[bytes]) -> str:
    with pytest.raises(kind) as error:
        open_backend(bundle, "orin-nx")
    assert loaded == []
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_fits_is_loaded(make: Callable[..., Bundle], loaded: list[bytes]) -> None:
    open_backend(make(), "orin-nx")
    assert loaded == [b"plan"]


def test_another_gpu_of_the_same_sm(make: Callable[..., Bundle], loaded: list[bytes]) -> None:
    bundle = make(gpu="Orin AGX")
    told = _refused(bundle, UnsupportedTargetError, loaded)
    assert told.endswith(f"is a Orin: build it again with maskrt build {bundle.path} --target "
                         "orin-nx.")  # fmt: skip


def test_another_sm(make: Callable[..., Bundle], loaded: list[bytes]) -> None:
    assert "capability 11.0" in _refused(make(sms=[110]), UnsupportedTargetError, loaded)


@pytest.mark.parametrize("version", ["10.2.0", "10.16.1.11"])
def test_another_tensorrt(make: Callable[..., Bundle], loaded: list[bytes], version: str) -> None:
    told = _refused(make(backend_version=version), UnsupportedTargetError, loaded)
    assert f"TensorRT {version}, and this machine has 10.3.0: build it again with maskrt" in told


def test_a_version_compatible_engine_loads_in_later_versions_alone(
    make: Callable[..., Bundle], loaded: list[bytes]
) -> None:
    portable = {"version_compatible": True}
    _refused(make(backend_version="10.4.0", options=portable), UnsupportedTargetError, loaded)
    open_backend(make(backend_version="10.0.1", options=portable), "orin-nx")
    assert loaded == [b"plan"]


@pytest.mark.parametrize(("file", "part"), [("model.onnx", "graph"), ("recipe.json", "recipe")])
def test_another_graph_or_recipe(
    make: Callable[..., Bundle], loaded: list[bytes], file: str, part: str
) -> None:
    bundle = make()
    with bundle.edit() as staged:
        staged.write(file, b"another")
    told = _refused(bundle, BundleError, loaded)
    assert f"built from another {part}" in told
    assert f"maskrt build {bundle.path} --target orin-nx." in told


def test_a_graph_altered_in_its_place(make: Callable[..., Bundle], loaded: list[bytes]) -> None:
    bundle = make()
    (bundle.path / "model.onnx").write_bytes(b"grapH")
    assert "put that file back" in _refused(bundle, BundleError, loaded)


def test_other_kernels(make: Callable[..., Bundle], loaded: list[bytes]) -> None:
    sources = make().read_json("engines/orin-nx/engine.json")["sha256"]
    bundle = make(sha256={**sources, "kernels": "0" * 64})
    told = _refused(bundle, BundleError, loaded)
    assert "other kernels" in told
    assert "build it again with maskrt build" in told


def test_an_operator_of_another_maskrt(make: Callable[..., Bundle], loaded: list[bytes]) -> None:
    told = _refused(make(operators=["FutureNMS"]), BundleError, loaded)
    assert "another maskrt" in told
    assert "FutureNMS" in told


def test_an_engine_without_weights(make: Callable[..., Bundle], loaded: list[bytes]) -> None:
    assert "no weights" in _refused(make(options={"strip_weights": True}), BundleError, loaded)


def test_the_command_names_the_precision(make: Callable[..., Bundle], loaded: list[bytes]) -> None:
    bundle = make("orin-nx@int8", backend_version="9")
    with pytest.raises(UnsupportedTargetError, match=r"--target orin-nx --precision int8\.$"):
        open_backend(bundle, "orin-nx", Precision.INT8)
    assert loaded == []


def test_rtx_of_another_version(
    make: Callable[..., Bundle], loaded: list[bytes], monkeypatch
) -> None:
    monkeypatch.setattr(loader, "compute_capabilities", lambda: (89,))
    bundle = make("rtx", backend_version="1.2.0", form="pluginless")
    with pytest.raises(UnsupportedTargetError, match=r"TensorRT-RTX 1\.2\.0, and .* 10\.3\.0"):
        open_backend(bundle, "rtx")
    assert loaded == []


def test_a_kernels_digest_is_of_its_sources_alone() -> None:
    assert sources_digest(["BatchedNMS"], "aot") != sources_digest(OPERATORS, "aot")
    assert sources_digest(OPERATORS[::-1], "aot") == KERNELS
    assert sources_digest(OPERATORS, "pluginless") != sources_digest(OPERATORS, "function")
