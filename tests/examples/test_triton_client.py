"""The client against a server that knows the packaged configuration alone, and against Triton.

The first speaks KServe's protocol with the binary extension as its specification has it, and
refuses what `config.pbtxt`, read by protobuf, does not declare.
"""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import json_format, text_format
from PIL import Image

import maskrt
from maskrt.core import Bundle, InputSpec, Manifest
from maskrt.core.masks import MaskPaste
from maskrt.packaging.triton import package_triton

from ..packaging import test_triton as packaging
from ..packaging import test_triton_server as real
from .painted import NAMES, Painted, example, painted, session_of

client = example("triton_client.py")
SPEC = InputSpec(48, 64, batch=2, pad_value=(7, 8, 9))
KINDS = {"TYPE_FP32": ("FP32", np.float32), "TYPE_INT32": ("INT32", np.int32)}
port, server = real.port, real.server


class KServe(BaseHTTPRequestHandler):
    """One model, by its configuration; `backend` and `config` are set on the class."""

    protocol_version = "HTTP/1.1"
    backend: Painted
    config: dict[str, Any]

    def do_GET(self) -> None:
        known = self.path == f"/v2/models/{self.config['name']}/config"
        self.answer(200 if known else 404, json.dumps(self.config if known else {"error": "no"}))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        length = int(self.headers["Inference-Header-Content-Length"])
        asked = json.loads(body[:length])
        (given,) = asked["inputs"]
        (declared,) = self.config["input"]
        if [given["name"], given["shape"]] != [
            declared["name"],
            [int(n) for n in declared["dims"]],
        ]:
            return self.answer(400, json.dumps({"error": f"shape {given['shape']}"}))
        assert (given["datatype"], declared["data_type"]) == ("UINT8", "TYPE_UINT8")
        assert given["parameters"]["binary_data_size"] == len(body) - length
        images = np.frombuffer(body[length:], np.uint8).reshape(given["shape"])
        found, heads, parts = self.backend.run(images), [], []
        kinds = {output["name"]: output["data_type"] for output in self.config["output"]}
        for wanted in reversed(asked["outputs"]):  # in the server's order
            assert wanted["parameters"] == {"binary_data": True}
            word, kind = KINDS[kinds[wanted["name"]]]
            values = found[wanted["name"]].astype(kind)
            parts.append(values.tobytes())
            heads.append({"name": wanted["name"], "datatype": word, "shape": list(values.shape),
                          "parameters": {"binary_data_size": values.nbytes}})  # fmt: skip
        head = json.dumps({"model_name": self.config["name"], "outputs": heads})
        return self.answer(200, head, b"".join(parts))

    def answer(self, code: int, head: str, rest: bytes = b"") -> None:
        self.send_response(code)
        if rest:
            self.send_header("Inference-Header-Content-Length", str(len(head.encode())))
        self.send_header("Content-Length", str(len(head.encode()) + len(rest)))
        self.end_headers()
        self.wfile.write(head.encode() + rest)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def packaged(tmp_path: Path) -> Path:
    """The model's folder in a repository."""
    outputs = {"boxes": (2, 4, 4), "scores": (2, 4), "labels": (2, 4), "masks": (2, 4, 28, 28),
               "count": (2,)}  # fmt: skip
    manifest = Manifest("test", SPEC, outputs, NAMES)
    with Bundle.create(tmp_path / "tiny.maskrt", manifest) as made:
        made.write("engines/cpu/engine.onnx", b"onnx")
        made.write("engines/cpu/engine.json", "{}")
    with (bundle := Bundle.open(tmp_path / "tiny.maskrt")).edit() as staged:
        staged.update(mask_paste=MaskPaste.DETECTRON2)
    return package_triton(bundle, tmp_path / "models")


@pytest.fixture
def address(packaged: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server of the packaged model."""
    config = text_format.Parse((packaged / "config.pbtxt").read_text(), packaging._schema()())
    read = json_format.MessageToDict(config, preserving_proto_field_name=True)
    read["parameters"] = {one["key"]: one["value"] for one in read["parameters"]}  # a map's JSON
    KServe.config = read
    KServe.backend = Painted(SPEC)
    listening = ThreadingHTTPServer(("127.0.0.1", 0), KServe)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    monkeypatch.undo()  # this test does open a connection, to its own server
    yield f"127.0.0.1:{listening.server_port}"
    listening.shutdown()
    listening.server_close()


def test_it_finds_what_a_session_finds(address: str, packaged: Path) -> None:
    """Three pictures of other sizes than the canvas, so that the second batch is filled up."""
    pictures = [
        painted((1, (10, 20, 60, 50)), (3, (90, 10, 120, 90)), size=(96, 128)),
        painted((2, (5, 5, 25, 85)), size=(90, 50)),
        painted(size=(20, 30)),
    ]
    model = client.TritonModel(address, "tiny", labels=packaged / "labels.txt")
    assert model.spec == SPEC
    found = model.predict(pictures)
    assert KServe.backend.batches == [2, 1]
    with session_of(Painted(SPEC)) as session:
        session._mask_paste = MaskPaste.DETECTRON2
        for one, expected in zip(found, session.predict(pictures), strict=True):
            assert one.to_coco(1) == expected.to_coco(1)
            assert list(one.class_names or ()) == list(NAMES)
    assert [len(one) for one in found] == [2, 1, 0]
    model.close()


def test_what_the_server_refuses_is_said_in_its_words(address: str) -> None:
    with pytest.raises(client.TritonError, match="404"):
        client.TritonModel(address, "other")
    model = client.TritonModel(address, "tiny")
    with pytest.raises(client.TritonError, match=r"400 .*shape \[1, 48, 64, 3\]"):
        model.infer(np.zeros((1, 48, 64, 3), np.uint8))
    assert set(model.infer(np.zeros((2, 48, 64, 3), np.uint8))) == set(model._outputs)
    del KServe.config["parameters"]
    with pytest.raises(client.TritonError, match="package it again"):
        client.TritonModel(address, "tiny")


def test_the_program_writes_results(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    picture = tmp_path / "a.png"
    Image.fromarray(painted((1, (10, 20, 60, 40)), size=(48, 64))).save(picture)
    out = tmp_path / "found.json"
    words = ["triton_client.py", address, "tiny", str(picture), "-o", str(out)]
    monkeypatch.setattr("sys.argv", words)
    client.main()
    (entry,) = json.loads(out.read_text())
    assert entry["bbox"] == [10, 20, 50, 20]
    assert "a.png" in capsys.readouterr().out


@pytest.fixture(scope="module")
def bundle(scenes: maskrt.Bundle) -> maskrt.Bundle:
    """What the real server serves."""
    return scenes


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.skipif(not real.SERVER.exists(), reason="no Triton server: run make build/triton")
def test_it_finds_in_triton_what_a_session_finds(server: str, bundle: maskrt.Bundle) -> None:
    from maskrt.demo.scenes import scene

    pictures = [scene(n, split="val", size=(200, 300)).image for n in (3, 4)]
    model = client.TritonModel(server.removeprefix("http://").removesuffix("/v2"), "scenes")
    with maskrt.load(bundle, "cpu") as session:
        assert model.spec == session.spec
        for one, picture in zip(model.predict(pictures), pictures, strict=True):
            expected = session.predict(picture)
            assert len(one) == len(expected) > 2
            np.testing.assert_allclose(one.boxes, expected.boxes, atol=1e-2)
            np.testing.assert_allclose(one.scores, expected.scores, atol=1e-3)
            masks, theirs = one.above(0.5).masks, expected.above(0.5).masks
            assert masks is not None
            assert theirs is not None
            assert (masks != theirs).mean() < 1e-3
    model.close()
