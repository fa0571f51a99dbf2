"""The soak benchmark on few frames, on the demo model; and it fails where it should."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from maskrt.core import InputSpec
from maskrt.runtime import Backend, NullBackend, Session

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")


@pytest.fixture(scope="module")
def soak() -> ModuleType:
    return importlib.import_module("benchmarks.soak")


@pytest.mark.slow
@pytest.mark.torch
def test_hundreds_of_frames_leave_nothing(soak: ModuleType, tmp_path: Path) -> None:
    import maskrt

    with maskrt.load(soak.demo_bundle(tmp_path), "cpu") as session:
        found = soak.soak(session, 400, trim=True)
    assert found["frames"] == 400
    assert found["instances"] > 0


class _Fails(Backend):
    """An empty engine that keeps every batch, or that fails."""

    def __init__(self, leak: bool) -> None:
        shapes = {"boxes": (1, 4, 4), "scores": (1, 4), "labels": (1, 4), "count": (1,)}
        self._backend, self._leak, self._kept = NullBackend(shapes), leak, [np.zeros(1)]

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        if self._leak:
            self._kept.append(np.ones((200, *images.shape[1:]), np.uint8))
        outputs = self._backend.run(images)
        outputs["scores"][0, 0] = np.nan
        outputs["count"][:] = 0 if self._leak else 1
        return outputs

    def describe(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass


@pytest.fixture
def session(request: Any) -> Iterator[Session]:
    with Session(_Fails(request.param), InputSpec(64, 64)) as opened:
        yield opened


@pytest.mark.parametrize("session", [True], indirect=True)
def test_a_leak_is_found(soak: ModuleType, session: Session) -> None:
    with pytest.raises(AssertionError, match="memory grew"):
        soak.soak(session, 60)


@pytest.mark.parametrize("session", [False], indirect=True)
def test_a_failing_frame_is_found(soak: ModuleType, session: Session) -> None:
    with pytest.raises(AssertionError, match="frame 0: the engine returned"):
        soak.soak(session, 60)
