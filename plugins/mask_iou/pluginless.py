"""MaskIoU without plugins: the ONNX function holds nothing that TensorRT-RTX does not build."""

from .function import make_function

__all__ = ["make_function"]
