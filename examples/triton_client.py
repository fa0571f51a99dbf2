"""Instances from a Triton server: letterboxed pictures in, padded outputs out.

On the server, once, and then `tritonserver` with the command that it prints:

    maskrt package street.maskrt --triton models/ --target cpu

Anywhere else, with maskrt alone (`pip install maskrt` brings numpy, onnx and Pillow):

    python examples/triton_client.py localhost:8000 street a.jpg b.jpg -o found.json

Triton serves what an engine takes and gives. The rest is done here, by the words that the server
has with the model: pictures are letterboxed onto its canvas with its `pad_value`, a batch is filled
up with its last picture, `count` says how many rows of the padded outputs are real, boxes go back
to the picture, and masks are pasted by `mask_frame` and `mask_paste`. Tensors go both ways as bytes
(KServe's protocol 2 over HTTP with Triton's binary extension); no client library is needed.
"""

import argparse
import http.client
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maskrt import InputSpec, Instances
from maskrt.core import Placing, Resampling
from maskrt.core.masks import MaskFrame, MaskPaste
from maskrt.runtime import Picture, letterbox, load_picture
from maskrt.runtime.letterbox import fill_batch
from maskrt.runtime.postprocess import instances_of

TYPES = {"UINT8": np.uint8, "INT32": np.int32, "FP32": np.float32}


class TritonError(Exception):
    """The server refused, in its own words."""


class TritonModel:
    """A model of a server, over one connection that is kept.

    Attributes:
        spec: the canvas, as the server's configuration says it.
        class_names: name of each label, or None.
    """

    def __init__(
        self, address: str, model: str, *, labels: Path | None = None, timeout: float = 60.0
    ) -> None:
        """Ask the server at `host:port` for the model's configuration.

        Raises:
            TritonError: it has no such model, or not one that `maskrt package` wrote.
        """
        self._connection = http.client.HTTPConnection(address, timeout=timeout)
        self._path = f"/v2/models/{model}"
        config = json.loads(self._ask("GET", f"{self._path}/config")[1])
        told = {k: v["string_value"] for k, v in config.get("parameters", {}).items()}
        if [tensor["name"] for tensor in config["input"]] != ["images"] or "pad_value" not in told:
            raise TritonError(f"{model} is no model that maskrt packaged: package it again.")
        batch, height, width, _ = (int(size) for size in config["input"][0]["dims"])
        red, green, blue = (int(value) for value in told["pad_value"].split())
        self.spec = InputSpec(
            height,
            width,
            batch,
            (red, green, blue),
            Placing(told.get("placing", "top_left")),
            Resampling(told.get("resampling", "antialiased")),
        )
        self.class_names = None if labels is None else labels.read_text().splitlines()
        self._outputs = [tensor["name"] for tensor in config["output"]]
        self._frame = MaskFrame(told.get("mask_frame", "box"))
        self._paste = MaskPaste(told.get("mask_paste", "torchvision"))

    def predict(self, pictures: Sequence[Picture]) -> list[Instances]:
        """Return the instances of each picture, in its own pixels."""
        found: list[Instances] = []
        for at in range(0, len(pictures), self.spec.batch):
            images = [load_picture(picture) for picture in pictures[at : at + self.spec.batch]]
            placed = [letterbox(image, self.spec) for image in images]
            outputs = self.infer(fill_batch([canvas for canvas, _ in placed], self.spec.batch))
            found += [
                instances_of(
                    outputs, i, place, self.class_names,
                    mask_frame=self._frame, mask_paste=self._paste,
                )
                for i, (_, place) in enumerate(placed)
            ]  # fmt: skip
        return found

    def infer(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return the model's padded outputs for a batch of canvases, uint8 `[B, H, W, 3]`."""
        asked = {
            "inputs": [
                {
                    "name": "images",
                    "datatype": "UINT8",
                    "shape": list(images.shape),
                    "parameters": {"binary_data_size": images.nbytes},
                }
            ],
            "outputs": [
                {"name": name, "parameters": {"binary_data": True}} for name in self._outputs
            ],
        }
        head = json.dumps(asked).encode()
        headers, body = self._ask(
            "POST",
            f"{self._path}/infer",
            head + np.ascontiguousarray(images).tobytes(),
            {
                "Inference-Header-Content-Length": str(len(head)),
                "Content-Type": "application/octet-stream",
            },
        )
        length = int(headers["Inference-Header-Content-Length"])
        outputs, start = {}, length
        for tensor in json.loads(body[:length])["outputs"]:  # their bytes follow in this order
            size = tensor["parameters"]["binary_data_size"]
            values = np.frombuffer(body[start : start + size], TYPES[tensor["datatype"]])
            outputs[tensor["name"]] = values.reshape(tensor["shape"])
            start += size
        return outputs

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[Any, bytes]:
        self._connection.request(method, path, body, headers or {})
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise TritonError(f"{path}: {answer.status} {content.decode(errors='replace')}")
        return answer.headers, content


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address", help="host:port of the server's HTTP")
    parser.add_argument("model")
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--labels", type=Path, help="labels.txt of the model's folder")
    parser.add_argument("--min-score", type=float, default=0.5)
    parser.add_argument("-o", "--output", type=Path, help="COCO results to write")
    options = parser.parse_args()
    model = TritonModel(options.address, options.model, labels=options.labels)
    results = []
    for number, (picture, found) in enumerate(
        zip(options.pictures, model.predict(options.pictures), strict=True), 1
    ):
        shown = found.above(options.min_score)
        print(f"{picture}: {shown}")
        results += shown.to_coco(number)
    if options.output:
        options.output.write_text(json.dumps(results) + "\n")
    model.close()


if __name__ == "__main__":
    main()
