"""Builds engine.trt for a DLA with TensorRT 8: `python3 build.py [CALIBRATION]`, in this folder.

trtexec cannot: in 8.5 it has no way to keep a layer from the DLA, in 8.6 only by the name of each,
and its --useDLACore prefers precisions where they are to be obeyed. So the builder is told by its
own interface: the GPU is every layer's device, and each layer of dla.json goes to the DLA.

| file | content |
|---|---|
| `model.onnx`, `layers.json`, `dla.json` | graph; precisions by layer; layers for the DLA |
| `build.json` | `dla`: core; `workspace_mib`; `version_compatible`; `timing_cache`: file or "" |
| `calibration-*.cache` | the argument: scales of INT8 |

It needs JetPack's own Python and TensorRT, and nothing else: maskrt copies this file as it is, and
imports it for its tests alone. Python 3.8. It has not run on a device.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def main(trt: Any, arguments: list[str]) -> int:
    """Build what lies in the current folder with the TensorRT module `trt`; return 0, or 1."""
    names = ("build.json", "layers.json", "dla.json")
    settings, fixed, accelerated = (_read(name) for name in names)
    logger = trt.Logger(trt.Logger.WARNING)
    trt.init_libnvinfer_plugins(logger, "")
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file("model.onnx"):
        errors = [str(parser.get_error(i)) for i in range(parser.num_errors)]
        return _fail("TensorRT does not take model.onnx: " + "; ".join(errors))
    config = builder.create_builder_config()
    _configure(trt, config, settings)
    if arguments:
        config.set_flag(trt.BuilderFlag.INT8)
        config.int8_calibrator = _calibrator(trt, arguments[0])
    _constrain(trt, network, fixed)
    refused = _accelerate(trt, config, network, set(accelerated["takes"]))
    if refused is None:
        return _fail("the DLA of this TensorRT takes no layer of dla.json: prepare without --dla.")
    if refused:
        print("The DLA of this TensorRT leaves to the GPU:", ", ".join(refused))  # noqa: T201
    timing = _timing(config, settings["timing_cache"])
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        return _fail("TensorRT built no engine, for the reason that it printed above.")
    _write("engine.trt", plan)
    if timing is not None:
        _write(settings["timing_cache"], timing.serialize())
    return 0


def _configure(trt: Any, config: Any, settings: dict[str, Any]) -> None:
    config.clear_flag(trt.BuilderFlag.TF32)
    for name in ("FP16", "OBEY_PRECISION_CONSTRAINTS", "GPU_FALLBACK"):
        config.set_flag(getattr(trt.BuilderFlag, name))
    if settings["version_compatible"]:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings["workspace_mib"] << 20)
    config.default_device_type = trt.DeviceType.GPU
    config.DLA_core = settings["dla"]


def _constrain(trt: Any, network: Any, fixed: dict[str, dict[str, str]]) -> None:
    """Give each layer its precision and the types of its outputs."""
    types = {"fp32": trt.float32, "fp16": trt.float16, "int8": trt.int8, "int32": trt.int32}
    for layer in _layers(network):
        wanted = fixed.get(layer.name, {})
        if "precision" in wanted:
            layer.precision = types[wanted["precision"]]
        outputs = wanted["output"].split("+") if "output" in wanted else []
        for index, kind in enumerate(outputs):
            layer.set_output_type(index, types[kind])


def _accelerate(trt: Any, config: Any, network: Any, names: set[str]) -> list[str] | None:
    """Put layers onto the DLA; return those that it does not take, None if there is no layer."""
    chosen = [layer for layer in _layers(network) if layer.name in names]
    refused = []
    for layer in chosen:
        if config.can_run_on_DLA(layer):
            config.set_device_type(layer, trt.DeviceType.DLA)
        else:
            refused.append(layer.name)
    return refused if len(refused) < len(chosen) else None


def _calibrator(trt: Any, name: str) -> Any:
    class Calibrator(trt.IInt8EntropyCalibrator2):  # type: ignore[name-defined]
        """Knows all scales, and has no pictures."""

        def __init__(self) -> None:
            trt.IInt8EntropyCalibrator2.__init__(self)

        def get_batch_size(self) -> int:
            return 1

        def get_batch(self, names: Any) -> None:
            return None

        def read_calibration_cache(self) -> bytes:
            with open(name, "rb") as file:
                return file.read()

        def write_calibration_cache(self, cache: Any) -> None:
            pass

    return Calibrator()


def _timing(config: Any, name: str) -> Any:
    if not name:
        return None
    known = b""
    if os.path.exists(name):
        with open(name, "rb") as file:
            known = file.read()
    cache = config.create_timing_cache(known)
    config.set_timing_cache(cache, False)
    return cache


def _layers(network: Any) -> list[Any]:
    return [network.get_layer(index) for index in range(network.num_layers)]


def _read(name: str) -> Any:
    with open(name, encoding="utf-8") as file:
        return json.load(file)


def _write(name: str, content: Any) -> None:
    with open(name + ".part", "wb") as file:
        file.write(content)
    os.replace(name + ".part", name)


def _fail(sentence: str) -> int:
    sys.stderr.write(sentence + "\n")
    return 1


if __name__ == "__main__":
    import tensorrt

    sys.exit(main(tensorrt, sys.argv[1:]))
