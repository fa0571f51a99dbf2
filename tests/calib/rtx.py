"""Build a graph with TensorRT-RTX, which needs no GPU for it."""

import onnx


def build(model: onnx.ModelProto) -> list[str]:
    """Return the errors of parsing and building `model`; none if there is an engine."""
    import tensorrt_rtx as trt

    errors: list[str] = []

    class Log(trt.ILogger):
        def log(self, severity: trt.ILogger.Severity, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                errors.append(message)

    log = Log()
    trt.ILogger.__init__(log)
    builder = trt.Builder(log)
    network = builder.create_network(1)  # strongly typed
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model.SerializeToString()):
        return [parser.get_error(index).desc() for index in range(parser.num_errors)]
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    engine = builder.build_serialized_network(network, config)
    return [] if engine is not None else [*errors, "no engine"]
