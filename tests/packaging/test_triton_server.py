"""A packaged repository in a running Triton server: it loads, and answers as `Session.run`.

The server is the binary in the `nvidia-pytriton` wheel (`make build/triton`). That wheel has no
backend `onnxruntime`, so one in Python is put in its place, which runs `model.onnx` with the
`onnxruntime` package: what reads, checks and serves `config.pbtxt` is the real server. (Tensors
cross into that backend by DLPack, because it was compiled for the numpy before 2.)
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import maskrt
from maskrt.packaging.triton import package_triton

ROOT = Path(__file__).parent.parent.parent / "build" / "triton"
SERVER = ROOT / "pytriton" / "tritonserver"
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.torch,
    pytest.mark.skipif(not SERVER.exists(), reason="no Triton server: run make build/triton"),
]
BACKEND = """
import os, sys
sys.path[:0] = {paths}
import numpy
import onnxruntime
import triton_python_backend_utils as utils

class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        return config

    def initialize(self, args):
        file = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        self.names = [output.name for output in self.session.get_outputs()]

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        images = numpy.from_dlpack(utils.get_input_tensor_by_name(request, "images"))
        found = self.session.run(self.names, {{"images": images}})
        named = zip(self.names, found)
        return utils.InferenceResponse([utils.Tensor.from_dlpack(n, v) for n, v in named])
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> maskrt.Bundle:
    """The demo model at FP32."""
    from maskrt.demo import weights_path
    from maskrt.demo.run import MODEL, SIZE

    path = tmp_path_factory.mktemp("served") / "demo.maskrt"
    names = ["background", *"abcdef"]
    return maskrt.compile(MODEL, path, weights=weights_path(), input_size=SIZE, class_names=names)


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def server(
    tmp_path: Path, bundle: maskrt.Bundle, port: int, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """A server with the packaged model; yields its address."""
    package_triton(bundle, tmp_path / "models", name="scenes")
    backends = tmp_path / "backends"
    shutil.copytree(SERVER / "backends" / "python", backends / "python")
    stub = SERVER / "python_backend_stubs" / PYTHON / "triton_python_backend_stub"
    binary = tmp_path / "bin" / "tritonserver"
    binary.parent.mkdir()
    for source, copy in (
        (stub, backends / "python" / stub.name), (SERVER / "bin" / "tritonserver", binary)
    ):  # fmt: skip
        shutil.copy(source, copy)
        copy.chmod(0o755)  # pip unpacks without the right to execute
    (backends / "onnxruntime").mkdir()
    paths = [path for path in sys.path if "site-packages" in path]
    (backends / "onnxruntime" / "model.py").write_text(BACKEND.format(paths=paths))
    libraries = (ROOT / "nvidia_pytriton.libs", sysconfig.get_config_var("LIBDIR") or "")
    log = tmp_path / "log.txt"
    with log.open("w") as out:
        process = subprocess.Popen(
            [str(binary), "--model-repository", str(tmp_path / "models"), "--backend-directory",
             str(backends), "--http-address", "127.0.0.1", "--http-port", str(port),
             "--allow-grpc", "false", "--allow-metrics", "false"],
            env={**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, libraries))},
            stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
    monkeypatch.undo()  # this test does open a connection, to its own server
    try:
        address = f"http://127.0.0.1:{port}/v2"
        _wait(process, f"{address}/health/ready", log)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def _wait(process: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
    for _ in range(240):
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            assert process.poll() is None, log.read_text()[-3000:]
            time.sleep(0.25)
    raise AssertionError(log.read_text()[-3000:])


def _infer(address: str, images: np.ndarray) -> dict[str, Any]:
    """Ask in Triton's binary form, answered in JSON (KServe v2 with its binary extension)."""
    head = json.dumps({
        "inputs": [{
            "name": "images", "datatype": "UINT8", "shape": list(images.shape),
            "parameters": {"binary_data_size": images.nbytes},
        }]
    }).encode()  # fmt: skip
    request = urllib.request.Request(
        f"{address}/models/scenes/infer", head + images.tobytes(),
        {"Inference-Header-Content-Length": str(len(head)),
         "Content-Type": "application/octet-stream"},
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=60) as answer:
        return {output["name"]: output for output in json.load(answer)["outputs"]}


def test_a_server_loads_the_repository_and_answers_as_a_session(
    server: str, bundle: maskrt.Bundle
) -> None:
    from maskrt.demo.scenes import scene

    with urllib.request.urlopen(f"{server}/models/scenes/config", timeout=10) as answer:
        config = json.load(answer)
    assert config["backend"] == "onnxruntime"
    labelled = {o["name"]: o["label_filename"] for o in config["output"] if o["label_filename"]}
    assert labelled == {"labels": "labels.txt"}
    with maskrt.load(bundle, "cpu") as session:
        image = scene(3, split="val", size=(320, 320)).image
        canvas = session.place(image)[0][None]
        expected = session.run(canvas)
    found = _infer(server, canvas)
    assert set(found) == set(expected)
    assert int(expected["count"][0]) > 3
    for name, output in found.items():
        values = np.array(output["data"]).reshape(output["shape"])
        np.testing.assert_allclose(values, expected[name], atol=1e-3)


def test_a_server_refuses_pictures_of_another_size(server: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        _infer(server, np.zeros((1, 64, 64, 3), np.uint8))
    assert refused.value.code == 400
    assert "[1,320,320,3]" in refused.value.read().decode()
