"""The soak with faults on few frames; and it fails where it should."""

import importlib
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from maskrt.runtime import Session

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")


@pytest.fixture(scope="module")
def soak() -> ModuleType:
    pytest.importorskip("onnxruntime")
    return importlib.import_module("benchmarks.soak_faults")


@pytest.mark.parametrize("kind", ["cpu", "host"])
def test_faults_end_in_a_sentence_or_in_the_same_result(
    soak: ModuleType, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "host" and shutil.which("c++") is None:
        pytest.skip("needs a C++ compiler")
    monkeypatch.setattr(soak, "GROWTH", 1.1)  # 200 frames are judged by their results
    found = soak.soak(kind, 200, 0, tmp_path)
    assert found["sentences"] > 10
    assert found["right"] > 100
    assert len(found["faults"]) >= 6


def test_a_raw_exception_is_found(
    soak: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Session.predict

    def predict(self: Session, *given: Any, **named: Any) -> Any:
        try:
            return kept(self, *given, **named)
        except ValueError as error:
            raise OSError(str(error)) from error

    monkeypatch.setattr(Session, "predict", predict)
    with pytest.raises(AssertionError, match="a raw OSError"):
        soak.soak("cpu", 200, 0, tmp_path)


def test_another_result_is_found(
    soak: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the last frame left is handed out where inference fails."""
    kept, last = soak.FaultyOnnx.run, list[Any]()

    def run(self: Any, *given: Any) -> Any:
        try:
            last[:] = kept(self, *given)
        except Exception:
            self._faults.armed = ""
        return list(last)

    monkeypatch.setattr(soak.FaultyOnnx, "run", run)
    with pytest.raises(AssertionError, match="another result"):
        soak.soak("cpu", 400, 0, tmp_path)


def test_an_error_without_a_fault_is_found(
    soak: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that stays broken after a fault does not recover."""
    kept, broken = soak.FaultyOnnx.run, list[bool]()

    def run(self: Any, *given: Any) -> Any:
        try:
            if broken:
                raise RuntimeError("still broken")
            return kept(self, *given)
        except Exception:
            broken.append(True)
            raise

    monkeypatch.setattr(soak.FaultyOnnx, "run", run)
    with pytest.raises(AssertionError, match="an error without a fault"):
        soak.soak("cpu", 400, 0, tmp_path)
