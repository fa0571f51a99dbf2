"""SoftNMS for TensorRT without plugins: the function's operators are all that it takes."""

from .function import make_function

__all__ = ["make_function"]
