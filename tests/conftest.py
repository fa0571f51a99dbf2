"""What all tests share: no network, skipping by what is installed, pictures and a video."""

import errno
import importlib.util
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskrt.core import Bundle, InputSpec, Manifest

_NEEDS = {"torch": "torchvision", "rtx": "tensorrt_rtx"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a package or device that is absent; the marker says which."""
    for item in items:
        for marker, module in _NEEDS.items():
            if item.get_closest_marker(marker) and importlib.util.find_spec(module) is None:
                item.add_marker(pytest.mark.skip(reason=f"{module} is not installed"))


@pytest.fixture(autouse=True)
def _no_build_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test builds for itself: what another one built proves nothing."""
    monkeypatch.setenv("MASKRT_CACHE", "off")


@pytest.fixture(scope="session", autouse=True)
def _own_record(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the tests build is noted in a record of theirs, not in the user's."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MASKRT_RECORD", str(tmp_path_factory.mktemp("record")))
        yield


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make this another machine than the one that built: its record, the folder, is empty."""
    monkeypatch.setattr("maskrt.runtime.trust.record._noted", {})
    monkeypatch.setenv("MASKRT_RECORD", str(tmp_path / "record"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "record"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in maskrt may open a connection at run time."""

    def refuse(self: socket.socket, address: Any) -> None:
        raise AssertionError(f"a connection to {address} was attempted")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)


@pytest.fixture(scope="session")
def photos() -> list[np.ndarray]:
    """Real photographs, uint8 `[H, W, 3]`."""
    data = pytest.importorskip("skimage.data")
    return [data.astronaut(), data.coffee(), data.chelsea()]


@pytest.fixture(scope="session", autouse=True)
def _few_threads() -> None:
    """Keep PyTorch from fighting for two cores; `OMP_NUM_THREADS` says otherwise."""
    if importlib.util.find_spec("torch") is not None:
        import torch

        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


@pytest.fixture
def fill_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function: from its call on, no text fits on the disk under the name given."""
    written = Path.write_text

    def fill(name: str) -> None:
        def full(self: Path, text: str, **given: Any) -> int:
            if self.name == name:
                raise OSError(errno.ENOSPC, "No space left on device")
            return written(self, text, **given)

        monkeypatch.setattr(Path, "write_text", full)

    return fill


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Ten frames of 48 x 64, each brighter than the last; red is stronger than blue."""
    cv2 = pytest.importorskip("cv2")
    file = tmp_path / "in" / "clip.avi"
    file.parent.mkdir()
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"MJPG"), 12.0, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no video")
    for index in range(10):
        writer.write(np.full((48, 64, 3), (0, 10 * index, 20 * index), np.uint8))
    writer.release()
    return file


@pytest.fixture
def empty_bundle(tmp_path: Path) -> Bundle:
    """A bundle without an engine, for the target `null`."""
    outputs = {"boxes": (1, 4, 4), "scores": (1, 4), "labels": (1, 4), "count": (1,)}
    path = tmp_path / "tiny.maskrt"
    with Bundle.create(path, Manifest("test", InputSpec(64, 64), outputs)):
        pass
    return Bundle.open(path)
