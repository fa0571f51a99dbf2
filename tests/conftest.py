"""What all tests share: no network, skipping by what is installed, small detectors that detect."""

import importlib.util
import socket
from typing import Any

import numpy as np
import pytest

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
    """Keep PyTorch and ONNX Runtime from fighting for two cores."""
    if importlib.util.find_spec("torch") is not None:
        import torch

        torch.set_num_threads(2)
